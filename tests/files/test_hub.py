"""What the hub says of a data set, asked once."""

import shutil
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, errors
from PIL import Image

from mmg_diffusers.arrays.image_data import read_images
from mmg_diffusers.files import hub
from tests.hub import answering


def test_data_sets_of_the_hub(tmp_path, monkeypatch):
    answer, asked = answering(monkeypatch)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    for error, says in (
        (errors.RepositoryNotFoundError, "no data set of that name on the hub"),
        (errors.GatedRepoError, "is gated on the hub"),
    ):
        answer(error)
        with pytest.raises(ValueError, match=says):
            hub.check_data_set("owner/name")
    answer(OSError("no route"))
    with pytest.raises(ConnectionError, match="the hub does not answer"):
        hub.check_data_set("owner/name")
    for fine in (None, errors.EntryNotFoundError):  # of a data set without a card
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


def test_what_is_kept_is_read_without_a_hub_that_does_not_answer(tmp_path, monkeypatch):
    pictures = [Image.fromarray(np.full((4, 4, 3), 60 * k, np.uint8)) for k in range(3)]
    rows = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 0]}).cast_column("image", datasets.Image())
    kept = tmp_path / "datasets" / "owner___name" / "default" / "0.0.0" / "0123"
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    made = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "made"))
    for file in made["train"].cache_files:  # as `datasets` lays out what it loaded from the hub
        source = Path(file["filename"])
        shutil.copytree(source.parent, kept)
        (kept / source.name).rename(kept / source.name.replace("parquet-", "name-"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    asked = []

    def away(url, timeout):
        asked.append(timeout)
        raise OSError("no route")

    def again(*of, **named):
        pytest.fail("the hub was asked again")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", away)
    monkeypatch.setattr("time.sleep", again)  # between one try and the next
    read = read_images("owner/name")
    assert read.images.shape == (3, 4, 4, 3)
    assert read.labels.tolist() == [0, 1, 0]
    assert asked == [hub.PATIENCE]
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE
