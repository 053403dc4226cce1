"""The method's own operations, each a docstring, validation and one call of a native kernel.

`segp_ext.build_info()` tells whether the kernels or their eager twins of `segp_ext.reference` run, and why; inside
`with ops.eager():` the twins do. So do they under torch.func's transforms (vmap, grad, jvp, ...) and forward-mode differentiation, which
see through torch's own operations alone; the first such call says so. The twins square norms: in float32 a row's norm must be from 1e-18 to
1e18 there. A row below loses digits or counts as a zero row, a row above counts as one. The CPU's kernels take rows of any norm.

On CUDA, float32 products follow torch's own setting, `torch.backends.cuda.matmul.allow_tf32`, which is off unless switched on. With it
a logit of scale 100 moves by up to some 0.05.
"""

from ._dispatch import eager
from .distill import geometry_distill
from .dpgd import dpgd_step, dpgd_step_
from .drift import prototype_drift
from .dual_target import dual_target_loss
from .transfer import prototype_transfer

__all__ = [
    "dpgd_step",
    "dpgd_step_",
    "dual_target_loss",
    "eager",
    "geometry_distill",
    "prototype_drift",
    "prototype_transfer",
]
