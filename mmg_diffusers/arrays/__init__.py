"""Mutual information from samples alone: small networks, their training, and the front door `estimate_mi`.

May import `runs`, `analysis`, `pairs`, `measure` and below; must not import `pipelines` or `worlds`. What is trained and how stands in `losses`,
`fitting` (vectors in memory) and `trainer` (any source, any number of processes); networks in `base`, `networks` and
`image_networks`; labels compared by any denoiser in `labels`; data in `values`, `columns`, `preprocess`, `turns`, `image_preprocess`; files in `variables`, `image_data`, `checkpoints`.
What rows and columns are before anything is fitted is found out in `rows`, `discrete` and `determined`; what can be read without
a network in `counts` and `floors`, and what a fit is worth beside it in `judging`.
"""

from lazy_loader import attach_stub

from mmg_diffusers.moved import old_names

_shown, __dir__, __all__ = attach_stub(__name__, __file__)
_old = old_names(__name__)


def __getattr__(name: str) -> object:
    return _shown(name) if name in __all__ else _old(name)
