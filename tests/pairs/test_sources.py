"""Where rows come from: tables, folders, and data sets of the real `datasets` library."""

import io
import json
import tarfile

import numpy as np
import pandas
import pytest
import torch
from PIL import Image, ImageFile
from typer.testing import CliRunner

from mmg_diffusers.commands.app import app
from mmg_diffusers.pairs.sources import Source, Undecoded, rows_of_dataset
from mmg_diffusers.worlds.shapes import Shapes

datasets = pytest.importorskip("datasets")

COUNT = 5


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Data sets that are loaded are prepared in a folder; not the user's."""
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def sample():
    return Shapes("soft").sample(COUNT, seed=8)


def pictures_of(sample):
    return [Image.fromarray((image * 255).round().astype("uint8")) for image in sample.images]


@pytest.fixture(scope="module")
def folder(sample, tmp_path_factory):
    """A folder of pictures as `imagefolder` wants it: a metadata table beside them."""
    folder = tmp_path_factory.mktemp("pictures")
    for k, image in enumerate(pictures_of(sample)):
        image.save(folder / f"{k}.png")
    rows = pandas.DataFrame({"file_name": [f"{k}.png" for k in range(COUNT)], "text": sample.prompts})
    rows.to_csv(folder / "metadata.csv", index=False)
    rows.to_json(folder / "pairs.jsonl", orient="records", lines=True)
    rows.to_parquet(folder / "pairs.parquet")
    return folder


@pytest.fixture(scope="module")
def shard(sample, tmp_path_factory):
    """A webdataset shard: for each pair a picture and a text of one name."""
    path = tmp_path_factory.mktemp("shards") / "pairs-0000.tar"
    with tarfile.open(path, "w") as tar:
        for k, (image, text) in enumerate(zip(pictures_of(sample), sample.prompts, strict=True)):
            png = io.BytesIO()
            image.save(png, "png")
            for ending, body in (("png", png.getvalue()), ("txt", text.encode())):
                entry = tarfile.TarInfo(f"{k:04d}.{ending}")
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
    return path


@pytest.fixture(scope="module")
def expected(pipe, sample):
    return pipe(pictures_of(sample), sample.prompts, levels=2).nats


def in_memory(sample):
    rows = {"image": pictures_of(sample), "caption": sample.prompts}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


SOURCES = {
    "map-style": lambda sample, folder, shard: in_memory(sample),
    "streaming": lambda sample, folder, shard: in_memory(sample).to_iterable_dataset(),
    "formatted": lambda sample, folder, shard: in_memory(sample).with_format("numpy"),
    "transformed": lambda sample, folder, shard: in_memory(sample).with_transform(
        lambda rows: {"image": [image.convert("RGB") for image in rows["image"]], "text": rows["caption"]}
    ),
    "imagefolder": lambda sample, folder, shard: datasets.load_dataset("imagefolder", data_dir=folder, split="train"),
    "imagefolder, streaming": lambda sample, folder, shard: datasets.load_dataset(
        "imagefolder", data_dir=folder, split="train", streaming=True
    ),
    "a folder with metadata": lambda sample, folder, shard: folder,
    "jsonl": lambda sample, folder, shard: folder / "pairs.jsonl",
    "parquet": lambda sample, folder, shard: folder / "pairs.parquet",
    "a table of datasets": lambda sample, folder, shard: datasets.load_dataset(
        "csv", data_files=str(folder / "metadata.csv"), split="train"
    ).map(lambda row: {"file_name": str(folder / row["file_name"])}),
    "webdataset": lambda sample, folder, shard: datasets.load_dataset(
        "webdataset", data_files=str(shard), split="train", streaming=True
    ),
    "webdataset, prepared": lambda sample, folder, shard: datasets.load_dataset(
        "webdataset", data_files=str(shard), split="train"
    ),
    "a shard": lambda sample, folder, shard: shard,
    "mappings": lambda sample, folder, shard: [
        {"image": image, "prompt": text} for image, text in zip(pictures_of(sample), sample.prompts, strict=True)
    ],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_is_measured_alike(pipe, sample, folder, shard, expected, tmp_path, kind):
    source = SOURCES[kind](sample, folder, shard)
    outcome = pipe.run(source, tmp_path / "run", levels=2, progress=False)
    assert not outcome.failures
    assert torch.equal(outcome.estimate.nats, expected)
    rows = pandas.read_parquet(tmp_path / "run" / "pairs.parquet")
    assert rows["pair"].tolist() == list(range(COUNT))
    assert rows["prompt"].tolist() == sample.prompts
    assert rows["nats"].tolist() == expected.tolist()
    # Once more: nothing is measured, and the pairs are found to be the same.
    again = pipe.run(SOURCES[kind](sample, folder, shard), tmp_path / "run", levels=2, progress=False)
    assert torch.equal(again.estimate.nats, expected)


def test_results_are_a_data_set(pipe, folder, expected, tmp_path):
    found = pipe.run(folder, tmp_path / "run", levels=2, progress=False).to_dataset()
    assert isinstance(found, datasets.Dataset)
    assert found["nats"][:] == expected.tolist()
    assert [name.rsplit("/", 1)[-1] for name in found["image"]] == [f"{k}.png" for k in range(COUNT)]


def test_no_picture_is_decoded_twice_in_a_run(pipe, sample, folder, tmp_path, monkeypatch):
    """Nor in a run that only looks at what is there."""
    decoded = []
    load = ImageFile.ImageFile.load

    def counted(image):
        decoded.extend([image] if image.tile else [])
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    for source in (in_memory(sample), in_memory(sample).to_iterable_dataset(), folder):
        decoded.clear()
        for _ in range(2):
            pipe.run(source, tmp_path / f"run-{type(source).__name__}", levels=2, progress=False)
            assert len(decoded) == COUNT


def test_a_broken_picture_of_a_data_set_is_a_bad_pair(pipe, sample, tmp_path):
    rows = [{"bytes": b"no picture", "path": "bad.png"}, {"bytes": None, "path": "nowhere.png"}, None]
    good = in_memory(sample)
    bad = datasets.Dataset.from_dict({"image": rows, "caption": ["a circle"] * 3}, features=good.features)
    outcome = pipe.run(datasets.concatenate_datasets([bad, good]), tmp_path / "run", levels=2, progress=False)
    assert [failure.place for failure in outcome.failures] == [0, 1, 2]
    for failure, says in zip(outcome.failures, ("cannot identify image", "No such file", "NoneType"), strict=True):
        assert says in failure.reason
    table = outcome.to_pandas()
    assert table["nats"].isna().tolist() == [True] * 3 + [False] * COUNT
    assert table["image"][0] == "bad.png"


def test_columns_are_found_by_name():
    rows = rows_of_dataset([{"jpg": "a", "txt": "b"}, {"image": None, "path": "c", "text": "d", "given": "e"}])
    assert [(row.place, row.image, row.prompt, row.given) for row in rows] == [(0, "a", "b", None), (1, "c", "d", "e")]
    assert next(iter(rows_of_dataset([{"jpg": "a"}], "all"))).prompt == "all"
    with pytest.raises(ValueError, match=r"row 1 has the columns \['caption'\].*rename_column"):
        list(rows_of_dataset([{"image": "a", "caption": "b"}, {"caption": "b"}]))


def test_pictures_wait_until_they_are_wanted(sample):
    row = next(iter(rows_of_dataset(in_memory(sample))))
    assert isinstance(row.image, Undecoded)
    assert np.array_equal(np.asarray(row.picture()), np.asarray(pictures_of(sample)[0]))
    assert Source(in_memory(sample)).count() == COUNT
    assert Source(in_memory(sample).to_iterable_dataset()).count() is None


def test_labels_tell_pictures_apart(sample):
    first, second = pictures_of(sample)[:2]
    row = next(iter(rows_of_dataset([{"image": first, "text": "a"}])))
    same = [first, np.asarray(first), torch.from_numpy(np.asarray(first).copy())]
    digests = [row._replace(image=image).label().digest for image in (*same[:2], second)]
    assert digests[0] == digests[1] != digests[2]
    assert row._replace(image="x/one.png").label().matches(row._replace(image="y/one.png").label())
    assert not row._replace(image="one.png").label().matches(row._replace(image="two.png").label())


def test_the_command_takes_a_shard(shard, expected, tmp_path):
    command = ["run", "shapes", shard, "--output", tmp_path / "run", "--levels", "2", "--quiet"]
    said = CliRunner().invoke(app, [str(a) for a in command])
    assert said.exit_code == 0, said.output
    assert pandas.read_parquet(tmp_path / "run" / "pairs.parquet")["nats"].tolist() == expected.tolist()
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["source"] == str(shard)
    command[2] = tmp_path / "missing.tar"
    said = CliRunner().invoke(app, [str(a) for a in command])
    assert said.exit_code == 2
    assert "there is no" in said.output
