"""The pages of the project, and what stands in them: code, commands, links."""

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
CARDS = sorted((ROOT / "mmg_diffusers" / "models").rglob("README.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS, *CARDS]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
STARTS = r"(?:[A-Z_]+=\S+ )?(?:mmg-diffusers|python|torchrun|accelerate|make|pip|pytest)\b"
COMMAND = re.compile(rf"^    ({STARTS}.*)$", re.MULTILINE)


def named(path):
    return path.relative_to(ROOT).as_posix()


def code(path):
    """The blocks of Python of a page, in their order."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def cells(path):
    """The cells of code of a notebook, in their order."""
    read = json.loads(path.read_text("utf-8"))
    return ["".join(cell["source"]) for cell in read["cells"] if cell["cell_type"] == "code"]


def commands(path):
    """The command lines of a page as words, without comments, what they are redirected to, and settings before them."""
    prose = FENCED.sub("", path.read_text("utf-8"))
    for line in COMMAND.findall(prose):
        words = shlex.split(line, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        yield [word for word in words if not re.fullmatch(r"[A-Z_]+=\S+", word)]


def links(path):
    """What the links and pictures of a page lead to, those with an address aside."""
    prose = FENCED.sub("", path.read_text("utf-8"))
    return re.findall(r"(?<!\\)\]\((?![a-z]+:)([^)\s]+)\)", prose)
