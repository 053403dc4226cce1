"""The method's own operations: each checks its arguments and calls one native kernel.

`segp_ext.build_info()` tells whether the kernels or their eager twins (`segp_ext.reference`) run, and why. The twins run:

- where the native library is not loaded, or has no kernels for the device;
- inside `with ops.eager():`;
- under torch.func's transforms (vmap, grad, jvp, ...) and forward-mode differentiation, which follow torch's own operations
  alone. The first such call says so.

The twins square norms, so in float32 they need norms of rows from 1e-18 to 1e18. A row with a smaller norm loses digits or
counts as a zero row; a row with a larger norm counts as a zero row. The kernels of the CPU take rows of any norm.

On CUDA, float32 products follow torch's setting `torch.backends.cuda.matmul.allow_tf32`, which is off unless you switch it on.
If it is on, a logit of scale 100 moves by up to about 0.05.
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
