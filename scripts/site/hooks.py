"""What MkDocs does beyond its own: pages that live elsewhere in the repository, the reference, formulas, links that leave docs/.

MkDocs calls these functions by their names; `mkdocs.yml` lists this file.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Pages that are part of the site and stand elsewhere, by their place on the site.
ELSEWHERE = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "cards/shapes_plain.md": "mmg_diffusers/models/shapes_plain/README.md",
    "cards/shapes_flow.md": "mmg_diffusers/models/shapes_flow/README.md",
    "cards/shapes.md": "mmg_diffusers/models/shapes/README.md",
    "cards/pairs_flow.md": "mmg_diffusers/models/pairs_flow/README.md",
}
# Pages that are written by others, and join the navigation when they are there.
LATER = {"Honest numbers": "honest.md", "What it is for": "uses.md"}
# Packages in the order of the reference; others that show names follow them.
ORDER = ("", "pipelines", "pairs", "analysis", "measure", "denoisers", "arrays", "runs")
# Packages that no interface is in.
INSIDE = ("mmg_diffusers.commands.studies",)
LINK = re.compile(r"(?<!\\)\]\((?![a-z]+:|#)([^)\s]+)\)")
FORMULA = re.compile(r"^\$\$(.+?)\$\$$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def public_names(package: str) -> list[str]:
    """The names that a package shows: its ``__all__``, or those of its stub."""
    folder = ROOT / package.replace(".", "/")
    stub = folder / "__init__.pyi"
    if stub.exists():
        tree = ast.parse(stub.read_text("utf-8"))
        return sorted(name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names)
    for node in ast.parse((folder / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    raise ValueError(f"{package} has no __all__ and no stub; expected its public names")


def packages() -> list[str]:
    """The packages that show public names."""
    found = []
    for path in (ROOT / "mmg_diffusers").rglob("__init__.py"):
        name = ".".join(path.parent.relative_to(ROOT).parts)
        if "__all__" in path.read_text("utf-8") and not name.startswith(INSIDE):
            found.append(name)
    first = ["mmg_diffusers" + (f".{name}" if name else "") for name in ORDER]
    return [*first, *sorted(set(found) - set(first))]


def home_of(package: str, name: str) -> str:
    """The module that a public name of a package is defined in, with its name there."""
    folder = ROOT / package.replace(".", "/")
    stub = folder / "__init__.pyi"
    source = stub if stub.exists() else folder / "__init__.py"
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    module = f"{package}.{node.module}" if node.level else str(node.module)
                    return f"{module}.{alias.name}"
    return f"{package}.{name}"


def about(package: str) -> str:
    """The docstring of a package."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text("utf-8"))
    return ast.get_docstring(tree) or ""


def reference() -> dict[str, str]:
    """The pages of the reference, by their places: each name once, where it is shown first."""
    pages, seen = {}, {}
    for package in packages():
        page = f"reference/{package}.md"
        lead = "What is imported from the top." if package == "mmg_diffusers" else about(package)
        lines = [f"# {package}", "", lead, ""]
        for name in public_names(package):
            home = home_of(package, name)
            if home in seen:
                lines += [
                    f"### {name} {{: #{package}.{name} }}",
                    "",
                    f"As in [{seen[home][0]}]({seen[home][1]}#{home}).",
                    "",
                ]
            else:
                seen[home] = (package, posixpath.basename(page))
                lines += [f"::: {home}", ""]
        pages[page] = "\n".join(lines)
    return pages


def command_line() -> str:
    """The page of the commands: what each does, its arguments and options, an example."""
    sys.path.insert(0, str(ROOT))
    import typer
    from typer.main import get_command

    from mmg_diffusers.commands.app import app

    root: Any = get_command(app)
    context = typer.Context(root, info_name="mmg-diffusers")
    lines = [
        "# Commands",
        "",
        "`mmg-diffusers COMMAND --help` says the same. A model is a folder, an id on the hub, or one that ships.",
        "",
    ]
    for name in root.list_commands(context):
        command: Any = root.get_command(context, name)
        subs = getattr(command, "commands", None)
        for words, one in [(name, command)] if subs is None else [(f"{name} {sub}", subs[sub]) for sub in subs]:
            lines += [f"## {words}", "", escape(one.help or "", quote=False), ""]
            if one.epilog:
                lines += [one.epilog, ""]
            lines += ["| | default | |", "|---|---|---|"]
            for option in one.params:
                if option.name == "help":
                    continue
                is_argument = option.param_type_name == "argument"
                called = option.name.upper() if is_argument else ", ".join((*option.opts, *option.secondary_opts))
                default = "" if option.default in (None, False) or callable(option.default) else f"`{option.default}`"
                said = escape((option.help or "").replace("|", "\\|"), quote=False)
                lines.append(f"| `{called}` | {'' if is_argument and option.required else default} | {said} |")
            lines.append("")
    return "\n".join(lines)


def as_page(notebook: Path) -> str:
    """A notebook as a page: its texts, and its code in fences."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    head, *rest = parts
    where = f"The notebook is `notebooks/{notebook.name}` in the repository."
    return "\n\n".join([head, where, *rest]) + "\n"


def notebooks() -> dict[str, Path]:
    """The notebooks, by their places on the site."""
    return {f"notebooks/{path.stem}.md": path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def on_config(config: Any) -> Any:
    """Put what is there into the navigation: later pages, the reference, cards, the changelog."""
    docs = Path(config.docs_dir)
    nav = list(config.nav)
    later = [{title: page} for title, page in LATER.items() if (docs / page).exists()]
    at = next(k for k, part in enumerate(nav) if "What was measured" in part)
    nav[at : at + 1] = [*later, {"What was measured": [*nav[at]["What was measured"], *_cards()]}]
    books = [{Path(place).stem.replace("_", " ").capitalize(): place} for place in notebooks()]
    nav.insert(at, {"Notebooks": books})
    nav.append(
        {
            "Reference": [
                {"Commands": "reference/commands.md"},
                *({package: f"reference/{package}.md"} for package in packages()),
            ]
        }
    )
    nav += [{"Contributing": "contributing.md"}, {"Changes": "changelog.md"}, {"Security": "security.md"}]
    config.nav = nav
    return config


def _cards() -> list[dict[str, str]]:
    names = {
        "shapes_plain": "shapes-plain",
        "shapes_flow": "shapes-flow",
        "shapes": "shapes",
        "pairs_flow": "pairs-flow",
    }
    return [{f"Model {title}": f"cards/{name}.md"} for name, title in names.items()]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and figures that stand elsewhere, and the reference."""
    for place, source in ELSEWHERE.items():
        text = (ROOT / source).read_text("utf-8")
        if place.startswith("cards/"):
            text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
        files.append(File.generated(config, place, content=text))
    for place, path in notebooks().items():
        files.append(File.generated(config, place, content=as_page(path)))
    for place, text in {"reference/commands.md": command_line(), **reference()}.items():
        files.append(File.generated(config, place, content=text))
    for picture in sorted((ROOT / "figures").iterdir()):
        files.append(File.generated(config, f"figures/{picture.name}", content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, and links by the places of the site."""
    source = page.file.src_uri
    if source.startswith(("reference/", "notebooks/")):
        return markdown
    parts = FENCE.split(markdown)
    for k in range(0, len(parts), 2):  # what stands in fences stays
        text = FORMULA.sub(
            lambda found: f'\n<div class="formula" tabindex="0">{convert(found[1].strip(), display="block")}</div>\n',
            parts[k],
        )
        parts[k] = LINK.sub(lambda found: _placed(found, source, files), text)
    return "".join(parts)


def _placed(found: re.Match[str], source: str, files: Files) -> str:
    """A link's target, if it is no page of the site: its place on the site, or nothing but its text."""
    target, _, anchor = found[1].partition("#")
    if not target:
        return found[0]
    stands = ELSEWHERE.get(source, f"docs/{source}")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(stands), target))
    if not (ROOT / place).exists():
        return found[0]  # MkDocs names it
    by_place = {there: here for here, there in ELSEWHERE.items()}
    on_site = by_place.get(place, place.removeprefix("docs/"))
    if files.get_file_from_path(on_site) is None:
        raise ValueError(f"docs/{source} links to {place}, which is not on the site; name it as code instead")
    here = posixpath.relpath(on_site, posixpath.dirname(source) or ".")
    return f"]({here}{'#' + anchor if anchor else ''})"


def on_page_content(html: str, **_: Any) -> str:
    """Blocks of code that are wider than the screen can be moved aside by the keyboard too."""
    return html.replace("<pre><span></span><code>", '<pre><span></span><code tabindex="0">')
