"""Build wheel and source distribution, check their metadata, and try the wheel in an environment of its own.

python scripts/dist.py --repository https://example.org/owner/mmg_diffusers

What is built is a copy of the files that git knows, as they stand. In its README links to files of the repository become
absolute, so that the package index shows them right; without an address they become plain text, and its pictures are left out.
The wheel is installed with its command line and its figures; `mmg-diffusers demo` and an example run from an empty folder.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def for_the_index(readme: str, repository: str | None) -> str:
    """A README whose links do not depend on the files beside it.

    Args:
        readme: as it stands in the repository.
        repository: its address; links become plain text without one.
    """

    def absolute(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if repository is None:
            return "" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/HEAD/{posixpath.normpath(target)})"

    return LINK.sub(absolute, readme)


def copy(to: Path, repository: str | None) -> None:
    """Copy what git knows, with the README of the index and the address in the metadata."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, known.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    readme = to / "README.md"
    readme.write_text(for_the_index(readme.read_text("utf-8"), repository), "utf-8")
    if repository is not None:
        project = to / "pyproject.toml"
        urls = f'[project.urls]\nRepository = "{repository}"\nChangelog = "{repository}/blob/HEAD/CHANGELOG.md"\n\n[project.scripts]'
        project.write_text(project.read_text("utf-8").replace("[project.scripts]", urls, 1), "utf-8")


def run(*command: str | Path, cwd: Path, quiet: bool = False) -> None:
    """Run a command, without the variables by which this checkout would be found; a quiet one shows its errors alone.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    print("+", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        list(map(str, command)), cwd=cwd, check=True, env=environment, stdout=subprocess.DEVNULL if quiet else None
    )


def try_wheel(wheel: Path, pairs: int) -> None:
    """Install a wheel into an environment of its own, and run the demo and an example from an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            ROOT / "constraints.txt",
            f"{wheel}[all]",
            cwd=folder,
        )
        shutil.copy2(ROOT / "examples" / "quickstart.py", folder)
        run(python, "-m", "mmg_diffusers", "demo", "--pairs", str(pairs), "--levels", "8", "--steps", "8", cwd=folder)
        run(python, "quickstart.py", "--pairs", str(pairs), cwd=folder)
        if not (folder / "runs" / "demo" / "mmse.png").is_file():
            raise RuntimeError("the demo wrote no figure")


def main(
    repository: Annotated[
        str | None, typer.Option(help="Address of the repository, for the links of the README.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the two files; what it held is removed.")] = ROOT / "dist",
    pairs: Annotated[int, typer.Option(min=2, help="Of the demo.")] = 4,
    tried: Annotated[bool, typer.Option(help="Whether the wheel is installed and tried.")] = True,
) -> None:
    """Build, check, install, run."""
    if repository is not None and not repository.startswith("https://"):
        raise typer.BadParameter(f"the repository is {repository!r}; expected an address that begins with https://")
    address = repository.rstrip("/") if repository else None
    output = output.resolve()
    if output.exists():
        shutil.rmtree(output)
    with tempfile.TemporaryDirectory() as name:
        copied = Path(name)
        copy(copied, address)
        run(sys.executable, "-m", "build", "--outdir", output, copied, cwd=copied, quiet=True)
    built = sorted(output.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=output)
    if tried:
        try_wheel(next(path for path in built if path.suffix == ".whl"), pairs)
    if address is None:
        print("no --repository was given: the README of these files has no links to the repository and no pictures")
    for path in built:
        print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
