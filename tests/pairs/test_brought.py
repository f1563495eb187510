"""What people bring, as they keep it: captions beside pictures, several of them, classes, tables of any kind, many shards."""

import csv
import io
import json
import tarfile

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from mmg_diffusers.pairs import Captions, PictureFile, Source, load_image, read_pairs, sources
from mmg_diffusers.pairs.shards import Shards
from mmg_diffusers.pairs.tables import read_rows

COLOURS = ("red", "lime", "blue", "white")
# One that pandas would turn into a number, one with the separators in it, one of another script.
TEXTS = ("12", "a; b, c", "ein Bär", 'a "d"')


def picture(colour, kind="png"):
    body = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(body, kind)
    return body.getvalue()


def folder_of(path, ending=".png"):
    path.mkdir(exist_ok=True)
    for k, colour in enumerate(COLOURS):
        (path / f"{k}{ending}").write_bytes(picture(colour))
    return path


def shard(path, rows):
    with tarfile.open(path, "w") as tar:
        for name, body in rows:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return path


def held(source, **options):
    """(prompt, first pixel of the picture) of each pair that can be measured."""
    return [(row.prompt, tuple(load_image(row.picture())[:, 0, 0].tolist())) for row in Source(source, **options)]


def first_pixels():
    return [tuple((np.asarray(Image.new("RGB", (1, 1), colour))[0, 0] / 255).tolist()) for colour in COLOURS]


EXPECTED = list(zip(TEXTS, first_pixels(), strict=True))


# ---- captions beside pictures ----


@pytest.mark.parametrize("ending", [".png", ".PNG", ".Jpeg"])
def test_captions_in_text_files_beside_the_pictures(tmp_path, ending):
    folder_of(tmp_path / "a", ending)
    for k, text in enumerate(TEXTS):
        (tmp_path / "a" / f"{k}.txt").write_text(f"\ufeff{text}\n", "utf-8")
    (tmp_path / "a" / "readme.txt").write_text("of the folder")
    assert held(tmp_path / "a") == EXPECTED
    pairs = read_pairs(tmp_path / "a")
    assert "captions are those of the text files" in pairs.notes[-1]
    assert "1 are left out, no pictures by their ending (such as readme.txt)" in pairs.notes[0]
    # A prompt for all takes their place.
    assert {row.prompt for row in Source(tmp_path / "a", "one for all")} == {"one for all"}


def test_a_picture_without_its_text_is_one_bad_pair(tmp_path):
    folder_of(tmp_path / "a")
    for k, text in enumerate((*TEXTS[:2], " \n")):
        (tmp_path / "a" / f"{k}.txt").write_text(text)
    (tmp_path / "a" / "2.txt").write_text(" \n")
    faults = read_rows(tmp_path / "a").faults
    assert sorted(faults) == [2, 3]
    assert "2.txt is empty" in faults[2]
    assert faults[3] == "there is no 3.txt beside 3.png; write its caption there"
    assert len(Source(tmp_path / "a").prompts()) == 2
    with pytest.raises(ValueError, match=r"2.txt is empty"):
        read_pairs(tmp_path / "a")


def test_captions_do_not_come_from_out_of_the_folder(tmp_path):
    folder_of(tmp_path / "a")
    (tmp_path / "secret.txt").write_text("what nobody should read")
    for k in range(4):
        (tmp_path / "a" / f"{k}.txt").symlink_to(tmp_path / "secret.txt")
    table = read_rows(tmp_path / "a")
    assert all("not a file inside that folder" in fault for fault in table.faults.values())
    assert len(table.faults) == 4
    assert set(table.prompts) == {""}


# ---- tables ----

TABLES = {
    "a.csv": lambda rows, path: rows.to_csv(path, index=False),
    "a.CSV": lambda rows, path: rows.to_csv(path, index=False),
    "semicolons.csv": lambda rows, path: rows.to_csv(path, index=False, sep=";"),
    "tabs.csv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    "a.tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    "bars.csv": lambda rows, path: rows.to_csv(path, index=False, sep="|"),
    "capitals.csv": lambda rows, path: rows.rename(columns=str.title).to_csv(path, index=False),
    "capitals.jsonl": lambda rows, path: rows.rename(columns=str.upper).to_json(path, orient="records", lines=True),
    "spaces.csv": lambda rows, path: path.write_text(
        rows.to_csv(index=False, quoting=csv.QUOTE_ALL).replace('","', '", "')
    ),
    "a.json": lambda rows, path: rows.to_json(path, orient="records", indent=2),
    "a.jsonl": lambda rows, path: rows.to_json(path, orient="records", lines=True),
    "a.parquet": lambda rows, path: rows.to_parquet(path),
    "metadata.tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_any_kind(tmp_path, name):
    folder_of(tmp_path)
    rows = pandas.DataFrame({"note, mine": "x", "path": [f"{k}.png" for k in range(4)], "caption": TEXTS})
    TABLES[name](rows, tmp_path / name)
    assert held(tmp_path if name.startswith("metadata") else tmp_path / name) == EXPECTED


def test_rows_of_mappings_by_names_in_capitals():
    rows = [
        {"__key__": str(k), "PNG": picture(colour), "Txt": text}
        for k, (colour, text) in enumerate(zip(COLOURS, TEXTS, strict=True))
    ]
    assert held(rows) == EXPECTED
    data = datasets.Dataset.from_list([{"Image": row["PNG"], "Caption": row["Txt"]} for row in rows])
    assert held(data) == EXPECTED
    assert held(data.cast_column("Image", datasets.Image())) == EXPECTED
    assert list(Source(data).prompts().prompts) == list(TEXTS)


def test_a_column_by_its_own_name_comes_first(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "a.csv").write_text("image,Prompt,prompt\n0.png,no,yes\n")
    assert read_pairs(tmp_path / "a.csv").prompts == ["yes"]
    (tmp_path / "b.csv").write_text("image,Prompt,PROMPT\n0.png,no,yes\n")  # which of them, nobody can tell
    with pytest.raises(ValueError, match="expected one of prompt"):
        read_pairs(tmp_path / "b.csv")


def test_parquet_that_names_its_pictures_as_datasets_does(tmp_path):
    folder_of(tmp_path)
    cells = [{"bytes": None, "path": f"{k}.png"} for k in range(4)]
    pandas.DataFrame({"image": cells, "text": TEXTS}).to_parquet(tmp_path / "a.parquet")
    assert held(tmp_path / "a.parquet") == EXPECTED
    cells[2]["path"] = "../elsewhere.png"
    pandas.DataFrame({"image": cells, "text": TEXTS}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="not a file inside that folder"):
        read_pairs(tmp_path / "b.parquet")


def test_what_is_kept_otherwise_is_told_how_to_be_read(tmp_path):
    inner = tmp_path / "inner" / "train"
    inner.parent.mkdir()
    folder_of(inner)
    (inner / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a"}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl may: give the folder .*train"):
        read_pairs(tmp_path / "inner")
    assert len(read_pairs(tmp_path / "inner", "one for all")) == 4
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"datasets\.load_from_disk"):
        read_pairs(tmp_path / "saved")
    with pytest.raises(ValueError, match="mmg-diffusers run"):
        read_pairs(shard(tmp_path / "a.tar", [("0.png", picture("red"))]))


def test_the_name_of_a_file_is_no_prompt(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "prompts.txt").write_text("a\nb\n")
    for read in (read_pairs, Source):
        with pytest.raises(ValueError, match=r"prompt is '.*which is a file; expected words"):
            read(tmp_path, str(tmp_path / "prompts.txt"))
    assert read_pairs(tmp_path, "x" * 5000).prompts[0] == "x" * 5000  # too long for the name of a file


@pytest.mark.parametrize("kind", ["structs, as datasets writes them", "bytes"])
def test_parquet_that_holds_its_pictures(tmp_path, kind):
    bodies = [picture(colour) for colour in COLOURS]
    cells = bodies if kind == "bytes" else [{"bytes": body, "path": f"{k}.png"} for k, body in enumerate(bodies)]
    pandas.DataFrame({"image": cells, "text": TEXTS}).to_parquet(tmp_path / "a.parquet")
    assert held(tmp_path / "a.parquet") == EXPECTED
    pairs = read_pairs(tmp_path / "a.parquet")
    assert pairs.names == (["", "", "", ""] if kind == "bytes" else ["0.png", "1.png", "2.png", "3.png"])
    assert all(isinstance(image, PictureFile) for image in pairs.images)
    assert len(repr(pairs)) < 400
    # A cell that holds nothing is one bad pair.
    cells[1] = None
    pandas.DataFrame({"image": cells, "text": TEXTS}).to_parquet(tmp_path / "b.parquet")
    assert list(read_rows(tmp_path / "b.parquet").faults) == [1]


def test_a_table_is_read_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(sources, "read_rows", lambda *given: read.append(given) or read_rows(*given))
    cells = [picture(colour) for colour in COLOURS]
    pandas.DataFrame({"image": cells, "text": TEXTS}).to_parquet(tmp_path / "a.parquet")
    first = Source(tmp_path / "a.parquet")
    assert held(Source(first).named(), captions=Captions()) == held(first) == EXPECTED
    assert len(read) == 1
    assert {row.prompt for row in Source(first, "for all")} == {"for all"}
    assert len(read) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"image": "a.png"}', "it holds one object of .*expected a list of objects"),
        ("[1, 2]", "row 0 is 1; expected an object"),
        ('[{"image": "a", "image": "b"}]', "more than once"),
        ("[]", "has no rows"),
        ("[", "cannot be read as a table"),
    ],
)
def test_json_that_is_no_table(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_pairs(tmp_path / "a.json")


# ---- several captions ----

SEVERAL = [["a", "b"], ["c"], ["d", "e", "f"], ["g", "h"]]


def several(tmp_path, kind):
    folder_of(tmp_path)
    names = [f"{k}.png" for k in range(4)]
    rows = [{"image": name, "captions": texts} for name, texts in zip(names, SEVERAL, strict=True)]
    if kind == "mappings":
        return [{**row, "image": str(tmp_path / row["image"])} for row in rows]
    if kind == "a data set":
        paths = [str(tmp_path / name) for name in names]
        columns = {"image": paths, "captions": SEVERAL}
        return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        return tmp_path / "a.jsonl"
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("kind", ["mappings", "a data set", "jsonl", "parquet"])
def test_several_captions_a_picture(tmp_path, kind):
    source = several(tmp_path, kind)
    first = Source(source)
    assert [row.prompt for row in first] == ["a", "c", "d", "g"] == list(first.prompts().prompts)
    assert first.count() == 4
    assert any("the first is measured" in note for note in first.notes)
    every = Source(source, captions=Captions("all"))
    assert [row.prompt for row in every] == list("abcdefgh") == list(every.prompts().prompts)
    assert [row.place for row in every] == list(range(8)) == list(every.prompts().places)
    assert any("cluster the errors by picture" in note for note in every.notes)
    digests = [row.label().digest for row in every]
    assert len(set(digests)) == 4
    assert digests[0] == digests[1] != digests[2]
    picked = [[row.prompt for row in Source(source, captions=Captions("random", seed))] for seed in range(12)]
    assert all(text in texts for prompts in picked for text, texts in zip(prompts, SEVERAL, strict=True))
    assert {prompts[2] for prompts in picked} == {"d", "e", "f"}
    assert picked[3] == [row.prompt for row in Source(Source(source), captions=Captions("random", 3))]
    assert picked[3] == list(Source(source, captions=Captions("random", 3)).prompts().prompts)


def test_captions_at_random_are_drawn_for_each_picture():
    rows = [{"image": "a.png", "captions": ["a", "b", "c"]}] * 60
    prompts = [row.prompt for row in Source(rows, captions=Captions("random", 5))]
    assert all(8 <= prompts.count(text) <= 36 for text in "abc")  # 20 are expected, with a standard deviation of 3.7


@pytest.mark.parametrize("text", ["last", "random:", "random:-1", "first:1", "all:3", ""])
def test_captions_that_are_none(text):
    with pytest.raises(ValueError, match=r"captions is .*; expected first, all, random or random:SEED"):
        Captions.parse(text)


def test_captions_as_a_command_line_says_them():
    assert Captions.parse("random:7") == Captions("random", 7)
    assert Captions.parse("random") == Captions("random", 0)
    assert Captions.parse("all") == Captions("all")
    with pytest.raises(ValueError, match="expected 'first', 'all' or 'random'"):
        Captions("some")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="expected Captions"):
        Source([], captions="all")  # pyright: ignore[reportArgumentType]


# ---- classes ----


def classes(column="label", **more):
    names = ["a cat", "a dog"]
    rows = {"img": [Image.new("RGB", (8, 8), colour) for colour in COLOURS], column: [1, 0, 1, 1], **more}
    dataset = datasets.Dataset.from_dict(rows).cast_column("img", datasets.Image())
    return dataset.cast_column(column, datasets.ClassLabel(names=names))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["label", "prompt"])
def test_names_of_classes_are_prompts(column, streaming):
    dataset = classes(column).to_iterable_dataset() if streaming else classes(column)
    numbered = Source(dataset)
    assert [row.prompt for row in numbered] == ["1", "0", "1", "1"] == list(numbered.prompts().prompts)
    assert numbered.notes == ()
    source = numbered.named()  # as models of text are told them
    assert [row.prompt for row in source] == ["a dog", "a cat", "a dog", "a dog"] == list(source.prompts().prompts)
    assert source.notes == (f"prompts are the names of the classes in column '{column}', such as 'a cat'",)
    assert isinstance(next(iter(source)).image, PictureFile)


def test_names_of_classes_in_parquet_are_prompts(tmp_path):
    classes("Label").rename_column("img", "image").to_parquet(tmp_path / "a.parquet")
    numbered = Source(tmp_path / "a.parquet")
    assert [row.prompt for row in numbered] == ["1", "0", "1", "1"]
    assert [prompt.name for prompt in read_pairs(tmp_path / "a.parquet").prompts] == [
        "a dog",
        "a cat",
        "a dog",
        "a dog",
    ]
    source = numbered.named()
    assert [row.prompt for row in source] == ["a dog", "a cat", "a dog", "a dog"] == list(source.prompts().prompts)
    assert source.notes[-1] == "prompts are the names of the classes, such as 'a dog'"


def test_prompts_come_before_classes():
    assert [row.prompt for row in Source(classes(text=list(TEXTS))).named()] == list(TEXTS)
    assert Source(classes(text=list(TEXTS))).named().notes == ()


def test_a_picture_without_a_class_is_one_bad_pair():
    dataset = datasets.concatenate_datasets([classes(), classes().map(lambda row: {"label": -1})])
    assert list(Source(dataset).prompts().places) == [0, 1, 2, 3]


def test_an_imagefolder_of_classes(tmp_path):
    for colour, name in (("red", "apple"), ("lime", "pear")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(colour))
    dataset = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train")
    assert [row.prompt for row in Source(dataset).named()] == ["apple", "pear"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_that_is_loaded_without_a_split(tmp_path, streaming):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.png").write_bytes(picture("red"))
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n1.png,{split}\n")
    one = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "test"), streaming=streaming)
    assert [row.prompt for row in Source(one).named()] == ["test"]
    both = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), streaming=streaming)
    with pytest.raises(TypeError, match=r"of the splits 'train', 'test'; choose one, as with data\['train'\]"):
        Source(both)


# ---- shards ----


def sample(key, colour, text, kind="txt", ending="png"):
    body = text.encode() if kind == "txt" else json.dumps({"caption": text}).encode()
    return [(f"{key}.{ending}", picture(colour)), (f"{key}.{kind}", body)]


def all_samples(kind="txt", ending="png"):
    each = zip(COLOURS, TEXTS, strict=True)
    return [sample(f"{k:04d}", colour, text, kind, ending) for k, (colour, text) in enumerate(each)]


@pytest.mark.parametrize("kind", ["txt", "json"])
@pytest.mark.parametrize("ending", ["png", "PNG", "webp"])
def test_a_shard_with_captions_in_text_or_json(tmp_path, kind, ending):
    parts = [part for each in all_samples(kind, ending) for part in each]
    assert held(shard(tmp_path / "a.tar", parts)) == EXPECTED


@pytest.mark.parametrize("named", ["{00..03}", "{0,1,2,3}", "{02..03}{,}", "*", "", "?"])
def test_many_shards(tmp_path, named):
    (tmp_path / "many").mkdir()
    for k, parts in enumerate(all_samples()):
        number = f"{k:02d}" if ".." in named or named in ("*", "") else str(k)
        shard(tmp_path / "many" / f"a-{number}.tar", parts)
    (tmp_path / "many" / "readme.md").write_text("what they hold")
    source = Source(tmp_path / "many" / (f"a-{named}.tar" if named else ""))
    found = held(source)
    assert found == (EXPECTED[2:3] * 2 + EXPECTED[3:] * 2 if named.startswith("{02") else EXPECTED)
    assert source.notes
    assert source.notes[0].startswith("4 shards are read, from a-")
    assert held(source) == found  # again


def test_shards_that_are_not_there(tmp_path):
    shard(tmp_path / "a-0.tar", all_samples()[0])
    with pytest.raises(FileNotFoundError, match=r"there is no .*a-1\.tar'?; expected a webdataset shard"):
        Source(tmp_path / "a-{0..2}.tar")
    with pytest.raises(FileNotFoundError, match=r"there is no .*b-\*\.tar"):
        Source(tmp_path / "b-*.tar")
    with pytest.raises(ValueError, match=r"names 1,000,000,000 shards"):
        Source(tmp_path / "a-{0..999999999}.tar")
    assert Shards.find(tmp_path / "a.csv") is None


def test_a_sample_without_text_is_one_bad_pair(tmp_path):
    good = all_samples()
    parts = [
        *good[0][:1],
        *good[1],
        *good[2][1:],
        *good[3],
        ("0009.png", picture("red")),
        ("0009.txt", b"\xff\xfe\xfa"),
    ]
    source = Source(shard(tmp_path / "a.tar", parts))
    rows = list(source)
    assert [row.prompt for row in rows][:4] == ["", TEXTS[1], "", TEXTS[3]]
    assert "row 0 ('0000') lacks a prompt" in rows[0].image.why
    assert "row 2 ('0002') lacks an image" in rows[2].image.why
    assert source.prompts().places == (1, 3)
    with pytest.raises(TypeError, match="bytes"):
        rows[4].check()


def test_a_shard_that_is_none_or_is_cut(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar at all")
    with pytest.raises(ValueError, match=r"a\.tar cannot be read as a webdataset shard"):
        list(Source(tmp_path / "a.tar"))
    whole = shard(tmp_path / "b.tar", [part for each in all_samples() for part in each]).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:1700])
    with pytest.raises(ValueError, match=r"b\.tar cannot be read as a webdataset shard"):
        list(Source(tmp_path / "b.tar"))


def test_places_name_the_noise_whatever_holds_the_pairs(tmp_path):
    parts = [part for each in all_samples() for part in each]
    rows = list(Source(shard(tmp_path / "a.tar", parts)))
    assert [row.place for row in rows] == [0, 1, 2, 3]
    assert torch.equal(load_image(rows[0].picture()), load_image(Image.new("RGB", (8, 8), "red")))
