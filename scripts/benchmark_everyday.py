"""Two arrays off the benchmark: what `estimate_mi` finds at its default settings, beside the cheap readings and the truth.

python scripts/benchmark_everyday.py                                       # all everyday tasks, 10,000 pairs, seed 101
python scripts/benchmark_everyday.py --task wave-20-0.3 --seeds 5
python scripts/benchmark_everyday.py --task student-identity-5-5-2 --pairs 2000
"""

import time
from typing import Annotated

import torch
import typer

from mmg_diffusers import Estimate, estimate_mi
from mmg_diffusers.commands.console import with_messages
from mmg_diffusers.worlds.tasks import everyday_tasks, get_task


def main(
    task: Annotated[
        list[str] | None, typer.Option(help="A key; may be repeated. All everyday tasks by default.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="To fit and to measure together.")] = 10_000,
    seeds: Annotated[int, typer.Option(help="How many.")] = 1,
    first_seed: Annotated[int, typer.Option(help="The first one.")] = 101,
) -> None:
    """Print one row a task and seed: truth, what was found, readings, seconds of one core, what was said."""
    torch.set_num_threads(1)
    typer.echo(
        "| task | pairs | seed | truth | found | readings | s | what was said |\n|---|--:|--:|--:|--:|---|--:|---|"
    )
    for key in task or list(everyday_tasks()):
        law = get_task(key)
        for seed in range(first_seed, first_seed + seeds):
            x, y = law.sample(pairs, seed)
            began = time.process_time()
            try:
                found = estimate_mi(x, y, seed=seed)
            except ValueError as error:
                number, read, said = "refused", "", str(error)
            else:
                value, stderr = found.mean()
                number, said = f"{value:.3f} ± {stderr:.3f}", "; ".join(found.warnings())
                readings = found.settings.get("readings", {}) if isinstance(found, Estimate) else {}
                read = ", ".join(f"{name} {nats:.3f}" for name, (nats, _, _) in readings.items())
            seconds = time.process_time() - began
            typer.echo(f"| {key} | {pairs} | {seed} | {law.mi_nats:.3f} | {number} | {read} | {seconds:.0f} | {said} |")


if __name__ == "__main__":
    typer.run(with_messages(main))
