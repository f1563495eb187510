"""How commands print, and how they end on an error."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

console = Console()
# Letters of a message that are printed; a value within it may be a file's whole content.
LONGEST = 2000
# What options are called in Python and on a command line, where messages name them.
_NAMES = {
    "torch_dtype": "--dtype",
    "audit": "--audit",
    "batch_size": "--batch-size",
    "logsnr_range": "--high",
    "levels": "--levels",
    "draws": "--draws",
    "tolerance": "--tolerance",
    "stderr": "--tolerance",
    "seed": "--seed",
    "resize": "--resize",
    "entropy": "--entropy",
    "given": "--given",
    "prompt": "--prompt",
    "marginal": "--marginal",
    "null": "--null",
    "variant": "--variant",
    "captions": "--captions",
    "limit": "--limit",
    "test_share": "--test-share",
    "folds": "--folds",
    "workers": "--workers",
    "mask": "--replace-by",
    "integrand": "--integrand",
}
_PHRASES = {
    "use mean(cluster=outcome.clusters())": "mind the mean clustered by picture, or measure each picture once",
    "give mean(cluster=...) one label a pair": "mind the mean clustered by picture, or measure each picture once",
    "or end the path earlier (logsnr_range=)": "or end the path earlier (--high)",
    "measure discrete log P(x) by values=Grid(low, high, levels), or data that are not rounded": "measure data that are not rounded",
    "expected one that pipe.fit_reference made of other images": "give --reference other pictures",
    "give prompts= that the pilot's images are told": "give --prompt or --prompts, which its pictures are told, or --pilot 0",
    "read with Outcome.load, or `mmg-diffusers collect`": "read with `mmg-diffusers collect`",
    ", for which there is no room (set_precision_check(0))": ", for which there is no room",
    "take it out with mmg_diffusers.pairs.prompts.replace_word, which moves the tokens after it": "leave it out with --replace-by ''",
    "take it out with mmg_diffusers.pairs.prompts.replace_word": "leave it out with --replace-by ''",
    " Its denoiser works without one: MMGPipeline(pipe).denoiser(z, logsnr).": " `mmg-diffusers likelihood` says how likely pictures are.",
    "say null='last_class' (--null last_class)": "say --null last_class",
    "read its frames first, as with diffusers.utils.load_video, and choose as many as are measured": "give a folder of its frames, as many as are measured",
    ", a model that ships with the package (mmg_diffusers.shapes_model(": ", a model that ships with the package (",
    "test_share and folds are given": "--test-share and --folds are given",
    ", or the columns of x named": ", or columns of x by their names, --x a,b",
    ", or the columns of y named": ", or columns of y by their names, --y c",
    "lower count, or give Candidates": "ask for fewer, or give --marginal prompts",
    "; expected a file that .save wrote": "; expected a file that a command wrote",
    "Candidates(..., groups=)": "--vary",
    "Candidates.vary": "--vary",
    "marginal=Candidates([...]) (--marginal prompts, or a file)": "--marginal prompts, or a file",
}
# A command line has the upper end of a range alone, and a pilot comes with the reference; errors of the system have numbers.
_RANGES = {
    re.compile(r"^\[Errno \d+\] "): "",
    re.compile(r"\bquadrature: '\w+\(nodes=(\d+)\)' there, '\w+\(nodes=(\d+)\)' now"): (
        r"noise levels: \1 there, \2 now"
    ),
    re.compile(r"(?<=no fitted marginal at )(.*?)[/\\]?fitted\.safetensors; expected .*"): (
        r"\1; expected a folder that `mmg-diffusers fit` wrote"
    ),
    re.compile(r"pilot this network over its range, or give logsnr_range=\([^)]*\)"): (
        "it was of another network; take a reference that mmg-diffusers likelihood --reference PICTURES writes for this one"
    ),
    re.compile(r"\blogsnr_range=\([^,)]*, ([^,)]*)\)"): r"--high \1",
}
_SOFT = re.compile(r"\bSoftPlan\(prompts=(\d+)\)")
_PYTHON = re.compile(
    rf"(?<![\w-])(?:({'|'.join(_NAMES)})=(True|'[^']*'|torch\.\w+|[\w.]*)|^({'|'.join(_NAMES)})(?= (?:is|are) ))"
)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with what is kept and how to go on."""


def of_a_shell(message: str) -> str:
    """A message with options by the names that they have on a command line."""

    def named(match: re.Match[str]) -> str:
        value = (match[2] or "").strip("'").removeprefix("torch.")
        return f"{_NAMES[match[1] or match[3]]} {'' if value == 'True' else value}".rstrip()

    for python, shell in _PHRASES.items():
        message = message.replace(python, shell)
    for python, shell in _RANGES.items():
        message = python.sub(shell, message)
    return _PYTHON.sub(named, _SOFT.sub(r"--soft \1", message))


def shorten(text: str, most: int = LONGEST) -> str:
    """The text, or its beginning and its end if it is longer than `most` letters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text)} letters) ... {text[-half:]}"


def say(text: object) -> None:
    """Print lines as they are, each shortened by itself: no markup, no colours, no breaks."""
    lines = "\n".join(shorten(line) for line in str(text).split("\n"))
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an error as its message, and end with status 2: the message says what was expected and what to do.

    Warnings are not printed: records hold them as notes. Ctrl-C ends with status 130, and says what is kept.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        stderr = Console(stderr=True)
        stderr.print("[red]error:[/] ", end="")
        stderr.print(shorten(of_a_shell(str(error))), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        said = str(error) or "nothing was written"
        Console(stderr=True).print(f"\nstopped: {said}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(130) from error


def with_messages(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are printed as messages, and whose warnings are not printed: records hold them as notes."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with errors_as_messages():
            command(*args, **kwargs)

    return run
