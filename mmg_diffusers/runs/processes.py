"""The processes of one launch, on GPUs or without."""

from __future__ import annotations

import atexit
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.distributed

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

    leave_at_exit()
    return PartialState(cpu=only_cpus())


@cache
def leave_at_exit() -> None:
    """Let this process leave its group when Python ends: threads of a group that is still there then may abort it, and with it a
    launch whose other processes are still at work.
    """
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
