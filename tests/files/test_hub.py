"""What the hub says of a data set, asked once."""

import huggingface_hub
import pytest
from huggingface_hub import errors

from mmg_diffusers.files import hub


def test_data_sets_of_the_hub(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def answer(error):
        def metadata(url, timeout):
            asked.append((url, timeout))
            if error is not None:
                raise error

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)

    def of(kind):
        return kind.__new__(kind)

    for error, says in (
        (of(errors.RepositoryNotFoundError), "no data set of that name on the hub"),
        (of(errors.GatedRepoError), "is gated on the hub"),
    ):
        answer(error)
        with pytest.raises(ValueError, match=says):
            hub.check_data_set("owner/name")
    answer(OSError("no route"))
    with pytest.raises(ConnectionError, match="the hub does not answer"):
        hub.check_data_set("owner/name")
    for fine in (None, of(errors.EntryNotFoundError)):  # of a data set without a card
        answer(fine)
        hub.check_data_set("owner/name")
    assert {timeout for _, timeout in asked} == {hub.PATIENCE}
    assert "datasets/owner/name" in asked[0][0]
    with pytest.raises(FileNotFoundError, match="is no id of a data set on the hub"):
        hub.check_data_set("no thing")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        hub.check_data_set("owner/name")
    for kept in ("datasets/owner___name", "hub/datasets--owner--name"):  # needs no hub
        (tmp_path / kept).mkdir(parents=True)
        hub.check_data_set("owner/name")
        (tmp_path / kept).rmdir()
