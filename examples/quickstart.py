"""How much do captions say about images? A model that was trained as published ones are, on fresh pairs of its world.

python examples/quickstart.py
"""

from typing import Annotated

import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes


def main(pairs: Annotated[int, typer.Option(help="How many pairs.")] = 8, levels: int = 24) -> None:
    """Measure, print each pair, then the mean with its verdict and what a reader should know about it."""
    world = Shapes("soft")
    sample = world.sample(pairs, seed=0)
    images, prompts = list(sample.images), sample.prompts
    exact = world.pointwise(sample.factors, sample.caption)

    pipe = MMGPipeline.from_pretrained(shapes_model("shapes-plain"))  # or a Stable Diffusion of your own
    # Against the captions that there are: a lower bound in the mean, whatever the network's errors. A single pair may lie on either side.
    found = pipe.filter(images, prompts, CAPTIONS, levels=levels, logsnr_range=(-5.36, 6.0), prune=1e-5)
    for prompt, nats, truth in zip(prompts, found.nats, exact, strict=True):
        print(f"{prompt:45} {nats:6.2f} nats  (exactly {truth:.2f})")
    print(found)
    print(f"exactly {exact.mean():.3f} nats in the mean over these pairs; captions hold {world.entropy():.3f} at most")

    # Against the null prompt, as is commonly done, the same model reads several times what captions can hold: its null is no marginal of
    # theirs. The ceiling is known here, so that the verdict says so.
    out = pipe(images, prompts, levels=levels, logsnr_range=(-5.36, 6.0), entropy=world.entropy())
    print(f"\nagainst the null prompt:\n{out}")


if __name__ == "__main__":
    typer.run(main)
