"""One estimate by a peer's package, in a process of its own: `peers.py` starts it with that environment's Python.

    python peer_estimators.py NAME pairs.npz        # prints one line of JSON

It imports numpy and the one package alone, since our own package is not in that environment. Settings are each package's defaults; where a
package has no default length of training, the 3,000 steps of its README; where its default takes hours, as many steps as take minutes. `seconds` are of this
process's CPU, from arrays to a number, without imports.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402  (threads are counted when it is imported)
from numpy.typing import NDArray  # noqa: E402

Array = NDArray[np.float64]
Estimator = Callable[[Array, Array, int], float]
# diffusion-mi's MMG has no default of its own; its README trains so long. Its MINDE reads epochs alone, 1,000 by default, in batches of 64:
# of 10,000 pairs that would be half an hour, so that steps are at most so many, two minutes of a core.
STEPS, EPOCHS, BATCH, MOST_STEPS = 3000, 1000, 64, 20_000
# Of estimators that are fitted first and then measure: the share that they measure, as `estimate_mi` has it.
SHARE = 0.3


def _bmi(name: str, seeded: bool = True) -> Callable[[], Estimator]:
    def load() -> Estimator:
        from bmi import estimators  # type: ignore[import-not-found]

        def estimate(x: Array, y: Array, seed: int) -> float:
            made = getattr(estimators, name)(**({"seed": seed, "verbose": False} if seeded else {}))
            return float(made.estimate(x, y))

        return estimate

    return load


def _mist(name: str) -> Callable[[], Estimator]:
    def load() -> Estimator:
        import torch
        from torch_mist import estimate_mi  # type: ignore[import-not-found]

        def estimate(x: Array, y: Array, seed: int) -> float:
            torch.manual_seed(seed)
            torch.set_num_threads(1)
            data = {"x": torch.tensor(x).float(), "y": torch.tensor(y).float()}
            # Two layers, as in its README's longer example; critics have no default size.
            found: Any = estimate_mi(data, estimator=name, hidden_dims=[64, 32], verbose=False, logger=False)
            return float(found[0] if isinstance(found, tuple) else found)

        return estimate

    return load


def _dmi(name: str) -> Callable[[], Estimator]:
    def load() -> Estimator:
        import torch
        from dmi import estimators  # type: ignore[import-not-found]

        def estimate(x: Array, y: Array, seed: int) -> float:
            torch.manual_seed(seed)
            torch.set_num_threads(1)
            rows = np.random.default_rng(seed).permutation(len(x))
            test, train = np.split(rows, [round(SHARE * len(x))])
            if name == "MINDEEstimator":
                epochs = min(EPOCHS, MOST_STEPS // math.ceil(len(train) / BATCH))
                made = estimators.MINDEEstimator(max_epochs=epochs, seed=seed)
                made.fit(x[train], y[train])
                return float(made.estimate(x[test], y[test]))
            # As in the package's own example: standardised by the pairs to fit, and those to measure are looked at, which decides nothing.
            made = estimators.MMGEstimator(max_n_steps=STEPS, seed=seed)
            x, y = ((values - values[train].mean(0)) / values[train].std(0) for values in (x, y))
            made.fit(x[train], y[train], x[test], y[test])
            return float(made.estimate(x[test], y[test]))

        return estimate

    return load


# By name: the package on PyPI, the module that is missing if it is not installed, and what loads the estimator.
ESTIMATORS: dict[str, tuple[str, str, Callable[[], Estimator]]] = {
    "KSG": ("benchmark-mi", "bmi", _bmi("KSGEnsembleFirstEstimator", seeded=False)),
    "CCA": ("benchmark-mi", "bmi", _bmi("CCAMutualInformationEstimator", seeded=False)),
    "MINE": ("benchmark-mi", "bmi", _bmi("MINEEstimator")),
    "InfoNCE": ("benchmark-mi", "bmi", _bmi("InfoNCEEstimator")),
    "NWJ": ("benchmark-mi", "bmi", _bmi("NWJEstimator")),
    "SMILE": ("torch-mist", "torch_mist", _mist("smile")),
    "DoE": ("torch-mist", "torch_mist", _mist("doe")),
    "MINDE": ("diffusion-mi", "dmi", _dmi("MINDEEstimator")),
    "MMG (theirs)": ("diffusion-mi", "dmi", _dmi("MMGEstimator")),
}


def main(name: str, path: str) -> None:
    """Estimate and print `{"found", "seconds"}`, or `{"missing"}` for a package that is not installed."""
    package, module, load = ESTIMATORS[name]
    with np.load(path, allow_pickle=False) as arrays:
        x, y, seed = arrays["x"], arrays["y"], int(arrays["seed"])
    # What a package prints is not for our one line.
    with redirect_stdout(sys.stderr):
        try:
            estimate = load()
        except ModuleNotFoundError as error:
            answer: dict[str, Any] = {"missing": package, "module": error.name or module}
        else:
            began = time.process_time()
            found = estimate(x, y, seed)
            answer = {"found": found, "seconds": time.process_time() - began}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:3])
