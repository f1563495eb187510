"""Draw with one prompt until tau, with another after it: which one does the picture follow? (MINDE, figure 10)

    python scripts/prompt_switching.py
    python scripts/prompt_switching.py --first "a small red circle on the left" --second "a small blue circle on the left"
    python scripts/prompt_switching.py --marginal shapes          # pictures may also follow any other caption

The posterior of the final pictures over the candidates (the two prompts by default), beside the information about which of
the two it is that has arrived at each noise level, in pictures that were drawn with one prompt throughout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save_file

from mmg_diffusers import Candidates, MMGPipeline, shapes_model
from mmg_diffusers.analysis.influence import AXES, Axis, Influence
from mmg_diffusers.commands.figures import plot_switching
from mmg_diffusers.commands.inputs import read_marginal
from mmg_diffusers.measure.estimate import Value
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pipelines.drawing import Switching, switch_prompts


def told(value: Value | None, digits: int) -> str:
    if value is None or not np.isfinite(value.value):
        return "nowhere"
    return f"{value.value:.{digits}f} ± {value.stderr:.{digits}f}"


def arrival(pipe: MMGPipeline, found: Switching, levels: tuple[float, ...], seed: int) -> Influence:
    """Which of the two prompts it is, in pictures that were drawn with one of them from the start to the end.

    Raises:
        ValueError: where the switch was not tried at both ends.
    """
    first, second = found.candidates[found.first], found.candidates[found.second]
    if int(found.step[0]) != 0 or float(found.tau[-1]) != 0.0:
        raise ValueError("expected the switch at tau 0 and 1 as well, for pictures that follow one prompt throughout")
    count = found.images.shape[1]
    images = [*found.images[-1], *found.images[0]]
    prompts = [first] * count + [second] * count
    among = Candidates((first, second))
    return pipe.filter(images, prompts, among, levels=levels, seed=seed).influence(found.convention)


def main(
    model: Annotated[str | None, typer.Option(help="Folder or id; the shipped model by default.")] = None,
    first: Annotated[str, typer.Option(help="Prompt before the switch.")] = "a large red circle on the left",
    second: Annotated[str, typer.Option(help="Prompt after it.")] = "a large blue circle on the right",
    marginal: Annotated[
        str | None, typer.Option(help="What pictures are read as: a file of candidates, or shapes; the two by default.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images at each switching time.")] = 32,
    sampling_steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 50,
    guidance: Annotated[float, typer.Option(help="Above 1, pictures do not sample p(x | y).")] = 1.0,
    times: Annotated[int, typer.Option(help="Switching times, even in tau, both ends among them.")] = 11,
    tau: Annotated[list[float] | None, typer.Option(help="Further switching times, 0 to 1.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the candidates' noise path.")] = 26,
    high: Annotated[float, typer.Option(help="Highest log-SNR of the candidates' path.")] = 4.0,
    axis: Annotated[Axis, typer.Option(help="Of the figure.")] = "tau",
    shown: Annotated[int, typer.Option(help="Pictures of each time in the figure.")] = 4,
    seed: int = 7007,
    output: Annotated[Path, typer.Option(help="Folder for numbers and the figure.")] = Path("runs/switching"),
) -> None:
    """Draw, classify, and write switching.json, switching.safetensors (pictures and posteriors) and switching.png."""
    import matplotlib

    matplotlib.use("Agg")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    among = None if marginal is None else read_marginal(marginal, [first, second])
    if among is not None and not isinstance(among, Candidates):
        raise ValueError(
            f"the marginal is {marginal!r}; pictures are read as candidates: give a file of them, or shapes"
        )
    levels = AtLevels.widening(pipe.denoiser.logsnr_range[0], high, steps + 1).levels
    found = switch_prompts(
        pipe,
        first,
        second,
        [*np.linspace(0, 1, max(2, times)), *(tau or [])],
        count=count,
        candidates=among,
        steps=sampling_steps,
        guidance=guidance,
        levels=levels,
        seed=seed,
    )
    curve = arrival(pipe, found, levels, seed)
    arrived = float(curve.nats[:, 0].mean()) > 0
    (share, stderr), (other, _) = found.share(), found.share(found.second)
    halves = {one: {"first_wins": found.half(one), "information": curve.half(one) if arrived else None} for one in AXES}
    output.mkdir(parents=True, exist_ok=True)
    save_file({"images": found.images, "posterior": found.posterior.numpy()}, output / "switching.safetensors")
    (output / "switching.json").write_text(
        json.dumps(
            {
                "first": first,
                "second": second,
                "candidates": list(found.candidates),
                "switch_at_step": found.step.tolist(),
                "switch_at_logsnr": found.logsnr.tolist(),
                "switch_at_tau": found.tau.tolist(),
                "first_wins": share.tolist(),
                "stderr": stderr.tolist(),
                "second_wins": other.tolist(),
                "half_at": halves,
                "information": [float(part[0]) for part in curve.mean()],
                "warnings": list(found.notes),
                "settings": {
                    "count": count,
                    "sampling_steps": sampling_steps,
                    "scheduler": type(pipe.pipe.components["scheduler"]).__name__,
                    "guidance": guidance,
                    "levels": levels,
                    "seed": seed,
                },
            },
            indent=1,
        )
    )
    print("| switch at tau | log-SNR | follow the first | follow the second |\n|--:|--:|--:|--:|")
    for row in zip(found.tau, found.logsnr, share, stderr, other, strict=True):
        print("| {:.3f} | {:.2f} | {:.3f} ± {:.3f} | {:.3f} |".format(*map(float, row)))
    ours = {one: halves[one] for one in ("tau", "logsnr")}
    wins, half = (
        [told(ours[one][name], 3 if one == "tau" else 2) for one in ours] for name in ("first_wins", "information")
    )
    print(f"the first prompt wins half of the time from tau {wins[0]}, log-SNR {wins[1]}")
    print(f"half of the information has arrived at tau {half[0]}, log-SNR {half[1]}")
    for note in found.notes:
        print(f"warning: {note}")
    if arrived:
        both = (halves[axis]["first_wins"].value, halves[axis]["information"].value)
        at = {"tau": found.tau, "logsnr": found.logsnr, "timestep": found.convention.timestep(found.logsnr)}[axis]
        figure = plot_switching(
            at.numpy(),
            share.numpy(),
            stderr.numpy(),
            curve,
            found.images[:, :shown],
            axis=axis,
            halves=both,
            title=f"{first}, then {second}",
        )
        figure.savefig(output / "switching.png", dpi=110)


if __name__ == "__main__":
    typer.run(main)
