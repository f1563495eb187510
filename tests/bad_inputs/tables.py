"""Tables of pairs, and runs over them."""

import json
import os

import numpy as np
import pandas

from mmg_diffusers.commands.inputs import read_marginal
from mmg_diffusers.pairs import Captions, Source
from mmg_diffusers.pairs.tables import read_pairs
from mmg_diffusers.pipelines.caching import EncodingCache
from mmg_diffusers.runs.shards import Outcome, RunFolder
from tests.bad_inputs.room import IMAGE, Room, rows

PAIR = [{"image": IMAGE, "prompt": "a"}]
UTF16 = "image,prompt\n".encode("utf-16-le")


def lines(*found):
    return "".join(json.dumps(row) + "\n" for row in found)


def beside(r: Room):
    for name in ("a.png", "b.png", "a.txt"):
        (r.folder / name).write_bytes(b"a")
    return r.folder


def parquet(r: Room, **columns):
    path = r.folder / "pairs.parquet"
    pandas.DataFrame(columns).to_parquet(path)
    return path


def linked(r: Room):
    """A table beside a link that leads out of its folder."""
    outside = r.file("secret.png", "secret")
    inside = r.file("inside/pairs.csv", "image,prompt\nlink.png,a\n")
    os.symlink(outside, inside.parent / "link.png")
    return inside


def linked_folder(r: Room):
    """A folder of pictures, one of which is a link that leads out of it."""
    inside = r.file("inside/a.png").parent
    os.symlink(r.file("secret.png", "secret"), inside / "link.png")
    return inside


def hidden(r: Room):
    r.file("inside/.a.png")
    return r.file("inside/__MACOSX/b.png").parent.parent


def nested(r: Room):
    """A folder whose table lies in a sub-folder, as the hub keeps splits."""
    r.file("inside/train/0.png")
    return r.file("inside/train/metadata.csv", "file_name,text\n0.png,a\n").parent.parent


def away(r: Room):
    """Two pairs whose folder is not there."""
    return run(r, [{"image": r.folder / "share" / f"{k}.png", "prompt": "a"} for k in range(2)])


def looped(r: Room):
    os.symlink(r.folder / "loop.png", r.folder / "loop.png")
    return r.table("image,prompt\nloop.png,a\n")


def run(r: Room, source=PAIR, output="run", **options):
    return r.pipe.run(source, output and r.folder / output, progress=False, **options)


def damaged(r: Room):
    r.file("run/settings.json", "{")
    return run(r)


def other(r: Room):
    RunFolder(r.folder / "run", {"levels": 3})
    return RunFolder(r.folder / "run", {"levels": 4})


ROWS = (
    *rows(
        "read_pairs(source)",
        ("None", lambda r: read_pairs(None), TypeError, "the source is a NoneType"),
        ("nothing there", lambda r: read_pairs(r.folder / "x"), FileNotFoundError, "there is no .*x; expected"),
        ("an empty folder", lambda r: read_pairs(r.folder), ValueError, "holds no image"),
        (
            "a folder of images without a prompt",
            lambda r: read_pairs(r.picture().parent),
            ValueError,
            "names no prompts",
        ),
        (
            "a damaged shard",
            lambda r: list(Source(r.file("a.tar"))),
            ValueError,
            "a.tar cannot be read as a webdataset shard",
        ),
        (
            "a number with a fraction as the prompt",
            lambda r: read_pairs(r.picture(), 3.5),
            TypeError,
            "prompt is a float",
        ),
        ("a spreadsheet", lambda r: read_pairs(r.table("", ".xlsx")), ValueError, "cannot tell what .*by its ending"),
        (".csv, empty", lambda r: read_pairs(r.table("")), ValueError, "cannot be read as a table"),
        (".csv, names alone", lambda r: read_pairs(r.table("file_name,text\n")), ValueError, "has no rows"),
        (
            ".csv, no image column",
            lambda r: read_pairs(r.table("file,text\n0.png,a\n")),
            ValueError,
            "image, file_name",
        ),
        (".csv, no prompts", lambda r: read_pairs(r.table("path,words\n0.png,a\n")), ValueError, "one of prompt, text"),
        (".csv with carets", lambda r: read_pairs(r.table("image^prompt\n0.png^a\n")), ValueError, r"image\^prompt"),
        (
            ".csv, two prompts by capitals",
            lambda r: read_pairs(r.table("image,Prompt,PROMPT\n0.png,a,b\n")),
            ValueError,
            "expected one of prompt",
        ),
        (
            "the name of a file as the prompt",
            lambda r: read_pairs(r.picture(), str(r.file("prompts.txt", "a"))),
            ValueError,
            "which is a file; expected words",
        ),
        (
            "a folder that datasets saved",
            lambda r: read_pairs(r.file("saved/data.arrow").parent),
            ValueError,
            r"datasets\.load_from_disk",
        ),
        ("a shard", lambda r: read_pairs(r.file("a.tar")), ValueError, "which only a run reads"),
        ("metadata in a sub-folder", lambda r: read_pairs(nested(r)), ValueError, "give the folder .*train"),
        (
            ".json of columns",
            lambda r: read_pairs(r.table('{"image": ["0.png"]}', ".json")),
            ValueError,
            "one object of",
        ),
        (".csv, a cell too many", lambda r: read_pairs(r.table("image,prompt\n0.png,a,b\n")), ValueError, "Expected 2"),
        (
            ".csv, a cell too few",
            lambda r: read_pairs(r.table("image,prompt\n0.png\n")),
            ValueError,
            "row 0 has nothing",
        ),
        (
            ".csv, an empty prompt",
            lambda r: read_pairs(r.table("image,prompt\n0.png, \n")),
            ValueError,
            "row 0 has nothing",
        ),
        (
            ".csv, a column twice",
            lambda r: read_pairs(r.table("image,prompt,image\n0.png,a,1.png\n")),
            ValueError,
            "'image' more than once",
        ),
        (
            ".csv, an open quote",
            lambda r: read_pairs(r.table('image,prompt\n0.png,"a\n')),
            ValueError,
            "cannot be read",
        ),
        (".csv of UTF-16 without a mark", lambda r: read_pairs(r.table(UTF16)), ValueError, "character 1 is a null"),
        (
            ".csv of Latin-1",
            lambda r: read_pairs(r.table("image,caf\xe9\n".encode("latin-1"))),
            ValueError,
            "byte 9, in",
        ),
        (
            ".jsonl of Latin-1",
            lambda r: read_pairs(r.table(b'{"a": "\xe9"}', ".jsonl")),
            ValueError,
            "save it as UTF-8",
        ),
        (
            ".parquet of pictures for prompts",
            lambda r: read_pairs(parquet(r, image=["0.png"], prompt=[{"bytes": b"x" * 10**6, "path": "0.png"}])),
            ValueError,
            "<1,000,000 bytes>.*expected text",
        ),
        (
            "a folder with a link out of it",
            lambda r: read_pairs(linked_folder(r), "a"),
            ValueError,
            "inside that folder",
        ),
        ("a folder of hidden pictures", lambda r: read_pairs(hidden(r), "a"), ValueError, "holds no image"),
        ("an empty prompt", lambda r: read_pairs(r.picture(), ""), ValueError, "prompt is '', which is empty"),
        (".jsonl, cut", lambda r: read_pairs(r.table('{"image": "0.png", \n', ".jsonl")), ValueError, "cannot be read"),
        (".jsonl of lists", lambda r: read_pairs(r.table("[1, 2]\n", ".jsonl")), ValueError, "expected an object"),
        (".jsonl of numbers", lambda r: read_pairs(r.table("3\n", ".jsonl")), ValueError, "expected an object"),
        (
            ".jsonl, a name twice",
            lambda r: read_pairs(r.table('{"image": "0.png", "image": "1.png", "prompt": "a"}', ".jsonl")),
            ValueError,
            "a name more than once",
        ),
        (".jsonl, nested too deep", lambda r: read_pairs(r.table("[" * 100_000, ".jsonl")), ValueError, "recursion"),
        (
            ".jsonl, a number with a fraction for a prompt",
            lambda r: read_pairs(r.table(lines({"image": "0.png", "prompt": 3.5}), ".jsonl")),
            ValueError,
            "row 0 has 3.5 in column 'prompt'; expected text, or the number of a class",
        ),
        (
            ".jsonl, null for a prompt",
            lambda r: read_pairs(r.table(lines({"image": "0.png", "prompt": None}), ".jsonl")),
            ValueError,
            "row 0 has None in column 'prompt'",
        ),
        (
            ".jsonl, a row without a prompt",
            lambda r: read_pairs(r.table(lines({"image": "0.png", "prompt": "a"}, {"image": "0.png"}), ".jsonl")),
            ValueError,
            "row 1 has nan in column 'prompt'",
        ),
        (".parquet, cut", lambda r: read_pairs(r.table("PAR1", ".parquet")), ValueError, "cannot be read as a table"),
        (".parquet, numbers", lambda r: read_pairs(parquet(r, image=[1], prompt=["a"])), ValueError, "row 0 has 1"),
        (
            "a path with ..",
            lambda r: read_pairs(r.table("image,prompt\n../0.png,a\n")),
            ValueError,
            "inside that folder",
        ),
        (
            "an absolute path",
            lambda r: read_pairs(r.table("image,prompt\n/etc/passwd,a\n")),
            ValueError,
            "'/etc/passwd', which is not a file inside that folder",
        ),
        ("a link out of the folder", lambda r: read_pairs(linked(r)), ValueError, "inside that folder"),
        ("a loop of links", lambda r: read_pairs(looped(r)), ValueError, "'loop.png', which is no path"),
        (
            "a null byte in a path",
            lambda r: read_pairs(r.table(lines({"image": "a\0.png", "prompt": "a"}), ".jsonl")),
            ValueError,
            "which is no path",
        ),
    ),
    *rows(
        "pipe.run(source, output)",
        ("None as the source", lambda r: run(r, None), TypeError, "the source is a NoneType"),
        ("a number as the source", lambda r: run(r, 3), TypeError, "the source is a int"),
        ("no such table", lambda r: run(r, r.folder / "x.csv"), FileNotFoundError, "there is no"),
        ("no rows", lambda r: run(r, []), ValueError, "has no rows"),
        ("rows that are numbers", lambda r: run(r, [1, 2]), TypeError, "row 0 is a int; expected a mapping"),
        ("a dict of columns", lambda r: run(r, {"image": [IMAGE], "prompt": ["a"]}), TypeError, "expected rows"),
        ("a generator", lambda r: run(r, (row for row in PAIR)), TypeError, "gone through once.*pass a list"),
        ("rows without images", lambda r: run(r, [{"picture": IMAGE, "prompt": "a"}]), ValueError, "rename_column"),
        ("a shard that is not there", lambda r: run(r, r.folder / "a-{0..2}.tar"), FileNotFoundError, "a-0.tar"),
        ("a pattern of too many shards", lambda r: run(r, "a-{0..9999999}.tar"), ValueError, "names 10,000,000 shards"),
        ("a shard that is no tar", lambda r: run(r, r.file("a.tar", "text")), ValueError, "as a webdataset shard"),
        ("text for captions", lambda r: Source(PAIR, captions="all"), TypeError, "captions is a str"),
        ("captions that are not known", lambda r: Captions.parse("last"), ValueError, "random:SEED"),
        (
            "a picture without its text file",
            lambda r: read_pairs(beside(r)),
            ValueError,
            "there is no b.txt beside b.png",
        ),
        ("None as the output", lambda r: run(r, output=None), TypeError, "output is a NoneType"),
        (
            "a file as the output",
            lambda r: run(r, output=r.file("o")),
            OSError,
            "choose a folder that can be written to",
        ),
        ("levels=0", lambda r: run(r, levels=0), ValueError, "levels is 0"),
        ("limit=0", lambda r: run(r, limit=0), ValueError, "limit is 0; expected at least 1"),
        ("keep='pixels'", lambda r: run(r, keep="pixels"), ValueError, "keep is 'pixels'"),
        ("seed=-1", lambda r: run(r, seed=-1), ValueError, "seed is -1"),
        ("batch_size=0", lambda r: run(r, batch_size=0), ValueError, "batch_size is 0"),
        (
            "a number as the prompt",
            lambda r: run(r, prompt=3),
            TypeError,
            "a prompt is the number 3, and this model is told text",
        ),
        (
            "strict, a bad pair",
            lambda r: run(r, [{"image": IMAGE * np.nan, "prompt": "a"}], strict=True),
            ValueError,
            "image 0 has NaN",
        ),
        (
            "strict, no image in a row",
            lambda r: run(r, [{"image": None, "prompt": "a"}], strict=True),
            TypeError,
            "image 0 is a NoneType",
        ),
        (
            "strict, an empty prompt",
            lambda r: run(r, [{"image": IMAGE, "prompt": " "}], strict=True),
            ValueError,
            "the prompt is ' ', which is empty",
        ),
        (
            "strict, neither bytes nor a path",
            lambda r: run(r, [{"image": {"bytes": None, "path": None}, "prompt": "a"}], strict=True),
            ValueError,
            "row 0 has neither",
        ),
        ("a folder of pictures that is away", away, OSError, "none of the pairs 0 to 1 can be read.*run again when"),
        ("settings that were damaged", damaged, ValueError, "its settings.json is damaged"),
    ),
    *rows(
        "read_marginal(told, prompts)",
        ("a misspelt word", lambda r: read_marginal("nul", ["a", "b"]), FileNotFoundError, "expected null, prompts"),
        ("negatives:x", lambda r: read_marginal("negatives:x", ["a", "b"]), ValueError, "expected negatives, or"),
        (
            "negatives:0",
            lambda r: read_marginal("negatives:0", ["a", "b"]),
            ValueError,
            "the marginal is 'negatives:0'",
        ),
        ("prompts that are all the same", lambda r: read_marginal("prompts", ["a", "a"]), ValueError, "need others"),
        ("a file of one line", lambda r: read_marginal(str(r.file("c.txt", "a\n")), ["a"]), ValueError, "at least two"),
        ("a file of bytes", lambda r: read_marginal(str(r.file("c.txt", b"\xff")), ["a"]), ValueError, "is no text"),
        (
            "a prior of text",
            lambda r: read_marginal(str(r.file("c.csv", "prompt,prior\na,x\nb,y\n")), ["a"]),
            ValueError,
            "could not convert",
        ),
        (
            "a prior of NaN",
            lambda r: read_marginal(str(r.file("c.csv", "prompt,prior\na,nan\nb,1\n")), ["a"]),
            ValueError,
            "is nan",
        ),
    ),
    *rows(
        "RunFolder(folder, settings)",
        ("a number", lambda r: RunFolder(3, {}), TypeError, "the folder of a run is a int"),
        ("below a file", lambda r: RunFolder(r.file("file") / "run", {}), OSError, "can be written to"),
        ("the folder of another run", other, ValueError, r"other settings \(levels: 3 there, 4 now\)"),
    ),
    *rows(
        "Outcome.load(folder), EncodingCache(...)",
        ("load, a number", lambda r: Outcome.load(3), TypeError, "the folder of a run is a int"),
        ("load, an empty folder", lambda r: Outcome.load(r.folder), FileNotFoundError, "is no folder of a run"),
        ("a cache of -1 bytes", lambda r: EncodingCache(-1), ValueError, "max_bytes is -1"),
        ("a cache of half a byte", lambda r: r.pipe.set_encoding_cache(0.5), TypeError, "max_bytes is 0.5"),
        ("a cache below a file", lambda r: EncodingCache(0, r.file("f") / "c"), OSError, "choose a folder"),
        ("a cache in a number", lambda r: EncodingCache(0, 3), TypeError, "the folder of a cache is a int"),
    ),
)
