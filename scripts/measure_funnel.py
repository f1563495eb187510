"""What does the funnel of `pipe.rank` lose, and what does it cost? Shapes pairs, all 48 captions, against the whole posterior.

python scripts/measure_funnel.py --pairs 8 --seed 905

The default funnel was chosen on the pairs of seeds 900 to 902, the second on those of 901 and 902, the narrow one on those of 900 to 904.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mmg_diffusers import MMGPipeline
from mmg_diffusers.analysis import Funnel, Sieve
from mmg_diffusers.pipelines.shipped import model_place
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes

FUNNELS = {
    "default": Funnel(),
    "second": Funnel(first=3, until=1.0, trust=0.5, keep=5e-3, then=(Sieve(8, 2.5, trust=1.0, keep=0.02),)),
    "narrow": Funnel(trust=0.4, keep=0.02, then=(Sieve(8, 2.5, trust=0.7, keep=0.15),)),
}


def main(
    model: Annotated[str, typer.Option(help="Folder, id, or a model that ships.")] = "shapes-plain",
    pairs: Annotated[int, typer.Option(min=2, help="Of the Shapes world.")] = 8,
    seed: Annotated[int, typer.Option(help="Names the pairs.")] = 905,
    funnel: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(FUNNELS)}.")] = None,
    levels: Annotated[int, typer.Option(min=2, help="Steps of the whole path.")] = 64,
) -> None:
    """Print both posteriors' information, the loss, and the share of evaluations."""
    unknown = sorted(set(funnel or ()) - set(FUNNELS))
    if unknown:
        raise ValueError(f"there is no funnel {unknown[0]!r}; expected {', '.join(FUNNELS)}")
    pipe = MMGPipeline.from_pretrained(model_place(model))
    pipe.set_progress_bar_config(disable=True)
    sample = Shapes("soft").sample(pairs, seed)
    images, truth = list(sample.images), list(sample.prompts)
    full = pipe.classify(images, CAPTIONS, seed=1, levels=levels)
    print(f"the whole posterior: {full.bound(truth)}, {full.curve.evaluations} evaluations")
    for name in funnel or FUNNELS:
        ranked = pipe.rank(images, CAPTIONS, funnel=FUNNELS[name], seed=1, levels=levels)
        lost = full.pointwise(truth) - ranked.pointwise(truth)
        same = sum(a == b for a, b in zip(ranked.best, full.best, strict=True))
        print(f"\n{name}: {FUNNELS[name]}\n{ranked}")
        print(f"lost: {ranked.loss(full, truth)}, at most {float(lost.max()):.3f} of a pair")
        print(f"its best caption is that of the whole posterior for {same} of {pairs}")


if __name__ == "__main__":
    typer.run(main)
