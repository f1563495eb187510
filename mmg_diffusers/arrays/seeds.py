"""Random numbers of fits and networks: generators of their own, so that torch's global one stays where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmg_diffusers.checks import whole

# torch's generators on the CPU read these bits of a seed: without a digest, seeds that differ above them would be one.
_BITS = 32


def folded(number: int) -> int:
    """A number from 0 as one of 32 bits: itself if it has no more, else a digest of it."""
    if number < 2**_BITS:
        return number
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[: _BITS // 8], "little")


def generator_of(number: int) -> torch.Generator:
    """A new generator on the CPU; numbers of any size give streams that differ."""
    return torch.Generator().manual_seed(folded(number))


def step_generator(seed: int, step: int, process: int = 0, processes: int = 1) -> torch.Generator:
    """The random numbers of one step of a training, a function of the arguments alone."""
    return generator_of(((seed << 24) + step) * processes + process)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator on the CPU begin with a seed, and put it back afterwards.

    For modules of other libraries, whose starting weights have no generator of their own.

    Raises:
        TypeError, ValueError: if the seed is not a whole number from 0 to 2^63 - 1.
    """
    seed = whole(seed, "seed", 0)
    before = torch.get_rng_state()
    try:
        # Not torch.manual_seed, which reseeds the generators of all devices.
        torch.default_generator.manual_seed(folded(seed))
        yield
    finally:
        torch.set_rng_state(before)
