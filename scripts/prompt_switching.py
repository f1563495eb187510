"""Draw with one prompt until tau, with another after it: which one does the picture follow?

    python scripts/prompt_switching.py
    python scripts/prompt_switching.py --first "a small red circle on the left" --second "a small blue circle on the left"

The posterior of the final images over the two prompts, beside the influence of the prompt at each noise level.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.influence import influence
from mmg_diffusers.plotting import plot_switching


def draw(pipe: MMGPipeline, first: str, second: str, switch: int, count: int, steps: int, seed: int) -> np.ndarray:
    """`(count, H, W, 3)` images whose first `switch` steps follow `first` and the others `second`, at guidance 1."""
    plain: Any = pipe.pipe
    other = pipe.encoder.condition([second] * count)["encoder_hidden_states"]

    def change(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": other} if step + 1 >= switch else {}

    made = plain(
        [first if switch > 0 else second] * count,
        num_inference_steps=steps,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        callback_on_step_end=change,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    return made.images.clip(0, 1)


def crossing(levels: np.ndarray, share: np.ndarray) -> float:
    """The level at which the first prompt's share rises through one half, interpolated; NaN where it does not."""
    for k in range(1, len(share)):
        if share[k - 1] < 0.5 <= share[k]:
            return float(levels[k - 1] + (0.5 - share[k - 1]) / (share[k] - share[k - 1]) * (levels[k] - levels[k - 1]))
    return float("nan")


def main(
    model: Annotated[str | None, typer.Option(help="Pipeline folder or id; the shipped model by default.")] = None,
    first: str = "a large red circle on the left",
    second: str = "a large blue circle on the right",
    count: Annotated[int, typer.Option(help="Images at each switching time.")] = 32,
    steps: int = 50,
    times: Annotated[int, typer.Option(help="Switching times, from none to all.")] = 11,
    levels: int = 48,
    seed: int = 7007,
    output: Annotated[Path, typer.Option(help="Folder for numbers and the figure.")] = Path("runs/switching"),
) -> None:
    """Draw, classify, and write switching.json and switching.png."""
    import matplotlib

    matplotlib.use("Agg")
    pipe = MMGPipeline.from_pretrained(model or shapes_model())
    plain: Any = pipe.pipe
    plain.set_progress_bar_config(disable=True)
    plain.scheduler.set_timesteps(steps)
    used = plain.scheduler.timesteps.clone()
    switches = np.unique(np.linspace(0, steps, times).round().astype(int))
    logsnr = np.array([_level(pipe, used, int(switch)) for switch in switches])
    images = [draw(pipe, first, second, int(switch), count, steps, seed) for switch in switches]
    shares, errors = [], []
    for drawn in images:
        found = pipe.classify(list(drawn), [first, second], levels=levels, seed=seed)
        follows = found.posterior[:, 0]
        shares.append(float(follows.mean()))
        errors.append(float(follows.std()) / count**0.5)
    own = list(images[-1])
    curve = influence(pipe(own, first, levels=64, seed=seed, integrand="gap"))
    against = pipe.filter(own, first, [first, second], levels=levels, seed=seed).influence()
    half = {"null prompt": curve.half(), "against the other prompt": against.half()}
    wins = crossing(logsnr, np.array(shares))
    output.mkdir(parents=True, exist_ok=True)
    (output / "switching.json").write_text(
        json.dumps(
            {
                "first": first,
                "second": second,
                "switch_at_step": switches.tolist(),
                "switch_at_logsnr": logsnr.tolist(),
                "first_wins": shares,
                "stderr": errors,
                "first_wins_half_at_logsnr": wins,
                "half_of_the_information_at_logsnr": half,
            },
            indent=1,
        )
    )
    print("| switch at log-SNR | share that follows the first |\n|--:|--:|")
    for level, share, error in zip(logsnr, shares, errors, strict=True):
        print(f"| {level:.2f} | {share:.3f} ± {error:.3f} |")
    print(f"the first prompt wins half of the time from log-SNR {wins:.2f}")
    for name, value in half.items():
        print(f"half of the information ({name}) has arrived at log-SNR {value.value:.2f} ± {value.stderr:.2f}")
    figure = plot_switching(
        logsnr, shares, errors, against, [drawn[:3] for drawn in images], title=f"{first}, then {second}"
    )
    figure.savefig(output / "switching.png", dpi=110)


def _level(pipe: MMGPipeline, used: torch.Tensor, switch: int) -> float:
    """The log-SNR that the second prompt starts from."""
    convention: Any = pipe.denoiser.convention
    if switch >= len(used):
        return pipe.denoiser.logsnr_range[1]
    row = int((convention.timesteps - used[switch]).abs().argmin())
    return float(convention.levels[row])


if __name__ == "__main__":
    typer.run(main)
