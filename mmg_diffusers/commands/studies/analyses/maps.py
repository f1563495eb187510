"""Maps of captions and words, judged by the objects' masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.analysis.maps import auroc, dilate, to_pixels
from mmg_diffusers.commands.figures import plot_map_grid, save_figure
from mmg_diffusers.commands.studies.analyses.setup import (
    BAND,
    CELL,
    COVERED,
    Result,
    Row,
    Setup,
    end_of,
    share,
    sums,
)
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.value import mean_over_pairs
from mmg_diffusers.worlds.shapes import SIZE, WORDS, ShapesSample


def judge(maps: Tensor, sample: ShapesSample) -> dict[str, Any]:
    """Maps `(N, SIZE, SIZE)` against the objects: area under the curve, the brightest pixel, the grey distractor."""
    mask, distractor = (torch.from_numpy(np.asarray(part)) >= COVERED for part in (sample.mask, sample.distractor))
    near = dilate(mask, CELL)
    other = distractor & ~near
    seen = [k for k in range(len(maps)) if bool(other[k].any())]
    background = [maps[k][~(near[k] | other[k])] for k in seen]
    above = [float(maps[k][other[k]].mean() - rest.mean()) for k, rest in zip(seen, background, strict=True)]
    limit = [2 * float(rest.std()) for rest in background]
    brightest = maps.flatten(1).argmax(1)
    return {
        "auroc": mean_over_pairs(auroc(maps, near)),
        "brightest_inside": float(mask.flatten(1).gather(1, brightest[:, None]).double().mean()),
        "distractors": len(seen),
        "distractor_above_background": float(np.mean(above)) if seen else 0.0,
        "two_deviations": float(np.mean(limit)) if seen else 0.0,
        "distractor_below": float(np.mean([a < b for a, b in zip(above, limit, strict=True)])) if seen else 1.0,
        "nats": mean_over_pairs(maps.flatten(1).sum(1)),
    }


def maps(setup: Setup) -> dict[str, Any]:
    """Maps of the whole caption and of each word, judged by the objects' masks."""
    out: dict[str, Any] = {}
    shown: dict[str, Tensor] = {}
    for name in ("caption", *WORDS):
        if name == "caption":
            against = setup.filter("filter", keep="level").against_mixture
        else:
            against = setup.filter(
                f"maps-{name}", name, draws=setup.settings.map_draws, keep="level", seed=6
            ).against_mixture
        banded = to_pixels(against.pixel_map("orthogonal", BAND)[0], (SIZE, SIZE))
        whole = to_pixels(against.pixel_map("orthogonal")[0], (SIZE, SIZE))
        out[name] = {**judge(banded, setup.sample), "all levels": judge(whole, setup.sample), "map_sums": sums(against)}
        shown[name] = whole[:6]
    figure = plot_map_grid(
        setup.sample.images[:6], shown, titles=[p.replace(" on ", "\non ") for p in setup.sample.prompts[:6]]
    )
    save_figure(figure, setup.stages.folder / "maps.png", dpi=100)
    return out


def maps_rows(result: Result) -> Iterator[Row]:
    """How well maps find the objects."""
    far = max(judged["map_sums"] for judged in result.values() if isinstance(judged, dict))
    yield "maps: sum less the orthogonal value, at most", f"{far:.1e}", "1e-6", far < 1e-6
    for kind in ("caption", *WORDS):
        judged = result[kind]
        bar = {"caption": 0.95, "colour": 0.97}.get(kind)
        met = None if bar is None else judged["auroc"][0] >= bar
        cell = f"{plus_minus(judged['auroc'])} (all levels {judged['all levels']['auroc'][0]:.3f})"
        yield f"- {kind}: AUROC", cell, "" if bar is None else f"{bar} or more", met
        if kind == "colour":
            inside = judged["brightest_inside"]
            yield f"- {kind}: brightest pixel inside", f"{inside:.1%}", "95 % or more", inside >= 0.95
        if kind in ("caption", "colour"):
            above, limit = judged["distractor_above_background"], judged["two_deviations"]
            cell = f"{above:.5f}, 2 sd {limit:.5f}; below it in {judged['distractor_below']:.1%} of {judged['distractors']}"
            yield f"- {kind}: distractor's mean less the background's", cell, "below 2 sd", above < limit


def clean_end(setup: Setup) -> dict[str, Any]:
    """The clean end's share of a map with the filter's marginal, followed to the model's clean end."""
    top = setup.pipe.denoiser.logsnr_range[1]
    result = setup.filter(
        "clean",
        count=setup.settings.few,
        levels=setup.levels(top, setup.settings.steps + max(4, setup.settings.steps // 3)),
        keep="level",
        seed=7,
    )
    return {
        "clean": share(result.against_mixture),
        "end": end_of(result.against_mixture.curve),
        "pairs": setup.settings.few,
    }


def clean_end_rows(result: Result) -> Iterator[Row]:
    """The clean end's share of a map."""
    cell = f"{result['clean'][0]:.1%} ± {result['clean'][1]:.1%}"
    yield (
        f"filter to the model's clean end, {result['pairs']} pairs: share of a map from log-SNR 3 up",
        cell,
        "",
        None,
    )
