"""What one run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmg_diffusers.arrays.trainer import TrainSettings


@dataclass(frozen=True)
class Plan:
    """What one run is made of; files of another plan are not mixed in.

    Args:
        train: of each of the two networks.
        widths, layers: of the U-Nets.
        logsnr_range: all information is over this range.
        held_out: pairs to measure; half as many pairs of pairs.
        watched: pairs by which the training is watched.
        shares: r, as shares of all rows; the last is 1.
        fewer: k, rows by which B_(r-k) is shorter than B_r.
        nodes: noise levels.
        batch_size: rows per forward pass of a measurement.
    """

    train: TrainSettings = field(default_factory=lambda: TrainSettings(steps=20_000, batch=128, check_every=1000))
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = 2
    logsnr_range: tuple[float, float] = (-8.0, 6.0)
    held_out: int = 1000
    watched: int = 256
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    fewer: int = 3
    nodes: int = 64
    batch_size: int = 128

    @staticmethod
    def quick() -> Plan:
        """Some twenty minutes of one core for one world and seed."""
        return Plan(
            train=TrainSettings(steps=400, batch=16, lr=2e-3, check_every=100, average=0.99),
            widths=(16, 32, 64),
            layers=1,
            held_out=128,
            watched=32,
            nodes=12,
        )
