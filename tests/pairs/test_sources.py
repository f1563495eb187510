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
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pairs.columns import rows_of_dataset
from mmg_diffusers.pairs.images import PictureFile, load_image
from mmg_diffusers.pairs.rows import Row, Unusable
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.pairs.tables import read_pairs, read_rows
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
    "a table of datasets": lambda sample, folder, shard: Source(
        datasets.load_dataset("csv", data_files=str(folder / "metadata.csv"), split="train"), folder=folder
    ),
    "a table of datasets, with whole paths": lambda sample, folder, shard: Source(
        datasets.load_dataset("csv", data_files=str(folder / "metadata.csv"), split="train").map(
            lambda row: {"file_name": str(folder / row["file_name"])}
        ),
        folder=folder,
    ),
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
    for failure, says in zip(
        outcome.failures, ("of no format that PIL knows", "no such file", "NoneType"), strict=True
    ):
        assert says in failure.reason
    table = outcome.to_pandas()
    assert table["nats"].isna().tolist() == [True] * 3 + [False] * COUNT
    assert table["image"][0] == "bad.png"


def test_columns_are_found_by_name():
    rows = rows_of_dataset([{"jpg": "a", "txt": "b"}, {"image": None, "path": "c", "text": "d", "given": "e"}])
    assert [(row.place, row.image, row.prompt, row.given) for row in rows] == [(0, "a", "b", None), (1, "c", "d", "e")]
    assert next(iter(rows_of_dataset([{"jpg": "a"}], "all"))).prompt == "all"
    with pytest.raises(ValueError, match=r"row 0 has the columns \['caption'\].*rename_column"):
        list(rows_of_dataset([{"caption": "b"}, {"caption": "b"}]))
    good, bad = rows_of_dataset([{"image": "a", "caption": "b"}, {"caption": "b"}])
    assert good.prompt == "b"
    assert "row 1 lacks an image" in bad.image.why


def test_pictures_wait_until_they_are_wanted(sample):
    row = next(iter(rows_of_dataset(in_memory(sample))))
    assert isinstance(row.image, PictureFile)
    assert torch.equal(load_image(row.picture()), load_image(pictures_of(sample)[0]))
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


# ---- one picture, however it comes ----

NOISE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)


def phone(path):
    """A picture that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(path, exif=exif)
    return np.rot90(NOISE, -1)


def see_through(path):
    """A picture with colours that nobody sees."""
    cover = (np.arange(16) > 7).astype(np.uint8)[None, :, None].repeat(24, 0) * 255
    Image.fromarray(np.concatenate([NOISE, cover], 2)).save(path)
    return np.where(cover > 0, NOISE, 255)


def indexed(path):
    """A picture of few colours, one of which is none."""
    picture = Image.fromarray(NOISE[..., 0] // 64, "P")
    picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    picture.save(path, transparency=1)
    colours = np.array([[200, 0, 0], [255, 255, 255], [0, 0, 200], [9, 9, 9]], dtype=np.uint8)
    return colours[NOISE[..., 0] // 64]


def shard_of(path, folder):
    with tarfile.open(folder / "a.tar", "w") as tar:
        tar.add(path, "0.png")
        (folder / "0.txt").write_text("a")
        tar.add(folder / "0.txt", "0.txt")
    return folder / "a.tar"


def of_bytes(path, **kind):
    columns = {"image": [{"bytes": path.read_bytes(), "path": "elsewhere.png"}], "text": ["a"]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(**kind))


def of_path(path):
    return datasets.Dataset.from_dict({"image": [str(path)], "text": ["a"]}).cast_column("image", datasets.Image())


def in_parquet(path, folder):
    of_bytes(path).to_parquet(folder / "a.parquet")
    return datasets.load_dataset("parquet", data_files=str(folder / "a.parquet"), split="train")


def table_of(path, folder, name, line):
    (folder / name).write_text(f"file_name,text\n{path.name},a\n" if line is None else line)
    return folder / name


WAYS = {
    "a path": lambda path, folder: Source(path, "a"),
    "a folder": lambda path, folder: Source(path.parent, "a"),
    "a csv": lambda path, folder: Source(table_of(path, path.parent, "a.csv", None)),
    "a jsonl": lambda path, folder: Source(
        table_of(path, path.parent, "a.jsonl", json.dumps({"image": path.name, "prompt": "a"}))
    ),
    "a mapping of text": lambda path, folder: [{"image": str(path), "text": "a"}],
    "a mapping of a path": lambda path, folder: [{"image": path, "text": "a"}],
    "a mapping of PIL": lambda path, folder: [{"image": Image.open(path), "text": "a"}],
    "a mapping of bytes": lambda path, folder: [{"image": path.read_bytes(), "text": "a"}],
    "a mapping of a mapping": lambda path, folder: [{"image": {"bytes": path.read_bytes(), "path": None}, "text": "a"}],
    "a mapping of a mapping of a path": lambda path, folder: [{"image": {"path": str(path)}, "text": "a"}],
    "decoded by datasets": lambda path, folder: [of_bytes(path)[0]],
    "bytes": lambda path, folder: of_bytes(path),
    "bytes, RGB": lambda path, folder: of_bytes(path, mode="RGB"),
    "bytes, left undecoded": lambda path, folder: of_bytes(path, decode=False),
    "a column of paths, cast": lambda path, folder: of_path(path),
    "a column of text": lambda path, folder: Source(
        datasets.Dataset.from_dict({"image": [path.name], "text": ["a"]}), folder=path.parent
    ),
    "streaming": lambda path, folder: of_bytes(path).to_iterable_dataset(),
    "formatted": lambda path, folder: of_bytes(path).with_format("numpy"),
    "formatted for pandas": lambda path, folder: of_bytes(path).with_format("pandas"),
    "formatted, streaming": lambda path, folder: of_bytes(path).to_iterable_dataset().with_format("torch"),
    "parquet of datasets": in_parquet,
    "a shard": lambda path, folder: shard_of(path, folder),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [phone, see_through, indexed])
def test_however_a_picture_comes_it_is_the_same(tmp_path, make, way):
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "pictures" / "a.png"
    expected = load_image(np.ascontiguousarray(make(path)))
    (row,) = Source(WAYS[way](path, tmp_path))
    held = row.held()
    assert torch.equal(load_image(row.picture()), expected)
    assert torch.equal(load_image(held.picture()), expected)
    if not way.endswith(("PIL", "decoded by datasets")):
        assert held.label().digest == Identity.of_file(path).digest


# ---- what is left out, and what is refused ----


def test_folders_are_read_to_their_depth_and_hidden_files_are_not(pipe, tmp_path):
    picture = Image.fromarray(NOISE)
    for name in ("b.png", "a/z.png", "a/b/c.png", "B.png", ".hidden.png", "._b.png", "__MACOSX/b.png", ".git/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name)
    for name in (".DS_Store", "Thumbs.db", "notes.heic", "a/notes.txt"):
        (tmp_path / name).write_bytes(b"no picture")
    table = read_pairs(tmp_path, "a circle")
    assert [str(path.relative_to(tmp_path)) for path in table.images] == ["B.png", "a/b/c.png", "a/z.png", "b.png"]
    assert len(table.notes) == 3
    assert table.notes[0] == f"2 of the 4 pictures in {tmp_path} lie in its sub-folders"
    assert "6 are left out, hidden (such as .DS_Store)" in table.notes[1]
    assert "2 are left out, no pictures by their ending (such as a/notes.txt)" in table.notes[2]
    for name in ("B.png", "a/b/c.png", "a/z.png", "b.png"):
        Image.fromarray(NOISE[:16]).save(tmp_path / name)
    outcome = pipe.run(tmp_path, tmp_path / "run", prompt="a circle", levels=2, progress=False)
    assert outcome.notes[:3] == table.notes
    assert len(outcome.estimate) == 4


def test_a_link_out_of_a_folder_is_refused(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "secret.png")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(NOISE).save(folder / "a.png")
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"names 'b.png', which is not a file inside that folder"):
        read_pairs(folder, "a circle")
    rows = list(Source(folder, "a circle"))
    assert [row.place for row in rows if isinstance(row.image, Unusable)] == [1]
    assert "1 are left out, no pictures by their ending (such as more)" in Source(folder, "a").notes[0]


def test_of_two_tables_one_is_read_and_said(folder):
    assert read_pairs(folder).notes == ()
    rows = pandas.read_csv(folder / "metadata.csv")
    rows.to_parquet(folder / "metadata.parquet")
    try:
        assert read_pairs(folder).notes == ("metadata.csv is read, and not metadata.parquet",)
    finally:
        (folder / "metadata.parquet").unlink()


BLANK = ["", " ", "\n", "\u3000", "\u200b", "\ufeff \u2060"]


@pytest.mark.parametrize("blank", BLANK)
def test_an_empty_caption_is_a_bad_pair_wherever_it_stands(pipe, sample, tmp_path, blank):
    pictures = pictures_of(sample)[:2]
    for k, picture in enumerate(pictures):
        picture.save(tmp_path / f"{k}.png")
    lines = [json.dumps({"image": f"{k}.png", "prompt": text}) for k, text in enumerate(("a circle", blank))]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    rows = {"image": pictures, "caption": ["a circle", blank]}
    sources = {
        "table": tmp_path / "pairs.jsonl",
        "data set": datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()),
        "mappings": [{"image": picture, "prompt": text} for picture, text in zip(*rows.values(), strict=True)],
    }
    for name, source in sources.items():
        outcome = pipe.run(source, tmp_path / name, levels=2, progress=False)
        assert [failure.place for failure in outcome.failures] == [1]
        assert len(outcome.estimate) == 1
        assert Source(source).prompts().prompts == ("a circle",)
    with pytest.raises(ValueError, match="row 1 has nothing in column 'prompt'"):
        read_pairs(tmp_path / "pairs.jsonl")
    for read in (read_pairs, Source):
        with pytest.raises(ValueError, match=r"prompt is .*, which is empty; fill it in"):
            read(tmp_path / "0.png", blank)


def test_paths_in_a_data_set_stay_in_their_folder(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for place in (folder, tmp_path):
        Image.fromarray(NOISE).save(place / "a.png")
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    names = ["a.png", "../a.png", str(tmp_path / "a.png"), "link.png", "", str(folder / "a.png")]
    texts = datasets.Dataset.from_dict({"image": names, "text": ["a"] * 6})
    structs = datasets.Dataset.from_dict({"image": [{"path": name} for name in names], "text": ["a"] * 6})
    texts.to_csv(tmp_path / "table.csv")
    loaded = datasets.load_dataset("csv", data_files=str(tmp_path / "table.csv"), split="train")
    for source in (texts, texts.to_iterable_dataset(), structs, loaded.cast_column("image", datasets.Image())):
        rows = list(Source(source))
        refused = [row.place for row in rows if not isinstance(row.image, PictureFile)]
        assert refused == [1, 2, 3, 4]
        assert torch.equal(load_image(rows[0].picture()), load_image(NOISE))
        with pytest.raises(
            ValueError, match=r"row 2 of the data set in .*inside that folder.*Source\(dataset, folder="
        ):
            rows[2].picture()
    # Another folder than the working one; and what a caller writes is the caller's own word.
    assert [row.place for row in Source(texts, folder=tmp_path) if isinstance(row.image, Unusable)] == [1, 4]
    assert all(not isinstance(row.image, Unusable) for row in rows_of_dataset(list(texts)))
    assert [
        row.place for row in rows_of_dataset(list(texts), folder=folder) if isinstance(row.image, Unusable)
    ] == refused


def test_values_of_any_size_are_shown_short(tmp_path):
    body = b"x" * 566_645
    pandas.DataFrame({"image": ["a.png"], "prompt": [{"bytes": body}]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 0 has .*566,645 bytes.*expected text") as refused:
        read_rows(tmp_path / "a.parquet")
    assert len(str(refused.value)) < 400
    with pytest.raises(ValueError, match="has the columns") as refused:
        list(Source([{f"column {k}" * 9: body for k in range(200)}]))
    assert len(str(refused.value)) < 500
    text = Row(0, Image.fromarray(NOISE), "a \ud800" * 10_000, None)
    with pytest.raises(ValueError, match="no valid text") as refused:
        text.check()
    assert len(str(refused.value)) < 250


# ---- all prompts of a source ----


@pytest.mark.parametrize("kind", SOURCES)
def test_all_prompts_of_a_source_in_one_pass(sample, folder, shard, monkeypatch, kind):
    source = Source(SOURCES[kind](sample, folder, shard))
    if kind != "transformed":
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded a picture"))
    found = source.prompts()
    assert found.prompts == tuple(sample.prompts)
    assert found.ids.tolist() == list(range(COUNT))
    assert found.given == (None,) * COUNT
    assert found.identity() == Source(in_memory(sample)).prompts().identity()
    assert source.prompts(2).prompts == tuple(sample.prompts[:2])
    assert Source(source, "a circle").prompts(3).prompts == ("a circle",) * 3


def test_places_of_pairs_without_a_prompt_are_left_out():
    texts = ["a", None, "", 3.5, "b"]
    rows = [{"image": "a.png", "prompt": text, "given": "g"} for text in texts]
    found = Source(rows).prompts()
    assert (found.places, found.prompts, found.given, len(found)) == ((0, 4), ("a", "b"), ("g", "g"), 2)
    other = Source([*rows[:4], {"image": "a.png", "prompt": "c", "given": "g"}]).prompts()
    moved = Source([rows[0], rows[4]]).prompts()
    assert len({part.identity() for part in (found, other, moved, Source(rows).prompts())}) == 3


def test_paths_in_joined_data_sets_stay_in_their_folder(tmp_path, monkeypatch):
    """A data set that was joined of others no longer says where it comes from."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for place in (folder, tmp_path):
        Image.fromarray(NOISE).save(place / "a.png")
    outside = str(tmp_path / "a.png")
    parts = []
    for k, path in enumerate(("a.png", outside, f"file://{outside}", f"zip://a.png::local://{outside}")):
        table = {"image": [str(path)], "text": [f"text {k}"]}
        datasets.Dataset.from_dict(table).to_parquet(tmp_path / f"{k}.parquet")
        read = datasets.load_dataset("parquet", data_files=str(tmp_path / f"{k}.parquet"), split="train")
        parts.append(read.cast_column("image", datasets.Image()))
    joined = datasets.concatenate_datasets(parts)
    for source in (joined, datasets.interleave_datasets(parts), joined.to_iterable_dataset()):
        rows = list(Source(source))
        assert torch.equal(load_image(rows[0].picture()), load_image(NOISE))
        assert isinstance(rows[1].image, Unusable)
        for row in rows[2:]:
            assert not row.readable()


def test_half_a_surrogate_pair_is_one_bad_row(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    lines = ['{"image": "a.png", "prompt": "a"}', '{"image": "a.png", "prompt": "\\ud83d"}']
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    first, second = Source(tmp_path / "pairs.jsonl")
    first.check()
    with pytest.raises(ValueError, match="no valid text"):
        second.check()
    with pytest.raises(ValueError, match=r"row 1 .*no valid text"):
        read_pairs(tmp_path / "pairs.jsonl")
