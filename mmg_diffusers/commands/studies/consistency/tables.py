"""What is written: a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmg_diffusers.checks import needs
from mmg_diffusers.commands.figures import plot_ratios
from mmg_diffusers.commands.studies.consistency.plan import Plan
from mmg_diffusers.commands.studies.consistency.running import Reading
from mmg_diffusers.commands.studies.consistency.worlds import ShapesRows, World
from mmg_diffusers.measure.moments import Form

if TYPE_CHECKING:
    import pandas

RATIOS = ("baseline", "data processing", "additivity")


def frame(readings: Sequence[Reading]) -> pandas.DataFrame:
    """One row a reading."""
    needs("pandas", "data")
    import pandas

    return pandas.DataFrame(
        {
            "ratio": reading.ratio,
            "rows": reading.rows,
            "form": reading.form,
            "seed": reading.seed,
            "value": reading.value.value,
            "stderr": reading.value.stderr,
            "nats": reading.nats.value,
            "nats_stderr": reading.nats.stderr,
            "certificate": reading.certificate.value,
            "certificate_stderr": reading.certificate.stderr,
        }
        for reading in readings
    )


def over_seeds(readings: Sequence[Reading], form: Form) -> pandas.DataFrame:
    """Ratios and nats of one form averaged over seeds, by ratio and rows.

    The error joins the held-out pairs, which all seeds share, and the scatter of the seeds' means.
    """
    needs("pandas", "data")
    import pandas

    table = frame([reading for reading in readings if reading.form == form])

    def joined(group: pandas.DataFrame) -> pandas.Series:
        values = group["value"].to_numpy()
        scatter = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
        return pandas.Series(
            {
                "value": values.mean(),
                "error": float(np.sqrt((group["stderr"] ** 2).mean() + scatter)),
                "nats": group["nats"].mean(),
                "nats_error": float(np.sqrt((group["nats_stderr"] ** 2).mean())),
            }
        )

    found = table.groupby(["ratio", "rows"])[["value", "stderr", "nats", "nats_stderr"]].apply(joined)
    assert isinstance(found, pandas.DataFrame)
    return found


def write(world: World, plan: Plan, readings: Sequence[Reading], folder: Path, form: Form = "balanced") -> str:
    """Write table.csv (all forms and seeds), table.md and figure.png; returns the table."""
    frame(readings).to_csv(folder / "table.csv", index=False)
    table = over_seeds(readings, form)
    low, high = plan.logsnr_range
    seeds = len({reading.seed for reading in readings})
    lines = [
        f"{world.name}: {form}, log-SNR {low:g} to {high:g}, {plan.held_out} held-out pairs, {seeds} training"
        f"{'s' if seeds > 1 else ''}; data processing with k = {plan.fewer}",
        "",
        "| r | I(A; B_r) in nats | baseline, to 1 | data processing, 1 | additivity, 2 |",
        "|--:|--:|--:|--:|--:|",
    ]
    for r in table.loc["baseline"].index:
        nats, error = table.loc[("baseline", r), ["nats", "nats_error"]]
        cells = [f"{table.loc[(ratio, r), 'value']:.3f} ± {table.loc[(ratio, r), 'error']:.3f}" for ratio in RATIOS]
        lines.append(f"| {r} | {nats:.2f} ± {error:.2f} | {' | '.join(cells)} |")
    if isinstance(world, ShapesRows):
        exact = world.exact(plan.held_out)
        lines += ["", f"exact I(A; B): {world.truth:.3f} nats, over these pairs {float(exact.mean()):.3f}"]
    text = "\n".join(lines)
    (folder / "table.md").write_text(text + "\n")
    drawn = {
        ratio: (
            table.loc[ratio].index.to_numpy(),
            table.loc[ratio]["value"].to_numpy(),
            table.loc[ratio]["error"].to_numpy(),
        )
        for ratio in RATIOS
    }
    targets = {"baseline": (1.0, 0.0), "data processing": (1.0, 0.05), "additivity": (2.0, 0.1)}
    plot_ratios(drawn, targets, title=world.name).savefig(folder / "figure.png", dpi=110)
    return text
