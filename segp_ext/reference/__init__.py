"""Eager twins of `segp_ext.ops`: the equations as the paper writes them, exact in float64. They check no arguments."""

from .distill import geometry_distill
from .dpgd import dpgd_step, dpgd_step_
from .drift import prototype_drift
from .dual_target import dual_target_loss
from .transfer import prototype_transfer

__all__ = ["dpgd_step", "dpgd_step_", "dual_target_loss", "geometry_distill", "prototype_drift", "prototype_transfer"]
