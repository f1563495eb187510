"""The module names of version 0.1, which keep working for one minor version: they warn, and give what now stands elsewhere.

To be removed with version 0.3.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# An old module by the new ones that hold its names.
MOVED: dict[str, tuple[str, ...]] = {
    "adapters": ("pipelines.adapters",),
    "adapters.base": ("pipelines.adapters.base", "pipelines.adapters.registry"),
    "adapters.stable_diffusion": ("pipelines.adapters.stable_diffusion", "pipelines.adapters.registry"),
    "batches": ("measure.batches",),
    "benchmarks": ("commands.studies.benchmarks",),
    "caching": ("pipelines.caching",),
    "candidates": ("measure.candidates",),
    "cli": ("commands.app", "commands.fronts.measuring", "commands.fronts.running", "commands.options"),
    "consistency": (
        "commands.studies.consistency",
        "commands.studies.consistency.tables",
        "commands.studies.consistency.tasks",
    ),
    "curve": ("measure.curve",),
    "demo": ("commands.demo",),
    "denoiser": ("denoisers.base", "denoisers.exact"),
    "distributed": ("runs.distributed",),
    "divergence": ("measure.divergence",),
    "drawing": ("pipelines.drawing",),
    "draws": ("measure.draws",),
    "encoding": ("pipelines.encoding",),
    "estimators": ("measure.estimators",),
    "filtering": ("analysis.filtering", "analysis.followed"),
    "fitting": ("arrays.fitting", "arrays.losses"),
    "forwards": ("denoisers.forwards",),
    "image_data": ("arrays.image_data",),
    "image_networks": ("arrays.image_networks",),
    "image_preprocess": ("arrays.image_preprocess",),
    "images": ("pairs.images",),
    "influence": ("measure.influence",),
    "loading": ("pipelines.loading",),
    "maps": ("analysis.maps",),
    "marginals": ("pairs.marginals",),
    "moments": ("measure.moments",),
    "networks": ("arrays.networks", "arrays.base"),
    "noise": ("denoisers.levels", "denoisers.conventions", "denoisers.interpolant", "pipelines.schedulers"),
    "pipeline": ("pipelines.pipeline", "pipelines.bench"),
    "plotting": ("commands.figures",),
    "preprocess": ("arrays.preprocess", "arrays.columns", "arrays.values"),
    "processes": ("runs.processes",),
    "prompts": ("pairs.prompts",),
    "proposals": ("measure.proposals",),
    "quadrature": ("measure.quadrature", "measure.weights"),
    "records": ("files.records",),
    "report": ("commands.report",),
    "result": ("measure.estimate", "measure.reading", "measure.value"),
    "shapes": ("worlds.shapes",),
    "shapes.reader": ("worlds.shapes.reader",),
    "shapes.render": ("worlds.shapes.render",),
    "shapes.world": ("worlds.shapes.world",),
    "sources": ("pairs.sources", "pairs.rows", "pairs.columns"),
    "stages": ("runs.stages",),
    "storage": ("files.whole",),
    "tables": ("pairs.tables", "pairs.frames", "pairs.folders", "commands.inputs"),
    "tasks": ("worlds.tasks",),
    "tasks.laws": ("worlds.tasks.laws",),
    "tasks.maps": ("worlds.tasks.maps",),
    "testing": ("denoisers.check",),
    "tolerance": ("measure.tolerance",),
    "trainer": ("arrays.trainer",),
    "training": ("arrays.checkpoints",),
    "variables": ("arrays.variables",),
    "walks": ("measure.paths",),
    "words": ("analysis.words",),
}
# Names of version 0.1 by those that stand for them now.
RENAMED: dict[str, str] = {
    "adapt_stable_diffusion": "adapt",
    "Comparison": "MixtureMoments",
    "Field": "CandidateSlots",
    "Follower": "StepScorer",
    "Outside": "OutsideNorm",
    "Step": "StepScores",
    "Versus": "TwoDenoisers",
    "Walk": "PathScorer",
    "Walked": "PathScores",
}
# Modules of version 0.1 that are packages now: their names that the package does not show, by where each is.
PACKAGED: dict[str, dict[str, str]] = {
    "analysis": {name: "analysis.classification" for name in ("LOG_TRUST", "Parts")},
    "arrays": {
        "Data": "arrays.estimate",
        "FEWEST": "arrays.estimate",
        "FORMAT": "arrays.fitted",
        "check_estimator": "arrays.fitted",
    },
    "runs": {
        "Measure": "runs.shards",
        "Shard": "runs.shard_files",
        "Shards": "runs.shard_files",
        "chunks": "runs.shards",
        "pairs_in": "runs.shard_files",
    },
}
# Constants that a class holds now.
HELD: dict[tuple[str, str], tuple[str, str]] = {
    ("candidates", "FORMAT"): ("measure.candidates", "CandidateCurve"),
    ("filtering", "FORMAT"): ("analysis.filtering", "Filtered"),
    ("result", "FORMAT"): ("measure.estimate", "Estimate"),
}
ROOT = "mmg_diffusers."


def old_names(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that was a module in version 0.1: looks up what the package does not show.

    Args:
        package: its full name.
    """
    places = PACKAGED[package.removeprefix(ROOT)]

    def look_up(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        new = f"{ROOT}{places[name]}"
        warnings.warn(
            f"{package}.{name} is now {new}.{name}; the old name goes with version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(new), name)

    return look_up


class OldNames(MetaPathFinder, Loader):
    """Finds the modules of version 0.1: empty ones, that look up each of their names in the modules that hold it now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(ROOT)
        if old == fullname or old not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=any(name.startswith(f"{old}.") for name in MOVED))

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(ROOT)
        places = MOVED[old]
        new = " and ".join(f"{ROOT}{place}" for place in places)
        # The frames between are importlib's own, which warnings leave out.
        warnings.warn(
            f"{module.__name__} is now {new}; the old name goes with version 0.3", DeprecationWarning, stacklevel=2
        )

        def look_up(name: str) -> object:
            if not name.startswith("__"):
                if (old, name) in HELD:
                    place, holder = HELD[old, name]
                    return getattr(getattr(import_module(f"{ROOT}{place}"), holder), name)
                for place in places:
                    held = import_module(f"{ROOT}{place}")
                    for spelt in (name, RENAMED.get(name, name)):
                        if hasattr(held, spelt):
                            return getattr(held, spelt)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}; it is now {new}")

        vars(module)["__getattr__"] = look_up


def install() -> None:
    """Let the old names be imported; a second call changes nothing."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
