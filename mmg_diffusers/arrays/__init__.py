"""Mutual information from samples alone: small networks, their training, and the front door `estimate_mi`.

May import `runs` and below; must not import `pipelines` or `worlds`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
