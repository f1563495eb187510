"""Run estimators over tasks whose information is known: resumable, in parallel, to a table and a figure."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mmg_diffusers.arrays.estimate import FittedModel, fit_model
from mmg_diffusers.arrays.fitting import FitSettings, crossed, fit
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.preprocess import Preprocessing
from mmg_diffusers.commands.figures import plot_errors, save_figure
from mmg_diffusers.files.records import versions
from mmg_diffusers.files.whole import claim, write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MINDE, MMG
from mmg_diffusers.measure.moments import FORMS, OutsideNorm
from mmg_diffusers.measure.proposals import gap_fitted, published_adaptive
from mmg_diffusers.measure.quadrature import Quadrature, StratifiedLogistic
from mmg_diffusers.worlds.tasks import get_task

# What `estimate_mi` says by default.
HEADLINE = "balanced, gap-fitted"


@dataclass(frozen=True)
class Plan:
    """What one measurement of one task is made of; files of another plan are not mixed in.

    Args:
        train, test: pairs to fit on and to measure.
        steps: of the training, at most.
        variants: measure every variant, not the default alone.
        joint: fit a joint network as well, for MINDE-J.
        nodes: levels of the rules that are measured beside the default's.
    """

    train: int = 100_000
    test: int = 10_000
    steps: int = 3500
    variants: bool = True
    joint: bool = False
    nodes: int = 16

    @staticmethod
    def quick() -> "Plan":
        """Minutes on two cores for a few tasks: fewer pairs and steps."""
        return Plan(train=20_000, test=4_000, steps=800)


def measure_task(key: str, seed: int, plan: Plan) -> dict[str, Any]:
    """Fit and measure one task once, in this process.

    Returns:
        values and standard errors by variant, the default's certificate, and seconds.
    """
    task = get_task(key)
    # Pairs that are fitted and pairs that are measured come from separate streams.
    x, y = task.sample(plan.train, 2 * seed)
    test = dict(zip("xy", task.sample(plan.test, 2 * seed + 1), strict=True))
    began = time.process_time()
    settings = FitSettings.for_size(task.dim_x + task.dim_y, steps=plan.steps)
    model = fit_model({"x": x, "y": y}, settings=settings, seed=seed)
    fitted = time.process_time()
    default = model.estimate(test, seed=seed)
    done = time.process_time()
    values = {f"{form}, gap-fitted": default.using(form).mean() for form in FORMS}
    if plan.variants:
        values |= _variants(model, test, seed, plan)
    vectors = model.preprocessing
    assert isinstance(vectors, Preprocessing)
    if plan.joint and vectors.variables[model.given[0]].classes is None:
        values |= _joint({"x": x, "y": y}, test, vectors, model.network.logsnr_range, settings, seed)
    return {
        "task": key,
        "name": task.name,
        "truth": task.mi_nats,
        "seed": seed,
        "values": values,
        "certificate": default.certificate,
        "warnings": list(default.warnings()),
        "steps": model.fitted.steps,
        "fit_seconds": fitted - began,
        "measure_seconds": done - fitted,
    }


def _variants(model: FittedModel, test: dict[str, Any], seed: int, plan: Plan) -> dict[str, Any]:
    values: dict[str, Any] = {}

    def read(estimate: Estimate, name: str) -> None:
        values.update({f"{form}, {name}": estimate.using(form).mean() for form in FORMS})

    x, cond, _ = model.prepare(test)
    rules: dict[str, Callable[[], Quadrature]] = {
        "fixed": lambda: StratifiedLogistic(plan.nodes, loc=1.0, scale=2.5),
        "published adaptive": lambda: published_adaptive(model.denoiser, x, cond, nodes=plan.nodes, seed=seed),
    }
    for name, make in rules.items():
        try:
            rule = make()
        except ValueError:
            continue  # the published rule has no answer here; its cell stays empty
        read(model.estimate(test, estimator=MMG("auto", rule, antithetic=True), seed=seed), name)
    minde = MINDE(antithetic=True, quadrature=gap_fitted(model.denoiser, x, cond, nodes=plan.nodes, seed=seed))(
        model.denoiser, x, cond, seed=seed
    )
    values["MINDE-C"], values["MINDE-C(1)"] = minde.mean(), minde.using(OutsideNorm(1.0)).mean()
    return values


def _joint(
    data: dict[str, Any],
    test: dict[str, Any],
    vectors: Preprocessing,
    logsnr_range: tuple[float, float],
    settings: FitSettings,
    seed: int,
) -> dict[str, Any]:
    train = vectors(data)
    network = VectorNetwork(vectors.sizes, vectors.covariance, logsnr_range=logsnr_range, seed=seed)
    few = len(data["x"]) // 20
    parts = [{name: values[rows] for name, values in train.items()} for rows in (slice(few, None), slice(0, few))]
    fit(network, parts[0], parts[1], crossed("x", "y"), settings, seed=seed)
    ready = {name: values.float() for name, values in vectors(test).items()}
    both = torch.cat([ready[name] for name in ("x", "y")], 1)
    minde = MINDE(antithetic=True)(network.crossed("x", "y"), both, ready, seed=seed)
    return {"MINDE-J": minde.mean(), "MINDE-J(1)": minde.using(OutsideNorm(1.0)).mean()}


# ---- many ----


def _one(key: str, seed: int, plan: Plan) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {**measure_task(key, seed, plan), "versions": versions()}


def run(
    keys: Sequence[str], seeds: Sequence[int], plan: Plan, folder: Path, workers: int, quiet: bool = False
) -> list[dict[str, Any]]:
    """Measure every task with every seed; what FOLDER holds already is read back.

    Raises:
        ValueError: when FOLDER belongs to another plan.
    """
    claim(folder, asdict(plan))
    # One seed after another, so that a run which is stopped early has seen every task.
    jobs = {folder / f"{key}.{seed}.json": (key, seed) for seed in seeds for key in keys}
    missing = [path for path in jobs if not path.exists()]
    with (
        tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="fit", smoothing=0, disable=quiet or None) as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        waiting = {pool.submit(_one, *jobs[path], plan): path for path in missing}
        for done in as_completed(waiting):
            path = waiting[done]
            write_whole(path, json.dumps(done.result(), indent=1).encode())
            bar.set_postfix_str(path.stem)
            bar.update()
    return [json.loads(path.read_text("utf-8")) for path in jobs]


@dataclass(frozen=True)
class Summary:
    """Results of one task over seeds."""

    name: str
    truth: float
    means: dict[str, float]
    spreads: dict[str, float]
    worst: dict[str, float]
    covered: float
    certificate: float
    seconds: float


def summarise(results: Iterable[dict[str, Any]]) -> list[Summary]:
    """Per task: means and deviations over seeds, the worst single seed, coverage by two standard errors."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_task.setdefault(result["task"], []).append(result)
    summaries: list[Summary] = []
    for runs in by_task.values():
        truth = runs[0]["truth"]
        names = [name for name in runs[0]["values"] if all(name in run["values"] for run in runs)]
        each = {name: np.array([run["values"][name][0] for run in runs]) for name in names}
        headline = [run["values"][HEADLINE] for run in runs]
        summaries.append(
            Summary(
                runs[0]["name"],
                truth,
                {name: float(v.mean()) for name, v in each.items()},
                {name: float(v.std(ddof=1)) if len(v) > 1 else float("nan") for name, v in each.items()},
                {name: float(np.abs(v - truth).max()) for name, v in each.items()},
                float(np.mean([abs(value - truth) <= 2 * stderr for value, stderr in headline])),
                float(np.mean([run["certificate"][0] for run in runs])),
                float(np.mean([run["fit_seconds"] + run["measure_seconds"] for run in runs])),
            )
        )
    return summaries


def table(summaries: Sequence[Summary]) -> str:
    """Markdown: one row a task for the default, then a row a variant over all tasks."""
    rows = [
        "| task | truth | mean | sd | worst seed | within 2 se | certificate | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for s in summaries:
        # One seed has no spread.
        spread = "-" if math.isnan(s.spreads[HEADLINE]) else f"{s.spreads[HEADLINE]:.3f}"
        rows.append(
            f"| {s.name} | {s.truth:.3f} | {s.means[HEADLINE]:.3f} | {spread} | {s.worst[HEADLINE]:.3f} "
            f"| {s.covered:.0%} | {s.certificate:+.3f} | {s.seconds:.0f} |"
        )
    rows += [
        "",
        "| variant | tasks | within 0.05 | within 0.1 | all seeds within 0.1 | RMSE |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(name for s in summaries for name in s.means):
        known = [s for s in summaries if name in s.means]
        error = np.array([s.means[name] - s.truth for s in known])
        rows.append(
            f"| {name} | {len(known)} | {(np.abs(error) <= 0.05).sum()} | {(np.abs(error) <= 0.1).sum()} "
            f"| {sum(s.worst[name] <= 0.1 for s in known)} | {np.sqrt((error**2).mean()):.3f} |"
        )
    return "\n".join(rows)


def write(summaries: Sequence[Summary], folder: Path) -> str:
    """Write table.md, table.csv and figure.png; returns the table."""
    text = table(summaries)
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(["task", "truth", "variant", "mean", "sd", "worst", "covered", "certificate", "seconds"])
    for s in summaries:
        for name, mean in s.means.items():
            numbers = (mean, s.spreads[name], s.worst[name], s.covered, s.certificate, s.seconds)
            writer.writerow([s.name, round(s.truth, 5), name, *(round(number, 5) for number in numbers)])
    write_whole(folder / "table.md", (text + "\n").encode())
    write_whole(folder / "table.csv", rows.getvalue().encode())
    figure = plot_errors(
        [f"{s.name}: {s.truth:.2f} nats" for s in summaries],
        [s.means[HEADLINE] - s.truth for s in summaries],
        [s.spreads[HEADLINE] for s in summaries],
        title=HEADLINE,
    )
    save_figure(figure, folder / "figure.png")
    return text
