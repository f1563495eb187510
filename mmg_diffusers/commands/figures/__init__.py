"""Figures from records: takes records, returns matplotlib figures; needs the extra ``plot``. Nothing else draws."""

from mmg_diffusers.commands.figures.base import check_plotting, pyplot, save_figure, style
from mmg_diffusers.commands.figures.curves import plot_audit, plot_curves, plot_influence, plot_levels, plot_mmse
from mmg_diffusers.commands.figures.maps import lay_over, plot_map_grid, plot_maps, strip
from mmg_diffusers.commands.figures.studies import plot_errors, plot_pointwise, plot_ratios, plot_switching, plot_words

__all__ = [
    "check_plotting",
    "lay_over",
    "plot_audit",
    "plot_curves",
    "plot_errors",
    "plot_influence",
    "plot_levels",
    "plot_map_grid",
    "plot_maps",
    "plot_mmse",
    "plot_pointwise",
    "plot_ratios",
    "plot_switching",
    "plot_words",
    "pyplot",
    "save_figure",
    "strip",
    "style",
]
