"""Mutual information from samples alone: small networks, their training, and the front door `estimate_mi`.

May import `runs`, `analysis`, `pairs`, `measure` and below; must not import `pipelines` or `worlds`. What is trained and how stands in `losses`,
`fitting` (vectors in memory) and `trainer` (any source, any number of processes); networks in `base`, `networks` and
`image_networks`; labels compared by any denoiser in `labels`; data in `values`, `columns`, `preprocess`, `image_preprocess`; files in `variables`, `image_data`, `checkpoints`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
