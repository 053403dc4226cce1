"""The dtype in which the references compute, and how they normalise rows."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Returns float64 if any tensor is float64, else float32: half types compute in float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def unit_rows(rows: Tensor) -> Tensor:
    """Divides rows by their L2 norm. A zero row has no direction: it stays zero, and its gradient is zero.

    A row becomes zero too if the dtype cannot hold its squared norm. In float32, norms from 1e-18 to 1e18 are exact.
    """
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # The inner `where` keeps the division away from 0, so that the unused branch has a finite gradient too.
    inverse = torch.where(norm == 0, torch.zeros_like(norm), 1 / torch.where(norm == 0, 1, norm))
    return rows * inverse
