"""The method's own operations, each a docstring, validation and one call.

`dpgd_step` and `dpgd_step_` run native kernels; the others run their eager twins of `segp_ext.reference` for now.
`segp_ext.build_info()` tells which path the ops take, and why.
"""

from .distill import geometry_distill
from .dpgd import dpgd_step, dpgd_step_
from .drift import prototype_drift
from .dual_target import dual_target_loss

__all__ = ["dpgd_step", "dpgd_step_", "dual_target_loss", "geometry_distill", "prototype_drift"]
