"""Jobs for `test_workers`, in a module that is read quickly by each process."""

import os

import torch


class TwoArgumentsError(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def told(place, values, scale=1.0):
    """What a process is given of the members 0, 1, ..., and what it hears of the others."""
    part = place.part(len(values))
    return (
        place.number,
        part.mine,
        part.all(torch.tensor(values[part.mine]) * 2.0).tolist(),
        scale,
        torch.get_num_threads(),
    )


def fail(place, error):
    """Raise in the second process, while the first one waits for it."""
    if place.number:
        raise error
    place.part(2).all(torch.zeros(1))


def fail_twice(place):
    if place.number:
        raise TwoArgumentsError("one", "two")
    place.part(2).all(torch.zeros(1))


def leave(place):
    """End the second process, as a lack of memory does."""
    if place.number:
        os._exit(9)
    place.part(2).all(torch.zeros(1))


def wait(place, path):
    """Write the process's id, and go on exchanging values until the end of days."""
    (path / str(place.number)).write_text(str(os.getpid()))
    while True:
        place.part(2).all(torch.zeros(1))
