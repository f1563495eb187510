"""Tasks that know their mutual information, and tasks that know their density.

`bmi_tasks()` are the 40 of the Beyond-Normal benchmark (Czyz et al. 2023, "Beyond Normal: On the Evaluation
of Mutual Information Estimators"), under the benchmark's own keys; `high_mi_tasks()` carry 10 to 15 nats;
`discrete_tasks()` have labels or atoms; `everyday_tasks()` are what arrays look like off the benchmark, some of them
with rows that are no independent draws; and `second_tasks()` a second set of those kinds. A task's truth, in nats, is computed from a closed form or by quadrature.

    task = get_task("spiral-multinormal-sparse-3-3-2-2.0")
    x, y = task.sample(10_000, seed=0)  # (10000, 3) and (10000, 3) float64
    task.mi_nats  # 1.0217

`density_tasks()` know log p of every value, exactly, and what noise leaves of it.

    task = get_density_task("ising-8-8-0.4")
    x = task.sample(100, seed=0)  # (100, 1, 8, 8) float64
    task.law.log_prob(x), task.law.entropy  # nats
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from typing import TypeVar

import numpy as np

from mmg_diffusers.checks import of_type, shown, whole
from mmg_diffusers.worlds.tasks.cut import Cut, Exclusive, Rectified, WaveOfTwo
from mmg_diffusers.worlds.tasks.densities import DensityTask, density_tasks
from mmg_diffusers.worlds.tasks.everyday import (
    Blob,
    Confused,
    Counts,
    Determined,
    Fold,
    Modes,
    Parity,
    Repeated,
    Rounded,
    Series,
    Wave,
    WeakPairs,
    random_table,
)
from mmg_diffusers.worlds.tasks.laws import (
    AdditiveUniform,
    JointTable,
    LabelledNormal,
    LabelledUniform,
    Law,
    Multinormal,
    Pair,
    SpikeSlab,
    Student,
)
from mmg_diffusers.worlds.tasks.maps import (
    ASINH,
    BIMODAL,
    HALF_CUBE,
    NORMAL_CDF,
    SPIRAL,
    SWISSROLL_X,
    WIGGLY,
    Change,
    Map,
    Warp,
)
from mmg_diffusers.worlds.tasks.second import second_laws

__all__ = [
    "DensityTask",
    "Task",
    "bmi_tasks",
    "density_tasks",
    "discrete_tasks",
    "everyday_tasks",
    "get_density_task",
    "get_task",
    "high_mi_tasks",
    "second_tasks",
]

T = TypeVar("T")
Sampler = Callable[[int, np.random.Generator], Pair]

_BY = "\N{MULTIPLICATION SIGN}"
_QUARTERS = tuple((k - 0.5) / 4 for k in range(-18, 20))
_HIGH_MI_DIMS = (3, 5, 10, 20, 50)
_HIGH_MI_STRENGTHS = (200.0, 650.0, 1100.0, 1550.0, 2000.0)


@dataclass(frozen=True)
class Task:
    """A joint law of (x, y) whose mutual information is known.

    Attributes:
        key: the name by which `get_task` finds it.
        name: the name for tables and figures.
        dim_x: the dimension of x.
        dim_y: the dimension of y.
        mi_nats: the exact mutual information, in nats.
        classes_x: the number of labels if x is a label, else None.
        classes_y: the number of labels if y is a label, else None.
        sampler: draws n pairs from a generator.
    """

    key: str
    name: str
    dim_x: int
    dim_y: int
    mi_nats: float
    classes_x: int | None = None
    classes_y: int | None = None
    sampler: Sampler = field(kw_only=True, repr=False, compare=False)

    def sample(self, n: int, seed: int) -> Pair:
        """Draw n independent pairs.

        The same n and seed give the same arrays; a larger sample need not begin with a smaller one. Tasks
        that differ only by maps of their variables share the draws beneath.

        Args:
            n: how many pairs, 1 or more.
            seed: 0 or more.

        Returns:
            x, `(n, dim_x)`, and y, `(n, dim_y)`: float64, or int64 in 0 .. classes - 1 for a label.

        Raises:
            TypeError: for a number that is not an integer.
            ValueError: for n < 1 or seed < 0.
        """
        count = whole(n, "n", 1)
        return self.sampler(count, np.random.default_rng(whole(seed, "seed", 0)))


def bmi_tasks() -> dict[str, Task]:
    """List the 40 tasks of the Beyond-Normal benchmark by key, in the benchmark's order (Czyz et al. 2023)."""
    return _by_key(_bmi())


def high_mi_tasks() -> dict[str, Task]:
    """List tasks of 9.9, 12.3, 13.3, 14.0 and 14.5 nats by key: two correlated pairs among 3 to 50 dimensions.

    Strengths 200 to 2,000 of the benchmark's sparse multinormal, plain, half-cube and spiral. They are drawn
    in float64, since a float32 does not resolve such correlations (1 - 2.5e-7 at 14.5 nats).
    """
    return _by_key(_high_mi())


def discrete_tasks() -> dict[str, Task]:
    """List tasks with labels or atoms by key: labelled normals and uniforms, a spike and slab, a joint table."""
    return _by_key(_discrete())


def everyday_tasks() -> dict[str, Task]:
    """List tasks off the benchmark by key: waves, folds, modes, rounded columns, counts, labels, parity, pictures, warped
    normals; and independent series and repeated rows, whose samples are no independent draws.

    The truth of `determined-square` is infinite; no estimate should be given.
    """  # fmt: skip
    return _by_key(_everyday())


def second_tasks() -> dict[str, Task]:
    """List a second set of tasks by key: the kinds of `everyday_tasks` and some more, of other laws and parameters."""
    return _by_key(_second())


def get_task(key: str) -> Task:
    """Find the task of that key, in all five families.

    Raises:
        TypeError: for anything but text.
        ValueError: for an unknown key, with the keys nearest to it.
    """
    known = bmi_tasks() | high_mi_tasks() | discrete_tasks() | everyday_tasks() | second_tasks()
    where = (
        "bmi_tasks(), high_mi_tasks(), discrete_tasks(), everyday_tasks() or second_tasks(), such as '1v1-normal-0.75'"
    )
    return _found(key, known, where)


def get_density_task(key: str) -> DensityTask:
    """Find the task of that key among those that know log p.

    Raises:
        TypeError: for anything but text.
        ValueError: for an unknown key, with the keys nearest to it.
    """
    return _found(key, density_tasks(), "density_tasks(), such as 'ising-8-8-0.4'")


def _found(key: str, known: Mapping[str, T], where: str) -> T:
    of_type(key, str, "the key", f"that of a task in {where}")
    if key in known:
        return known[key]
    near = get_close_matches(key, known, n=3)
    hint = f"did you mean {' or '.join(map(shown, near))}? " if near else ""
    raise ValueError(f"no task {shown(key)}; {hint}expected a key of {where}")


def _by_key(tasks: Iterable[Task]) -> dict[str, Task]:
    return {task.key: task for task in tasks}


@dataclass(frozen=True)
class _Mapped:
    """A sampler with a map behind each variable; an object and no closure, so that a task can be pickled."""

    sampler: Sampler
    x: Map
    y: Map

    def __call__(self, n: int, rng: np.random.Generator) -> Pair:
        x, y = self.sampler(n, rng)
        return self.x(x), self.y(y)


def _task(key: str, name: str, law: Law) -> Task:
    return Task(key, name, *law.dims, law.mi_nats, *law.classes, sampler=law.draw)


def _under(change: Change, task: Task) -> Task:
    """The task after a change of both variables. Bijections keep the mutual information."""
    return replace(
        task,
        key=f"{change.key}-{task.key}",
        name=f"{change.name} @ {task.name}",
        sampler=_Mapped(task.sampler, change.x, change.y),
    )


def _dense(dim: int) -> Task:
    name = f"Multinormal {dim} {_BY} {dim} (dense)"
    return _task(f"multinormal-dense-{dim}-{dim}-0.5", name, Multinormal.dense(dim, 0.5))


def _sparse(dim: int, strength: float = 2.0) -> Task:
    about = "2-pair" if strength == 2.0 else f"2-pair, strength {strength:g}"
    name = f"Multinormal {dim} {_BY} {dim} ({about})"
    return _task(f"multinormal-sparse-{dim}-{dim}-2-{strength}", name, Multinormal.sparse(dim, strength))


def _student(dim: int, df: int) -> Task:
    name = f"Student-t {dim} {_BY} {dim} (dof={df})"
    return _task(f"student-identity-{dim}-{dim}-{df}", name, Student(dim, dim, df))


def _additive(epsilon: float) -> Task:
    name = f"Uniform 1 {_BY} 1 (additive noise={epsilon})"
    return _task(f"1v1-additive-{epsilon}", name, AdditiveUniform(epsilon))


@cache
def _bmi() -> tuple[Task, ...]:
    normal = _task("1v1-normal-0.75", f"Bivariate normal 1 {_BY} 1", Multinormal.dense(1, 0.75))
    uniform = _under(NORMAL_CDF, normal)
    sparse = [_sparse(dim) for dim in (3, 5, 25)]
    return (
        normal,
        uniform,
        _additive(0.1),
        _additive(0.75),
        replace(_under(BIMODAL, uniform), key="1v1-bimodal-0.75", name=f"Bimodal 1 {_BY} 1"),
        _under(WIGGLY, normal),
        _under(HALF_CUBE, normal),
        _student(1, 1),
        _under(ASINH, _student(1, 1)),
        replace(_under(SWISSROLL_X, uniform), name=f"Swiss roll 2 {_BY} 1", dim_x=2),
        *(_dense(dim) for dim in (2, 3, 5, 25, 50)),
        _sparse(2),
        *sparse,
        *(_student(dim, df) for dim, df in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *(_under(NORMAL_CDF, task) for task in sparse),
        *(_under(HALF_CUBE, task) for task in sparse),
        *(_under(SPIRAL, task) for task in sparse),
        *(_under(SPIRAL, _under(NORMAL_CDF, task)) for task in sparse),
        *(_under(ASINH, _student(dim, df)) for dim, df in ((2, 1), (3, 2), (5, 2))),
    )


@cache
def _high_mi() -> tuple[Task, ...]:
    plain = [_sparse(dim, strength) for dim in _HIGH_MI_DIMS for strength in _HIGH_MI_STRENGTHS]
    return (*plain, *(_under(HALF_CUBE, task) for task in plain), *(_under(SPIRAL, task) for task in plain))


@cache
def _discrete() -> tuple[Task, ...]:
    line = LabelledNormal((0.5, 0.3, 0.2), ((-2.0,), (0.5,), (3.0,)), (1.0, 0.6, 1.2))
    plane = LabelledNormal(
        weights=(0.4, 0.3, 0.2, 0.1),
        means=((0.0, 0.0), (3.0, 0.0), (0.0, 3.0), (-2.0, -2.0)),
        sds=(1.0, 0.7, 1.3, 0.5),
    )
    table = JointTable(((0.20, 0.05, 0.00, 0.05), (0.03, 0.22, 0.10, 0.00), (0.02, 0.03, 0.05, 0.25)))
    return (
        _task("labels-normal-1-3", f"Labelled normals 1 {_BY} 1 (3 labels)", line),
        _task("labels-normal-2-4", f"Labelled normals 2 {_BY} 1 (4 labels)", plane),
        _task("labels-uniform-1-5", f"Labelled uniforms 1 {_BY} 1 (5 labels)", LabelledUniform(5)),
        _task("spike_slab-0.4-0.5", f"Spike and slab 1 {_BY} 1 (atom 0.4, noise 0.5)", SpikeSlab(0.4, 0.5)),
        _task("table-3-4", f"Joint table 1 {_BY} 1 (3 {_BY} 4 labels)", table),
    )


def _warped(dim: int) -> Task:
    pairs = _task("", f"{dim} pairs of normals", WeakPairs(dim, 0.7))
    change = Change(f"warp-{dim}-{dim}", "Random invertible networks", Warp(dim, 1), Warp(dim, 2))
    return replace(_under(change, pairs), key=f"warp-{dim}-{dim}-0.7")


@cache
def _everyday() -> tuple[Task, ...]:
    modes = Modes(random_table(8, 8, 0.5, 1), 0.05)
    return (
        *(_task(f"wave-{turns}-0.3", f"sin({turns} x) in noise of 0.3", Wave(turns, 0.3)) for turns in (6, 20)),
        _task("wave-13-0.2", "sin(13 x) in noise of 0.2", Wave(13, 0.2)),
        _task("modes-8-8-0.05", f"8 {_BY} 8 table of modes of width 0.05", modes),
        _task("rounded-0.1-0.001", "Strong pair, both columns rounded to 0.1", Rounded(0.1, 0.001)),
        _task("fold-20-0.02", "One column of 20, folded, in noise of 0.02", Fold(20, 0.02)),
        _task("cut-0.25-0.003", "A column rounded to 0.25, and itself in noise of 0.003", Cut(_QUARTERS, 0.003)),
        _task(
            "cut-5-0.5",
            "Five ordinal levels, and what they are cut from in noise of 0.5",
            Cut((-1.2, -0.3, 0.5, 1.4), 0.5),
        ),
        _task("rectified-0.8", "Two normals of correlation 0.8, cut off at 0", Rectified(0.8)),
        _task("exclusive-12-0.3", "Whether two of 12 bits differ, in noise of 0.3", Exclusive(12, 0.3)),
        _task("wave_of_two-6-1-0.3", "cos(x_1 - x_6) of six columns in noise of 0.3", WaveOfTwo(6, 1, 0.3)),
        _task("counts-1-3", "Gamma means and Poisson counts", Counts(1.0, 3.0)),
        _task("confused-10-0.65", "Two columns of 10 labels", Confused(10, 0.65)),
        *(_task(f"parity-{dim}", f"Parity of {dim} signs", Parity(dim)) for dim in (4, 8)),
        _task("blob-16-0.5", f"16 {_BY} 16 pictures of a blob in noise of 0.5, and its angle", Blob(16, 0.5)),
        _task("weak_pairs-50-0.12", "50 weak linear pairs", WeakPairs(50, 0.12)),
        *(_warped(dim) for dim in (8, 16)),
        _task("series-1-0.999", "Independent series, memory 0.999", Series(1, 0.999)),
        _task("series-1-0.995", "Independent series, memory 0.995", Series(1, 0.995)),
        _task("series-2-0.95", f"Independent series 2 {_BY} 2, memory 0.95", Series(2, 0.95)),
        _task("series-3-0.99", f"Independent series 3 {_BY} 3, memory 0.99", Series(3, 0.99)),
        _task("repeated-3-3", f"Independent 3 {_BY} 3, every row three times", Repeated(3, 3)),
        _task("repeated-5-5", f"Independent 5 {_BY} 5, every row five times", Repeated(5, 5)),
        _task("determined-square", "y = x^2", Determined()),
    )


@cache
def _second() -> tuple[Task, ...]:
    return tuple(_task(*entry) for entry in second_laws())
