"""What prompts are compared with, as it is told on a command line."""

import pandas
import pytest
import torch

from mmg_diffusers import Candidates, Negatives, NullPrompt
from mmg_diffusers.commands.inputs import gather, read_marginal
from mmg_diffusers.worlds.shapes import CAPTIONS

PROMPTS = ["a cat", "a dog", "a cat", "a cow"]


def test_marginals_by_name(tmp_path):
    assert read_marginal("null", PROMPTS) == NullPrompt()
    assert read_marginal("shapes", PROMPTS) == Candidates(CAPTIONS)
    assert read_marginal("negatives", PROMPTS) == Negatives()
    assert read_marginal("negatives:3", PROMPTS) == Negatives(3)
    own = read_marginal("prompts", PROMPTS)
    assert own.prompts == ("a cat", "a dog", "a cow")
    assert own.probability.tolist() == [0.5, 0.25, 0.25]
    lines = tmp_path / "candidates.txt"
    lines.write_text("a cat\n\n  a dog \na café\n")
    assert read_marginal(str(lines), PROMPTS) == Candidates(("a cat", "a dog", "a café"))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_candidates_of_a_table(tmp_path, kind):
    table = pandas.DataFrame({"prompt": ["a cat", "a dog"], "prior": [0.25, 0.75]})
    path = tmp_path / f"candidates.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    found = read_marginal(str(path), PROMPTS)
    assert found.prompts == ("a cat", "a dog")
    torch.testing.assert_close(found.probability, torch.tensor([0.25, 0.75], dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.txt", "a cat\na dog\na cat\n", "'a cat' appears more than once"),
        ("c.txt", "a cat\n", "at least two"),
        ("c.csv", "prompt,prior\na cat,0.5\na dog,0.6\n", r"c.csv: the prior sums to 1\.1"),
        ("c.csv", "prompt,prior\na cat,much\na dog,0.5\n", "c.csv: could not convert"),
        ("c.csv", "words\na cat\n", "expected one of prompt, text, caption"),
        ("negatives:few", None, "expected negatives, or negatives:15"),
        ("negatives:0", None, "the marginal is 'negatives:0'; expected negatives, or negatives:15"),
    ],
)
def test_bad_marginals_are_refused(tmp_path, name, text, says):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_marginal(name if text is None else str(path), PROMPTS)


def test_bad_files_of_candidates(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="expected null, prompts, negatives:COUNT, shapes, fitted:FOLDER, likelihood, likelihood:REFERENCE, or a file",
    ):
        read_marginal("nul", PROMPTS)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="is no text"):
        read_marginal(str(tmp_path / "image.png"), PROMPTS)
    with pytest.raises(ValueError, match="candidates need others"):
        read_marginal("prompts", ["a cat", "a cat"])


def test_pairs_of_the_shapes_world():
    images, prompts = gather("shapes", None, 3, seed=2)
    assert len(images) == len(prompts) == 3
    assert gather("shapes", "a cat", 3, seed=2)[1] == ["a cat"] * 3
