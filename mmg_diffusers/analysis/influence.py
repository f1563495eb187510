"""Where along the noise a condition speaks: prompt influence over time. See `mmg_diffusers.measure.influence`, and `Measured.influence`."""

from mmg_diffusers.measure.influence import AXES, Axis, Influence, influence, jackknife

__all__ = ["AXES", "Axis", "Influence", "influence", "jackknife"]
