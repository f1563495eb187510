"""The command line: status 2 and a message, never a traceback."""

from tests.bad_inputs.room import CommandFailed, Room, rows


def estimate(r: Room, *options, model="shapes", source=None):
    source = r.picture() if source is None else source
    return r.command("estimate", model, source, "--prompt", "a", "--quiet", "--output", r.folder / "out", *options)


def given_twice(r: Room):
    return r.command("estimate", "shapes", r.table("image,prompt,given\n0.png,a,b\n"), "--given", "c")


def from_table(r: Room, content):
    return r.command("estimate", "shapes", r.table(content), "--output", r.folder / "out", "--quiet")


def study(r: Room, name, *options, output=None):
    return r.command(name, *options, "--output", r.folder / "out" if output is None else output)


ROWS = (
    *rows(
        "mmg-diffusers estimate",
        ("no source", lambda r: r.command("estimate", "shapes"), CommandFailed, "Missing argument"),
        ("no such source", lambda r: estimate(r, source=r.folder / "x"), CommandFailed, "there is no"),
        ("an empty folder", lambda r: r.command("estimate", "shapes", r.folder), CommandFailed, "holds no image"),
        ("no prompt", lambda r: r.command("estimate", "shapes", r.picture()), CommandFailed, "names no prompts"),
        ("no model", lambda r: estimate(r, model=r.folder), CommandFailed, "model_index.json"),
        ("text in a .png", lambda r: estimate(r, source=r.file("a.png", "text")), CommandFailed, "cannot be read"),
        ("a misspelt option", lambda r: estimate(r, "--promt", "a"), CommandFailed, "--promt"),
        ("--levels 1", lambda r: estimate(r, "--levels", 1), CommandFailed, "--levels"),
        ("--levels x", lambda r: estimate(r, "--levels", "x"), CommandFailed, "--levels"),
        ("--dtype float8", lambda r: estimate(r, "--dtype", "float8"), CommandFailed, "float8"),
        ("--device gpu", lambda r: estimate(r, "--device", "gpu"), CommandFailed, "cannot use the device 'gpu'"),
        ("--batch-size 0", lambda r: estimate(r, "--batch-size", 0), CommandFailed, "--batch-size is 0"),
        ("--seed of 70 bits", lambda r: estimate(r, "--seed", 2**70), CommandFailed, "what 64 bits hold"),
        ("--entropy below 0", lambda r: estimate(r, "--entropy", -1), CommandFailed, "entropy is -1"),
        ("--entropy inf", lambda r: estimate(r, "--entropy", "inf"), CommandFailed, "entropy is inf"),
        ("--entropy a word", lambda r: estimate(r, "--entropy", "ln10"), CommandFailed, "--entropy"),
        (
            "--entropy beside candidates",
            lambda r: estimate(r, "--entropy", 1, "--marginal", "shapes"),
            CommandFailed,
            "know it by their prior",
        ),
        ("--plan 0", lambda r: estimate(r, "--plan", 0), CommandFailed, "--plan is 0; expected a standard error"),
        ("--plan nan", lambda r: estimate(r, "--plan", "nan"), CommandFailed, "--plan is nan"),
        ("--plan small", lambda r: estimate(r, "--plan", "small"), CommandFailed, "--plan"),
        ("--plan of one pair", lambda r: estimate(r, "--plan", 0.1), CommandFailed, "1 pair.s. to look at"),
        (
            "the model and the source swapped",
            lambda r: r.command("estimate", r.picture(), "shapes"),
            CommandFailed,
            "comes first",
        ),
        ("a misspelt model", lambda r: estimate(r, model="shape-plain"), CommandFailed, "did you mean shapes-plain"),
        ("--high 50", lambda r: estimate(r, "--high", 50), CommandFailed, "--high is 50; expected a log-SNR above"),
        ("--captions some", lambda r: estimate(r, "--captions", "some"), CommandFailed, "--captions is 'some'"),
        (
            "--output with results",
            lambda r: estimate(r, "--output", r.file("pairs.csv").parent),
            CommandFailed,
            "holds pairs.csv already",
        ),
        ("--output a file", lambda r: estimate(r, "--output", r.file("f")), CommandFailed, "cannot write to"),
        ("--marginal of no kind", lambda r: estimate(r, "--marginal", "nul"), CommandFailed, "which is no file"),
        ("--given and a column", given_twice, CommandFailed, "leave one of them out"),
        (
            "a table that leaves its folder",
            lambda r: from_table(r, "path,text\n../a.png,a\n"),
            CommandFailed,
            "inside that",
        ),
        (
            "an absolute path",
            lambda r: from_table(r, "path,text\n/etc/passwd,a\n"),
            CommandFailed,
            "inside that folder",
        ),
        ("no image column", lambda r: from_table(r, "file,text\n0.png,a\n"), CommandFailed, "image, file_name, path"),
        ("no prompt column", lambda r: from_table(r, "path,words\n0.png,a\n"), CommandFailed, "prompt, text, caption"),
        ("no rows", lambda r: from_table(r, "path,text\n"), CommandFailed, "has no rows"),
        ("an image that is not there", lambda r: from_table(r, "path,text\nx.png,a\n"), CommandFailed, "no such file"),
    ),
    *rows(
        "mmg-diffusers collect, demo, inspect, report, run",
        ("collect, no run", lambda r: r.command("collect", r.folder), CommandFailed, "is no folder of a run"),
        (
            "collect into a spreadsheet",
            lambda r: r.command("collect", r.folder, "--table", r.folder / "a.xlsx"),
            CommandFailed,
            "expected .csv or .parquet",
        ),
        ("no such command", lambda r: r.command("measure"), CommandFailed, "measure"),
        ("demo --pairs 1", lambda r: r.command("demo", "--pairs", 1), CommandFailed, "--pairs"),
        ("demo into a file", lambda r: r.command("demo", "--output", r.file("f")), CommandFailed, "cannot write to"),
        (
            "inspect --check, images that are not there",
            lambda r: r.command("inspect", "shapes", "--check", "--images", r.folder / "x"),
            CommandFailed,
            "there is no",
        ),
        (
            "inspect --check, a folder without images",
            lambda r: r.command("inspect", "shapes", "--check", "--images", r.folder),
            CommandFailed,
            "holds no image",
        ),
        ("inspect, no such folder", lambda r: r.command("inspect", r.folder / "x"), CommandFailed, "there is no model"),
        (
            "report into a folder",
            lambda r: r.command("report", "shapes", r.picture(), "--prompt", "a", "--output", r.folder),
            CommandFailed,
            "expected the file to write",
        ),
        (
            "report as a PDF",
            lambda r: r.command("report", "shapes", r.picture(), "--prompt", "a", "--output", r.folder / "a.pdf"),
            CommandFailed,
            "the report is a page of HTML",
        ),
        (
            "run --part 17/16",
            lambda r: study(r, "run", "shapes", r.picture(), "--prompt", "a", "--part", "17/16"),
            CommandFailed,
            "such as 3/16",
        ),
        (
            "run into a file",
            lambda r: r.command("run", "shapes", r.picture(), "--prompt", "a", "--output", r.file("f"), "--quiet"),
            CommandFailed,
            "cannot write to",
        ),
    ),
    *rows(
        "mmg-diffusers arrays, train",
        ("arrays, no such file", lambda r: study(r, "arrays", r.folder / "x.npz"), CommandFailed, "there is no"),
        (
            "arrays, workers of 0",
            lambda r: study(r, "arrays", "x.npy", "y.npy", "--workers", 0),
            CommandFailed,
            "workers",
        ),
        ("arrays, y in a table", lambda r: study(r, "arrays", "x.npy", "y.csv"), CommandFailed, "are .npy each"),
        (
            "arrays, names beside two files",
            lambda r: study(r, "arrays", "x.npy", "y.npy", "--x", "a"),
            CommandFailed,
            "leave them out",
        ),
        (
            "arrays, no such column",
            lambda r: study(r, "arrays", r.table("a,b\n1,2\n"), "--x", "a", "--y", "c"),
            CommandFailed,
            "expected 'c' among them",
        ),
        ("train, no such file", lambda r: study(r, "train", r.folder / "x.csv"), CommandFailed, "there is no"),
        ("train --steps 0", lambda r: study(r, "train", "x.npz", "--steps", 0), CommandFailed, "--steps"),
    ),
    *rows(
        "mmg-diffusers benchmark, influence, maps, switch, words",
        (
            "benchmark, no such task",
            lambda r: r.command("benchmark", "bmi", "--task", "x", "--output", r.folder / "out"),
            CommandFailed,
            "no task",
        ),
        ("influence --at 2", lambda r: study(r, "influence", "--at", 2), CommandFailed, "tau is 2"),
        ("influence --read D(1)", lambda r: study(r, "influence", "--read", "D(1)"), CommandFailed, "no reading"),
        (
            "influence into a file",
            lambda r: study(r, "influence", output=r.file("f")),
            CommandFailed,
            "cannot write to",
        ),
        ("maps --band 3:1", lambda r: study(r, "maps", "--band", "3:1"), CommandFailed, "the band is"),
        ("maps --steps 1", lambda r: study(r, "maps", "--steps", 1), CommandFailed, "--steps"),
        ("maps, no such word", lambda r: study(r, "maps", "--word", "@9"), CommandFailed, "no word @9"),
        ("switch --tau 2", lambda r: study(r, "switch", "--tau", 2), CommandFailed, "tau is 2"),
        ("switch --marginal null", lambda r: study(r, "switch", "--marginal", "null"), CommandFailed, "as candidates"),
        (
            "words, no such word",
            lambda r: study(r, "words", "--prompt", "a", "--word", "b"),
            CommandFailed,
            "no prompt has",
        ),
        (
            "a marginal of 9,000 letters",
            lambda r: study(r, "words", "--marginal", "negatives:" + "x" * 9000),
            CommandFailed,
            "(9012 letters)",
        ),
    ),
)
