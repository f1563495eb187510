"""How much do captions say about images? The shipped model on fresh pairs of its world.

python examples/quickstart.py
"""

from typing import Annotated

import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.worlds.shapes import Shapes


def main(pairs: Annotated[int, typer.Option(help="How many pairs.")] = 16, levels: int = 32) -> None:
    """Measure, print each pair, then the mean with what a reader should know about it."""
    world = Shapes("soft")
    sample = world.sample(pairs, seed=0)
    exact = world.pointwise(sample.factors, sample.caption)

    pipe = MMGPipeline.from_pretrained(shapes_model())  # or a Stable Diffusion of your own
    out = pipe(list(sample.images), sample.prompts, levels=levels, logsnr_range=(-5.36, 2.0))

    for prompt, nats, stderr, truth in zip(sample.prompts, out.nats, out.stderr, exact, strict=True):
        print(f"{prompt:45} {nats:6.2f} +- {stderr:.2f} nats  (exactly {truth:.2f})")
    print(out)


if __name__ == "__main__":
    typer.run(main)
