"""Imports run one way, and importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import mmg_diffusers

ROOT = Path(mmg_diffusers.__file__).parent
# A module may import from those before it. Side branches stand after what they branch from.
ORDER = [
    "checks",
    "storage",
    "records",
    "stages",
    "processes",
    "prompts",
    "noise",
    "denoiser",
    "quadrature",
    "draws",
    "tolerance",
    "moments",
    "result",
    "influence",
    "plotting",
    "batches",
    "forwards",
    "curve",
    "walks",
    "candidates",
    "estimators",
    "divergence",
    "proposals",
    "networks",
    "image_networks",
    "testing",
    "training",
    "fitting",
    "trainer",
    "preprocess",
    "image_preprocess",
    "arrays",
    "analysis",
    "marginals",
    "filtering",
    "words",
    "maps",
    "shapes",
    "tasks",
    "benchmarks",
    "image_data",
    "variables",
    "consistency",
    "images",
    "adapters",
    "caching",
    "loading",
    "encoding",
    "tables",
    "sources",
    "runs",
    "distributed",
    "pipeline",
    "drawing",
    "__init__",
    "demo",
    "report",
    "cli",
    "__main__",
]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "mmg_diffusers" else [f"mmg_diffusers.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "mmg_diffusers":
                room = parts[1] if len(parts) > 1 else "__init__"
                found.add(room if room in ORDER else "__init__")
    return found


def test_imports_run_one_way():
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        assert own in ORDER, f"{own} has no place in the order; give it one"
        for other in imported(path) - {own}:
            assert ORDER.index(other) < ORDER.index(own), f"{path.name} ({own}) imports {other}, which stands after it"


def test_importing_the_package_is_light():
    code = (
        "import sys, mmg_diffusers; print([m for m in ('diffusers', 'matplotlib', 'accelerate') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
