"""The processes of one launch, on GPUs or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import PartialState


def only_cpus() -> bool:
    """Whether there is nothing but CPUs.

    accelerate joins processes without a GPU only when it is told to use CPUs, and takes each to be alone otherwise.
    """
    return not any(device.is_available() for device in (torch.cuda, torch.backends.mps, torch.xpu))


def this_process() -> PartialState:
    """One among those that ``torchrun`` or ``accelerate launch`` started: this process, with its device.

    ``accelerate launch`` starts several processes on GPUs alone; of CPUs it starts one, whatever number it is given.
    """
    from accelerate import PartialState

    return PartialState(cpu=only_cpus())
