"""Which of several prompts fits an image, and how much does the image tell? No unconditional branch is needed.

python examples/candidates.py
"""

import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.worlds.shapes import Shapes


def main(pairs: int = 12, steps: int = 32) -> None:
    """Compare four colours, all else equal, and bound the information from below."""
    pipe = MMGPipeline.from_pretrained(shapes_model())
    pipe.set_progress_bar_config(leave=False)
    sample = Shapes("hard").sample(400, seed=1)
    place = "a large {} circle on the left"
    candidates = [place.format(colour) for colour in ("red", "yellow", "green", "blue")]
    chosen = [k for k, prompt in enumerate(sample.prompts) if prompt in candidates][:pairs]
    truth = [sample.prompts[k] for k in chosen]

    result = pipe.classify(list(sample.images[chosen]), candidates, levels=steps, logsnr_range=(-5.36, 3.0))

    for best, true, row in zip(result.best, truth, result.posterior, strict=True):
        print(f"{true:32} -> {best:32} {row.max():.3f}")
    print(f"I(image; colour) >= {result.bound(truth)}; no more than H = {result.entropy:.4f} nats")


if __name__ == "__main__":
    typer.run(main)
