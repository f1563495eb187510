"""What noise levels look like: a picture of the Shapes world along log-SNR, above what captions tell at each level.

The noise of the picture is that of its pixels, to be seen; the model's is that of its latent.

python scripts/draw_levels.py
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.commands.figures import check_plotting, plot_levels, save_figure
from mmg_diffusers.denoisers import add_noise
from mmg_diffusers.pairs import read_picture
from mmg_diffusers.pairs.plan import LEVELS
from mmg_diffusers.worlds.shapes import Shapes

SHOWN = (-5.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0)


def main(
    pairs: Annotated[int, typer.Option(min=2, help="Whose captions are measured.")] = 40,
    levels: int = LEVELS,
    output: Path = Path("runs/levels/levels.png"),
) -> None:
    """Draw the first of some fresh pairs at seven levels, and the curves of all of them."""
    check_plotting()
    sample = Shapes("soft").sample(pairs, seed=0)
    pipe = MMGPipeline.from_pretrained(shapes_model("shapes-plain"))
    pipe.set_progress_bar_config(leave=False)
    x = 2 * read_picture(sample.images[0]).pixels[None].double() - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shown = {}
    for level in SHOWN:
        noisy = add_noise(x, torch.tensor([level], dtype=torch.float64), noise)[0]
        shown[level] = ((noisy + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    estimate = pipe(list(sample.images), sample.prompts, levels=levels)
    title = f'"{sample.prompts[0]}" at seven noise levels; below, what {pairs} captions tell'
    figure = plot_levels(shown, estimate, title=title)
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"wrote {save_figure(figure, output)}")


if __name__ == "__main__":
    typer.run(main)
