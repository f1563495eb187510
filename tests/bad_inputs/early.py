"""What commands refuse before they load a model: `tests/commands/test_early.py` runs these rows where none can be loaded."""

from pathlib import Path

from PIL import Image

from tests.bad_inputs.room import CommandFailed, Room, rows

RED, BLUE = "a small red circle on the left", "a small blue circle on the left"
# Commands that measure a picture and its prompt.
MEASURING = ("estimate", "report", "run", "audit", "likelihood", "compare", "influence", "maps", "words")


def of_a_picture(r: Room, name: str, *options: object, prompt: str = RED):
    """A command about one picture and its prompt."""
    told = () if name == "compare" else ("--prompt", prompt)
    return r.command(name, "shapes", r.picture(), *told, "--output", output(r, name), *options)


def caption_of(name: str) -> tuple[str, ...]:
    return ("--a", RED, "--b", BLUE) if name == "compare" else ("--marginal", "shapes") if name == "audit" else ()


def output(r: Room, name: str) -> Path:
    return r.folder / ("page.html" if name == "report" else "out")


def of_text(r: Room, name: str):
    """A command about a folder whose picture is text."""
    r.file("text/0.png", "text")
    return r.command(name, "shapes", r.folder / "text", "--prompt", RED, "--output", r.folder / "out")


def switch(r: Room, *options: object):
    return r.command("switch", "shapes", "--output", r.folder / "out", *options)


def fit(r: Room, *options: object):
    """Of eight different pictures, which are enough to fit to."""
    for k in range(8):
        (r.folder / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (30 * k, 0, 0)).save(r.folder / "pictures" / f"{k}.png")
    return r.command("fit", "shapes", r.folder / "pictures", "--prompt", RED, "--output", r.folder / "out", *options)


def likelihood(r: Room, *options: object):
    return of_a_picture(r, "likelihood", "--reference", r.picture(), *options)


ROWS = (
    *rows(
        "mmg-diffusers, before a model is loaded",
        (
            "report --other-model, misspelt",
            lambda r: of_a_picture(r, "report", "--other-model", "shape-plain"),
            CommandFailed,
            "did you mean shapes-plain",
        ),
        (
            "report --b, the prompt itself",
            lambda r: of_a_picture(r, "report", "--b", RED),
            CommandFailed,
            "both captions of image 0",
        ),
        (
            "report --audit with the null prompt",
            lambda r: of_a_picture(r, "report", "--audit"),
            CommandFailed,
            "--audit holds the null branch against a mixture",
        ),
        (
            "compare, the same caption twice",
            lambda r: of_a_picture(r, "compare", "--a", RED, "--b", RED),
            CommandFailed,
            "both captions of image 0",
        ),
        (
            "compare --b, a file that is not there",
            lambda r: of_a_picture(r, "compare", "--a", RED, "--b", r.folder / "b.txt"),
            CommandFailed,
            "there is no such file",
        ),
        ("estimate --high nan", lambda r: of_a_picture(r, "estimate", "--high", "nan"), CommandFailed, "--high is nan"),
        *(
            (
                f"{name} --high 50",
                lambda r, name=name: of_a_picture(r, name, *caption_of(name), "--high", 50),
                CommandFailed,
                "--high is 50; expected a log-SNR above -5.36, and 7.07 at most",
            )
            for name in MEASURING
        ),
        *(
            (
                f"{name} --null bogus",
                lambda r, name=name: of_a_picture(r, name, *caption_of(name), "--null", "bogus"),
                CommandFailed,
                "--null is 'bogus'; expected, for Stable Diffusion 1.x/2.x, 'empty'",
            )
            for name in MEASURING
        ),
        ("fit --null bogus", lambda r: fit(r, "--null", "bogus"), CommandFailed, "--null is 'bogus'"),
        ("switch --high 50", lambda r: switch(r, "--high", 50), CommandFailed, "--high is 50"),
        ("switch --null bogus", lambda r: switch(r, "--null", "bogus"), CommandFailed, "--null is 'bogus'"),
        (
            "influence --beside, --high above the range of the second model",
            lambda r: r.command(
                "influence", "shapes-flow", "--beside", "shapes", "--high", 9, "--output", r.folder / "out"
            ),
            CommandFailed,
            "--high is 9; expected a log-SNR above -5.36",
        ),
        (
            "report --other-model, --high above the range of the second model",
            lambda r: r.command(
                "report",
                "shapes-flow",
                r.picture(),
                "--prompt",
                RED,
                "--other-model",
                "shapes",
                "--high",
                9,
                "--output",
                r.folder / "page.html",
            ),
            CommandFailed,
            "--high is 9; expected a log-SNR above -5.36",
        ),
        (
            "maps --band 5:20",
            lambda r: of_a_picture(r, "maps", "--band", "5:20"),
            CommandFailed,
            "expected rising log-SNRs between -5.36 and 7.07",
        ),
        (
            "estimate --device gpu",
            lambda r: of_a_picture(r, "estimate", "--device", "gpu"),
            CommandFailed,
            "the device 'gpu'",
        ),
        ("words, text in a .png", lambda r: of_text(r, "words"), CommandFailed, "cannot be read"),
        ("maps, text in a .png", lambda r: of_text(r, "maps"), CommandFailed, "cannot be read"),
        ("influence, text in a .png", lambda r: of_text(r, "influence"), CommandFailed, "cannot be read"),
        ("words --word blue", lambda r: of_a_picture(r, "words", "--word", "blue"), CommandFailed, "no prompt has"),
        (
            "words, a prompt that is not among the candidates",
            lambda r: of_a_picture(
                r, "words", "--marginal", r.file("c.txt", f"{BLUE}\na small green circle on the left\n")
            ),
            CommandFailed,
            "not among the 2 candidates",
        ),
        (
            "words --replace-by among candidates",
            lambda r: of_a_picture(r, "words", "--marginal", r.file("c.txt", f"{RED}\n{BLUE}\n"), "--replace-by", "x"),
            CommandFailed,
            "leave --replace-by x out",
        ),
        (
            "switch, the same prompt twice",
            lambda r: switch(r, "--first", RED, "--second", RED),
            CommandFailed,
            "expected two different prompts",
        ),
        (
            "switch, a prompt that is not among the candidates",
            lambda r: switch(r, "--marginal", r.file("c.txt", f"{RED}\n{BLUE}\n")),
            CommandFailed,
            "not among the 2 candidates",
        ),
        ("switch --times 1", lambda r: switch(r, "--times", 1), CommandFailed, "--times"),
        ("likelihood --pilot 4", lambda r: likelihood(r, "--pilot", 4), CommandFailed, "--pilot is 4 of 1 other"),
        ("fit, one picture", lambda r: of_a_picture(r, "fit"), CommandFailed, "got 1 different image to fit to"),
        (
            "run --marginal likelihood --tolerance 1",
            lambda r: of_a_picture(r, "run", "--marginal", "likelihood", "--tolerance", 1),
            CommandFailed,
            "--tolerance is 1.0, which belongs to mutual information",
        ),
        (
            "run --output, a file",
            lambda r: r.command("run", "shapes", r.picture(), "--prompt", RED, "--output", r.file("f")),
            CommandFailed,
            "cannot write to",
        ),
        (
            "inspect --images without --check",
            lambda r: r.command("inspect", "shapes", "--images", r.picture()),
            CommandFailed,
            "add --check",
        ),
        (
            "inspect --check, too few images",
            lambda r: r.command("inspect", "shapes", "--check", "--images", r.picture()),
            CommandFailed,
            "expected 8 or more",
        ),
    ),
)
