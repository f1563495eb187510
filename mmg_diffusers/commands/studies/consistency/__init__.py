"""Self-consistency of estimates that have no truth of their own (Song and Ermon 2020, arXiv 1910.06222, section 6.2; as
MINDE, arXiv 2310.09031, and MMG, arXiv 2509.20609, measure it).

With B_r the first r rows of a picture, three ratios are known:

- baseline: I(A; B_r) / I(A; B) rises to 1 with r;
- data processing: I(A; [B_r, B_(r-k)]) / I(A; B_r) is 1, since B_r determines B_(r-k);
- additivity: I([A1, A2]; [B1_r, B2_r]) / I(A1; B1_r) is 2 for independent pairs.

A is the picture itself (`Digits`), or its caption (`ShapesRows`, where I(A; B) is known exactly). A picture determines
its rows, so I(A; B_r) of a continuous A is infinite; all is over the network's finite range of log-SNR, that is, about A
as it is seen at the cleanest level less A at the noisiest.

B_(r-k) is concatenated with B_r along channels. Pairs of pictures lie side by side: stacked along channels they would share
the filters that one picture has for itself. One network serves every r: it is trained on random r, with rows that are not
seen replaced by a learned null beside a plane that says which are. A pixel of A that is seen is known from the start, by
the linear law of pixels (see `ImageNetwork`); the ratios test the rest, that is, the marginal and the rows that are not
seen. Pairs of pictures have a network of their own, so that additivity compares two trainings.
"""

from mmg_diffusers.commands.studies.consistency.plan import Plan
from mmg_diffusers.commands.studies.consistency.running import Reading, Run, ratio_of, run
from mmg_diffusers.commands.studies.consistency.tables import frame, over_seeds, write
from mmg_diffusers.commands.studies.consistency.tasks import Task, first_rows
from mmg_diffusers.commands.studies.consistency.worlds import Digits, ShapesRows, World

__all__ = [
    "Digits",
    "Plan",
    "Reading",
    "Run",
    "ShapesRows",
    "Task",
    "World",
    "first_rows",
    "frame",
    "over_seeds",
    "ratio_of",
    "run",
    "write",
]
