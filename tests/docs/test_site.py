"""The site: its navigation, links, tables of tests and formats; what a release says of itself."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import ModelCardData

import mmg_diffusers
from mmg_diffusers.measure.measured import Record
from tests.docs.pages import CARDS, DOCS, PAGES, ROOT, links, named

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
HOOKS = (ROOT / "scripts" / "site" / "hooks.py").read_text("utf-8")


def text_of(page):
    return (ROOT / page).read_text("utf-8")


def in_hooks(name):
    """A dictionary of scripts/site/hooks.py, without MkDocs."""
    for node in ast.parse(HOOKS).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


@pytest.fixture
def hooks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    import hooks

    return hooks


def flat(nav):
    for part in nav:
        for below in part.values():
            yield from flat(below) if isinstance(below, list) else [below]


def test_every_page_is_in_the_navigation():
    there = {path.relative_to(ROOT / "docs").as_posix() for path in DOCS}
    told = set(flat(SITE["nav"])) | (set(in_hooks("LATER").values()) & there)
    assert there == told


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_to_files(path, hooks):
    for target in links(path):
        place = target.partition("#")[0]
        # The reference is made of the packages when the site is built.
        made = re.fullmatch(r"(?:\.\./)*reference/([\w.]+)\.md", place)
        assert not made or made[1] in ("commands", *hooks.packages()), target
        assert made or not place or (path.parent / place).exists(), f"{named(path)} links to {target}"


def test_the_reference_names_what_packages_show(hooks):
    pages = hooks.reference()
    assert len(pages) == len(hooks.packages()) > 10
    for package in hooks.packages():
        module = importlib.import_module(package)
        names = hooks.public_names(package)
        assert set(names) == set(module.__all__) - {"__version__"}
        for name in names:
            home, _, there = hooks.home_of(package, name).rpartition(".")
            # A page that has the name elsewhere leads to it.
            assert (
                f"::: {home}.{there}\n" in pages[f"reference/{package}.md"]
                or f"#{home}.{there})" in pages[f"reference/{package}.md"]
            )
            assert getattr(importlib.import_module(home), there) is getattr(module, name)


def test_every_command_has_its_options_on_a_page(hooks):
    page = hooks.command_line()
    for name in ("demo", "estimate", "run", "collect", "words", "benchmark bmi"):
        assert f"\n## {name}\n" in page
    assert re.search(r"^\| `--dtype, --torch-dtype` \| `float32` \| ", page, re.MULTILINE)
    assert "Example: `mmg-diffusers demo" in page


def test_nothing_is_fetched_when_the_site_is_read():
    assert SITE["theme"]["font"] is False
    assert "extra_javascript" not in SITE
    # Of styles the site has its own file, which is served with it.
    assert [name for name in SITE["extra_css"] if not (ROOT / "docs" / name).is_file()] == []
    assert "http" not in "".join((ROOT / "docs" / name).read_text("utf-8") for name in SITE["extra_css"])


def test_the_theory_is_held_by_tests_that_are_there():
    named_tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of("docs/theory.md"))
    rows = [line for line in text_of("docs/theory.md").splitlines() if re.match(r"\| (?!--|formula \||what \|)", line)]
    assert len(rows) == len(named_tests) > 30
    for file, test in named_tests:
        functions = {node.name for node in ast.parse(text_of(file)).body if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"docs/theory.md names {file}::{test}"


def test_the_theory_names_what_there_is():
    """Each name that a row gives first stands in the package."""
    source = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "mmg_diffusers").rglob("*.py")))
    for row in re.findall(r"^\| .*? \| (`.*?) \| ", re.sub(r"\\\|", "", text_of("docs/theory.md")), re.MULTILINE):
        for name in re.findall(r"`(?:\w+\.)*(\w+)", row):
            assert re.search(rf"\b{name}\b", source), name


def kinds(parent):
    for kind in parent.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_format_of_a_file_is_told():
    for package in ("analysis", "arrays.fitted", "denoisers.references", "measure", "pipelines.caching"):
        importlib.import_module(f"mmg_diffusers.{package}")
    page = text_of("docs/files.md")
    formats = {kind.FORMAT for kind in kinds(Record) if "FORMAT" in vars(kind) and kind.__module__.startswith("mmg_")}
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "mmg_diffusers").rglob("*.py"))
    formats |= set(re.findall(r'"(mmg_diffusers\.\w+/\d+)"', source))
    assert len(formats) > 12
    assert not [name for name in sorted(formats) if f"`{name}`" not in page]
    assert not [name for name in re.findall(r"`(mmg_diffusers\.\w+/\d+)`", page) if name not in formats]


# ---- a release ----


def test_the_readme_is_short_and_can_be_shown_by_the_package_index(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from dist import for_the_index

    readme = text_of("README.md")
    assert len(readme.splitlines()) <= 85
    address = "https://example.org/owner/mmg_diffusers"
    shown = for_the_index(readme, address)
    assert not re.search(r"\]\((?!https://)", shown)
    assert (
        f"![What the caption takes off the denoising error, from make demo]({address}/raw/HEAD/figures/mmse.png)"
        in shown
    )
    assert f"[concepts]({address}/blob/HEAD/docs/concepts.md)" in shown
    bare = for_the_index(readme, None)
    assert not re.search(r"\]\((?!https://)", bare)
    assert "![" not in bare
    assert "[concepts]" not in bare
    assert "concepts" in bare


def test_the_citation_has_the_version_and_the_papers():
    cited = yaml.safe_load(text_of("CITATION.cff"))
    assert cited["version"] == mmg_diffusers.__version__
    assert f'version = "{cited["version"]}"' in text_of("pyproject.toml")
    assert cited["license"] == "Apache-2.0"
    papers = {paper["identifiers"][0]["value"].removeprefix("arXiv:") for paper in cited["references"]}
    assert all(paper["authors"] and paper["title"] for paper in cited["references"])
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "mmg_diffusers" / "measure").rglob("*.py"))
    estimators = {"2509.20609", "2310.09031", "2302.03792"}
    assert estimators <= set(re.findall(r"\d{4}\.\d{5}", source))
    assert estimators | {"2310.07972"} <= papers


def test_workflows_and_templates_are_read_and_call_what_there_is():
    made = re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE)
    for path in sorted((ROOT / ".github").rglob("*.yml")):
        read = yaml.safe_load(path.read_text("utf-8"))
        if path.parent.name == "workflows":
            steps = [step for job in read["jobs"].values() for step in job["steps"]]
            targets = [step["run"].split()[1] for step in steps if "run" in step]
            assert targets
            assert set(targets) <= set(made)
        elif path.name != "config.yml":
            assert {"name", "description", "body"} <= read.keys()
    called = re.findall(r"^make (\S+)", text_of(".ci/run"), re.MULTILINE)
    assert {"lint", "test", "docs"} <= set(called) <= set(made)


# Keys of a card's head that the hub knows (huggingface_hub's ModelCardData, and its page on model cards).
KNOWN = set(ModelCardData.__init__.__code__.co_varnames) - {"self", "kwargs", "eval_results", "ignore_metadata_errors"}
LICENCES = {"apache-2.0"}
TASKS = {"text-to-image", "unconditional-image-generation"}


@pytest.mark.parametrize("path", CARDS, ids=named)
def test_cards_pass_the_hubs_schema(path):
    card = ModelCard(path.read_text("utf-8"), ignore_metadata_errors=False)
    data = card.data.to_dict()
    head = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", path.read_text("utf-8"), re.DOTALL)[1])
    assert set(head) <= KNOWN, sorted(set(head) - KNOWN)
    assert data == head
    assert data["license"] in LICENCES
    assert data["library_name"] == "diffusers"
    assert data["pipeline_tag"] in TASKS
    assert all(isinstance(tag, str) and tag == tag.lower() for tag in data.get("tags", []))
    assert card.text.strip().startswith("# ")


def test_the_check_names_what_is_wrong_with_a_site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "site"))
    from check import faults

    page = '<h1 id="top">x</h1><a href="b.html#there">b</a><img src="a.png"><a href="https://example.org">away</a>'
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html#top">a</a><a href="#there">here</a>')
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.css").write_text("p { background: url(a.png) }")
    assert faults(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<a href="gone.html">x</a><a href="a.html#gone">y</a><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/font) }")
    assert faults(tmp_path) == [
        "a.css fetches from elsewhere",
        "a.html links to b.html#there, which has no such anchor",
        "b.html fetches https://example.org/x.js",
        "b.html links to a.html#gone, which has no such anchor",
        "b.html links to gone.html, which is not there",
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "scripts/site/check.py", str(tmp_path / "site")], cwd=ROOT, check=True)


@pytest.mark.slow
def test_what_is_released_installs_and_runs(tmp_path):
    command = [sys.executable, "scripts/dist.py", "--output", str(tmp_path / "dist")]
    subprocess.run([*command, "--repository", "https://example.org/owner/mmg_diffusers"], cwd=ROOT, check=True)
    assert {path.suffix for path in (tmp_path / "dist").iterdir()} == {".whl", ".gz"}
