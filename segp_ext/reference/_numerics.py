"""What the references share: the dtype in which they compute, and normalisation."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is float64, else float32: half types accumulate in float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def unit_rows(rows: Tensor) -> Tensor:
    """Rows divided by their L2 norm. A zero row has no direction: it stays zero, and its gradient is zero.

    So does a row whose squared norm the dtype cannot hold; in float32 norms from 1e-18 to 1e18 are exact.
    """
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # The inner `where` keeps the division away from 0, so that the gradient of the unused branch is finite too.
    inverse = torch.where(norm == 0, torch.zeros_like(norm), 1 / torch.where(norm == 0, 1, norm))
    return rows * inverse
