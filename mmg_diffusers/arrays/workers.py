"""Several processes that train and measure parts of one stack of networks, in step with each other.

What depends on all members (where levels are drawn, when rounds end) is told to all of them at every step, so that each is
trained as it would be beside the others in one process.
"""

from __future__ import annotations

import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# What a message between processes is.
_VALUES, _DONE, _FAILED = "values", "done", "failed"
# Seconds that a process is given to end.
_PATIENCE = 5


@dataclass(frozen=True)
class Part:
    """The members of a stack that are trained in this process, and what is heard of the others.

    Args:
        members: of the whole stack.
        mine: those that are trained here.
        exchange: hands values of one's own members over, and returns those of all processes, in order.
    """

    members: int
    mine: slice
    exchange: Callable[[Tensor], list[Tensor]]

    @staticmethod
    def whole(members: int) -> Part:
        """All members are trained here."""
        return Part(members, slice(0, members), lambda values: [values])

    def all(self, values: Tensor) -> Tensor:
        """`(E, ...)` of all members, from those of one's own."""
        every = self.exchange(values)
        return every[0] if len(every) == 1 else torch.cat(every)

    def noise(self, count: int, width: int, generator: torch.Generator) -> Tensor:
        """`(own members, count, width)` of the noise that is drawn for all members, so that each sees its own wherever it is trained."""
        return torch.randn((self.members, count, width), generator=generator)[self.mine]


@dataclass(frozen=True)
class Place:
    """A process among those that do a job: its number, how many there are, and how they exchange values."""

    number: int = 0
    processes: int = 1
    exchange: Callable[[Tensor], list[Tensor]] | None = None

    def part(self, members: int) -> Part:
        """The members of a stack that fall to this process; there are no fewer of them than processes."""
        if self.exchange is None:
            return Part.whole(members)
        start, end = (members * k // self.processes for k in (self.number, self.number + 1))
        return Part(members, slice(start, end), self.exchange)


# One process does all.
ALONE = Place()


class Crew:
    """Hold processes that do the same job together, of one thread each, of which this is the first; at the end of its context the others end.

    Args:
        processes: how many, with this one. Of one nothing is started.

    Raises:
        ValueError: in a process that may start no others.

    Others are started anew (spawned), so that a script which makes a crew runs again in each of them up to its
    ``if __name__ == "__main__":``.
    """

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes
        self._others: list[tuple[Any, Connection]] = []

    def __enter__(self) -> Crew:
        if self.processes > 1 and current_process().daemon:
            raise ValueError(
                f"workers is {self.processes} in a process that may start no others, as those of a pool may not; leave workers out"
            )
        context = get_context("spawn")
        with _no_interrupt():
            for number in range(1, self.processes):
                here, there = context.Pipe()
                other = context.Process(target=_serve, args=(there, number, self.processes), daemon=True)
                other.start()
                there.close()
                self._others.append((other, here))
        return self

    def __exit__(self, *exception: object) -> None:
        for other, pipe in self._others:
            pipe.close()
            other.terminate()
        for other, _ in self._others:
            other.join(_PATIENCE)
            if other.is_alive():
                other.kill()
        self._others.clear()

    def run(self, job: Callable[..., T], *args: Any, **here: Any) -> list[T]:
        """Let every process do a job, and return what each made of it, in order.

        Args:
            job: a function of a module, called with the process's `Place`, then `args`.
            here: keyword arguments for this process alone.

        Raises:
            RuntimeError: when another process has ended.
            Exception: what the job raises, in whichever process.
        """
        if not self._others:
            return [job(ALONE, *args, **here)]
        for other in self._others:
            self._send(other, (job, args))
        with _one_thread():
            own = job(Place(0, self.processes, self._exchange), *args, **here)
        return [own, *(self._receive(other) for other in self._others)]

    def _exchange(self, values: Tensor) -> list[Tensor]:
        every = [values, *(self._receive(other) for other in self._others)]
        for other in self._others:
            self._send(other, every)
        return every

    def _send(self, other: tuple[Any, Connection], message: object) -> None:
        try:
            _put(other[1], message)
        except OSError as error:
            raise _ended(other[0]) from error

    def _receive(self, other: tuple[Any, Connection]) -> Any:
        try:
            kind, value = _take(other[1])
        except (EOFError, OSError) as error:
            raise _ended(other[0]) from error
        if kind == _FAILED:
            error, told = value
            raise error from RuntimeError(f"in a worker:\n{told}")
        return value


class _LeftError(Exception):
    """The first process has ended, and with it what the others are for."""


def _serve(pipe: Connection, number: int, processes: int) -> None:
    """Do what the first process asks for, until it ends."""
    # Ctrl-C reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def exchange(values: Tensor) -> list[Tensor]:
        try:
            _put(pipe, (_VALUES, values))
            return _take(pipe)
        except (EOFError, OSError) as error:
            raise _LeftError from error

    while True:
        try:
            job, args = _take(pipe)
            try:
                answer = _DONE, job(Place(number, processes, exchange), *args)
            except _LeftError:
                return
            except Exception as error:
                answer = _FAILED, (_portable(error), traceback.format_exc())
            _put(pipe, answer)
        except (EOFError, OSError):
            return


def _put(pipe: Connection, message: object) -> None:
    # Not `send`, whose tensors travel through shared memory, of which a container may have little.
    pipe.send_bytes(pickle.dumps(message))


def _take(pipe: Connection) -> Any:
    return pickle.loads(pipe.recv_bytes())


def _portable(error: Exception) -> Exception:
    """An error as another process can read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _ended(process: Any) -> RuntimeError:
    process.join(_PATIENCE)
    return RuntimeError(
        f"a worker has ended (exit code {process.exitcode}); where a script asks for workers, the call has to stand beneath "
        'if __name__ == "__main__":, since each worker reads the script again. Or it had no memory left: ask for fewer'
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that ignore Ctrl-C from their first moment on, where that can be said: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
