"""Long runs: shards that are written as they finish, processes, stages; resumed where they stopped.

May import `analysis` and below; takes what measures as a function, so that it knows no pipeline.
"""

from mmg_diffusers.moved import old_names
from mmg_diffusers.runs.distributed import run_everywhere
from mmg_diffusers.runs.parts import Expected, Part
from mmg_diffusers.runs.shards import CHUNK, Failure, Outcome, RunFolder, collect, run
from mmg_diffusers.runs.stages import Stages

__all__ = [
    "CHUNK",
    "Expected",
    "Failure",
    "Outcome",
    "Part",
    "RunFolder",
    "Stages",
    "collect",
    "run",
    "run_everywhere",
]

__getattr__ = old_names(__name__)
