"""Folds that are fitted in several processes: the same numbers, and an end whatever happens in one of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import current_process
from pathlib import Path

import numpy as np
import pytest
import torch

from mmg_diffusers import estimate_mi
from mmg_diffusers.arrays.fitting import FitSettings
from mmg_diffusers.arrays.folds import Asked, Fold, fit_and_measure
from mmg_diffusers.arrays.workers import ALONE, Crew, Place
from tests.arrays import jobs

QUICK = FitSettings(steps=6, pilot=3, batch=16, warmup=2, least_gain=-100, least_more=-100)
SCRIPT = """
import signal
from pathlib import Path
from mmg_diffusers.arrays.workers import Crew
from tests.arrays.jobs import wait
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    with Crew(2) as crew:
        crew.run(wait, Path(FOLDER))
"""


def bent(count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1))
    return x, np.abs(x) + 0.3 * rng.standard_normal((count, 1))


def in_threads(job, processes):
    """Do a job in so many places of this process, which exchange values as processes do."""
    barrier, values, done = threading.Barrier(processes), [None] * processes, [None] * processes

    def exchange(number):
        def hear(own):
            values[number] = own
            barrier.wait(30)
            every = list(values)
            barrier.wait(30)
            return every

        return hear

    def run(number):
        try:
            done[number] = job(Place(number, processes, exchange(number)))
        except BaseException as error:
            done[number] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return done


@pytest.mark.parametrize("same", [True, False])
def test_each_member_is_trained_as_beside_the_others(same):
    """Weights, levels, ends of rounds and the range of levels; and parts that keep other columns, which make no stack."""
    folds = []
    for seed in range(3):
        x, y = bent(330 + 4 * seed, seed)
        if not same and seed == 0:
            x = np.hstack([x, x])  # a copy, which is left out
        elif not same:
            x = np.hstack([x, np.random.default_rng(seed).standard_normal((len(x), 1))])
        data = [{"x": x[rows], "y": y[rows]} for rows in (slice(200), slice(200, 230), slice(230, None))]
        folds.append(Fold(*data))
    steps = {1: [], 2: []}

    def job(place):
        count = steps[place.processes].append if place.number == 0 else None
        return fit_and_measure(place, folds, Asked(width=8), QUICK, None, 3, count)

    whole, model = job(ALONE)
    (first, own), (second, _) = in_threads(job, 2)
    assert [len(part) for part in (first, second)] == [1, 2]
    for one, other in zip(whole, [*first, *second], strict=True):
        assert torch.allclose(one.nats, other.nats, atol=1e-4)
        for name in ("fit", "range", "pairs_fitted", "fit_steps", "diffused"):
            assert one.settings[name] == other.settings[name]
    assert model.fitted.rounds == pytest.approx(own.fitted.rounds, abs=1e-5)
    assert sum(steps[1]) == sum(steps[2]) > 0
    assert abs(whole[1].mean().value - whole[2].mean().value) > 1e-4


def test_workers_find_what_one_process_finds():
    x, y = bent(300)
    steps = {1: 0, 2: 0}

    def found(workers):
        def count(done):
            steps[workers] += done

        return estimate_mi(x, y, folds=3, workers=workers, settings=QUICK, seed=5, progress=count)

    one, two = found(1), found(2)
    assert torch.allclose(one.nats, two.nats, atol=1e-4)
    assert one.allowance.errors == pytest.approx(two.allowance.errors, abs=1e-4)
    assert steps == {1: 6, 2: 6}


def test_a_crew_does_jobs_and_tells_of_errors():
    threads = torch.get_num_threads()
    assert [answer[:4] for answer in Crew().run(jobs.told, [1, 2], scale=3)] == [(0, slice(0, 2), [2, 4], 3)]
    with Crew(2) as crew:
        one, two = crew.run(jobs.told, [1, 2, 3], scale=3)
        assert one == (0, slice(0, 1), [2, 4, 6], 3, 1)
        assert two == (1, slice(1, 3), [2, 4, 6], 1, 1)
        with pytest.raises(ValueError, match="no numbers") as caught:
            crew.run(jobs.fail, ValueError("no numbers"))
        assert "jobs.py" in str(caught.value.__cause__)
        with pytest.raises(RuntimeError, match="TwoArgumentsError: one and two"):
            crew.run(jobs.fail_twice)
        with pytest.raises(RuntimeError, match=r"has ended \(exit code 9\).*__main__"):
            crew.run(jobs.leave)
    assert torch.get_num_threads() == threads


def test_a_process_of_a_pool_starts_none(monkeypatch):
    monkeypatch.setitem(current_process()._config, "daemon", True)
    with pytest.raises(ValueError, match="workers is 2 in a process that may start no others"):
        Crew(2).__enter__()
    with Crew(1) as crew:
        assert len(crew.run(jobs.told, [1])) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
def test_an_interrupt_ends_all(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FOLDER", repr(str(tmp_path))))
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    ids = [tmp_path / "0", tmp_path / "1"]
    until = time.monotonic() + 120
    while not all(path.exists() and path.read_text() for path in ids):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert said.count("KeyboardInterrupt") == 1  # the first process's own
    with pytest.raises(ProcessLookupError):
        os.kill(int(ids[1].read_text()), 0)
