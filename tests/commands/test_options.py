"""Options have one name, one default and one help in all commands."""

import inspect

import pytest

from mmg_diffusers.commands import options
from mmg_diffusers.commands.app import BENCHMARKS, EXAMPLES, app
from mmg_diffusers.commands.console import of_a_shell
from mmg_diffusers.commands.networks import Networks
from mmg_diffusers.commands.signature import expanded

COMMANDS = {
    **{entry.callback.__name__: entry.callback for entry in app.registered_commands},
    **{
        f"benchmark {name}": entry.callback
        for (name, _, _), entry in zip(
            BENCHMARKS, app.registered_groups[0].typer_instance.registered_commands, strict=True
        )
    },
}
# What is named alike and is not the same, with the reason.
EXCEPTIONS = {
    ("compare", "draws"): "one path of noise would leave no standard error",
    ("fit", "steps"): "of a training",
    ("fit", "output"): "with a file that others do not write",
    ("arrays", "folds"): "by the number of pairs, if it is not set",
    ("arrays", "workers"): "of one fit, which one process does unless others are asked for",
    ("train", "test_share"): "of a training that holds out pairs to watch as well",
    ("train", "output"): "goes on where it stopped",
    ("run", "output"): "goes on where it stopped",
    ("benchmark bmi", "output"): "goes on where it stopped",
    ("benchmark high-mi", "output"): "goes on where it stopped",
    ("benchmark consistency", "output"): "goes on where it stopped",
    ("report", "b"): "no other caption by default",
    ("report", "output"): "a page, and no folder",
    ("demo", "model"): "one that ships",
    ("demo", "steps"): "of a path that widens and ends early",
    ("demo", "pairs"): "fresh pairs, at least two",
    ("train", "steps"): "of a training",
    ("compare", "b"): "has to be given",
    ("benchmark bmi", "steps"): "of a training",
    ("benchmark high-mi", "steps"): "of a training",
    ("benchmark consistency", "steps"): "of a training",
    ("benchmark bmi", "train"): "a number of pairs",
    ("benchmark consistency", "batch"): "by the world's own plan, if it is not set",
    ("benchmark high-mi", "seeds"): "another number by default",
    ("benchmark bmi", "seeds"): "another number by default",
    ("benchmark consistency", "seeds"): "another number by default",
    ("benchmark consistency", "quick"): "of pictures",
    ("benchmark consistency", "first_seed"): "settings were not chosen on seeds",
    ("influence", "prompt"): "several are compared",
    ("influence", "marginal"): "several are compared",
    ("switch", "marginal"): "what pictures are read as",
    ("arrays", "given"): "a third variable",
    ("words", "word"): "all by default",
    ("maps", "together"): "names the words",
    ("maps", "pairs"): "maps are looked at one by one",
    ("switch", "shown"): "pictures of each time",
}
# Which commands have which option.
OF_PAIRS = {"estimate", "report", "run", "audit"}
OF_NETWORKS = OF_PAIRS | {"likelihood", "compare", "words", "maps", "influence", "switch"}
EVERYWHERE = {
    "json": set(COMMANDS),
    **dict.fromkeys(("dtype", "variant", "revision", "null", "device", "quiet"), OF_NETWORKS | {"inspect"}),
    **dict.fromkeys(("levels", "high", "draws", "seed", "resize", "batch_size"), OF_NETWORKS),
    **dict.fromkeys(("given", "captions", "entropy"), OF_PAIRS),
    "marginal": OF_PAIRS | {"words", "maps", "influence", "switch"},
    "tolerance": {"estimate", "report", "run", "words", "maps", "influence"},
    **{name: {"estimate", "report", "run"} for name in ("maps", "integrand", "plan")},
    "overwrite": (OF_NETWORKS - {"run"}) | {"demo", "arrays", "collect"},
}


def listed(command):
    """The options of a command by their names in Python: kind, default, how they are written, help."""
    found = {}
    for name, parameter in inspect.signature(COMMANDS[command]).parameters.items():
        (info,) = parameter.annotation.__metadata__
        written = tuple(part for part in (info.default, *(info.param_decls or ())) if isinstance(part, str))
        kind = type(info).__name__
        found[name] = (kind, parameter.default, written or (f"--{name.replace('_', '-')}",), info.help)
    return found


def test_one_name_default_and_help():
    seen = {}
    for command in COMMANDS:
        for name, (kind, default, written, said) in listed(command).items():
            if (command, name) in EXCEPTIONS or kind == "ArgumentInfo":
                continue
            assert said, f"{command} --{name} has no help"
            first, before = seen.setdefault(name, (command, (default, written, said)))
            assert (default, written, said) == before, f"{name} of {command} and of {first}"
    assert {command for command, _ in EXCEPTIONS} <= set(COMMANDS)
    for command, name in EXCEPTIONS:
        assert name in listed(command), f"{command} has no {name}, and an exception for it"


@pytest.mark.parametrize("name", EVERYWHERE)
def test_options_that_all_have(name):
    lacking = {command for command in EVERYWHERE[name] if name not in listed(command)}
    assert not lacking


def test_a_model_comes_first():
    for command in OF_NETWORKS - {"switch"}:
        arguments = [name for name, (kind, *_) in listed(command).items() if kind == "ArgumentInfo"]
        assert arguments == ["model", "source"]


def test_an_option_twice_is_refused():
    def twice(networks: Networks, device: options.Device = None) -> None: ...

    with pytest.raises(TypeError, match="has an option twice"):
        expanded(twice)


def test_a_group_is_handed_over_whole():
    def command(networks: Networks, source: options.Source = "a") -> tuple:
        return networks, source

    made = expanded(command)(
        **{
            "model": "m",
            "device": "cpu",
            "dtype": "float16",
            "variant": None,
            "revision": None,
            "quiet": True,
            "null": None,
            "source": "b",
        }
    )
    assert made == (Networks("m", "cpu", "float16", None, None, True, None), "b")
    names = list(inspect.signature(expanded(command)).parameters)
    assert names[:2] == ["model", "source"]


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("batch_size is 0; expected at least 1", "--batch-size is 0; expected at least 1"),
        ("crop it, or pass resize=True", "crop it, or pass --resize"),
        ("load it with torch_dtype=torch.float32", "load it with --dtype float32"),
        ("say so with null='empty'; else", "say so with --null empty; else"),
        ("take draws=4", "take --draws 4"),
        ("end earlier (logsnr_range=)", "end earlier (--high)"),
        ("end earlier, logsnr_range=(-5.36, 4)", "end earlier, --high 4"),
        (
            "the pilot saw log-SNR -2.00 to 2.00 of -8.00 to 8.00; pilot this network over its range, or give logsnr_range=(-2, 2)",
            "the pilot saw log-SNR -2.00 to 2.00 of -8.00 to 8.00; it was of another network; take a reference that mmg-diffusers "
            "likelihood --reference PICTURES writes for this one",
        ),
        (
            "is too small; use mean(cluster=outcome.clusters())",
            "is too small; mind the mean clustered by picture, or measure each picture once",
        ),
        ("expected SoftPlan(prompts=3) or more", "expected --soft 3 or more"),
        ("the noise levels are few", "the noise levels are few"),
        ("test_share and folds are given; expected one", "--test-share and --folds are given; expected one"),
        (
            "expected 'x' among them, or the columns of x named",
            "expected 'x' among them, or columns of x by their names, --x a,b",
        ),
        ("prompt is '', which is empty", "--prompt is '', which is empty"),
        ("the prompt is empty", "the prompt is empty"),
        ("draws=3 and tolerance=0.1 are both given", "--draws 3 and --tolerance 0.1 are both given"),
        ("[Errno 13] cannot write a/b (Permission denied)", "cannot write a/b (Permission denied)"),
        (
            "no fitted marginal at a/b/fitted.safetensors; expected a file that .save wrote",
            "no fitted marginal at a/b; expected a folder that `mmg-diffusers fit` wrote",
        ),
        (
            "no reference at a; expected a file that .save wrote",
            "no reference at a; expected a file that a command wrote",
        ),
        (
            "runs/a belongs to a run with other settings (quadrature: 'Trapezoid(nodes=8)' there, 'Simpson(nodes=9)' now)",
            "runs/a belongs to a run with other settings (noise levels: 8 there, 9 now)",
        ),
        (
            "99 negatives need 100 pairs; lower count, or give Candidates",
            "99 negatives need 100 pairs; ask for fewer, or give --marginal prompts",
        ),
    ],
)
def test_messages_of_a_shell(python, shell):
    assert of_a_shell(python) == shell


def test_every_example_names_its_command():
    for command, example in EXAMPLES:
        assert f" {command.__name__} " in f"{example} "
