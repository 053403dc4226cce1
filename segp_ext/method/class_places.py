"""Places of classes among all classes, and rows of a tensor by class, when classes leave or become one."""

from __future__ import annotations

import torch
from torch import Tensor

GONE = -1
"""New place of a class that leaves."""


def places_after_keeping(classes: int, places: Tensor) -> Tensor:
    """Returns the new place of every class if only some stay.

    Args:
        classes: Number of classes before.
        places: Places of the classes that stay, int64 `[K]`, ascending.

    Returns:
        New places, int64 `[classes]`; `GONE` for a class that leaves.
    """
    found = torch.full((classes,), GONE, dtype=torch.int64, device=places.device)
    found[places] = torch.arange(len(places), device=places.device)
    return found


def places_after_merging(classes: int, places: Tensor) -> Tensor:
    """Returns the new place of every class if some become one, at the place of the first of them.

    Args:
        classes: Number of classes before.
        places: Places of the classes that become one, int64 `[M]`, ascending.

    Returns:
        New places, int64 `[classes]`.
    """
    found = places_after_keeping(classes, places_kept(classes, places[1:]))
    found[places] = int(found[places[0]])
    return found


def places_kept(classes: int, gone: Tensor) -> Tensor:
    """Returns the places of the classes that stay, int64 `[K]`, ascending.

    Args:
        classes: Number of classes before.
        gone: Places of the classes that leave, int64 `[G]`.
    """
    stays = torch.ones(classes, dtype=torch.bool, device=gone.device)
    stays[gone] = False
    return stays.nonzero().flatten()


def merged_rows(rows: Tensor, places: Tensor, merged: Tensor) -> Tensor:
    """Returns rows by class in which one row stands for several.

    Args:
        rows: A row for each class `[C, ...]`; it stays as it is.
        places: Places of the classes that become one, int64 `[M]`, ascending.
        merged: The row of the merged class `[...]`.

    Returns:
        Rows `[C - M + 1, ...]`, in the order of the classes; the merged class stands at the place of the first of them.
    """
    found = rows.clone()
    found[places[0]] = merged.to(rows.dtype)
    return found[places_kept(len(rows), places[1:])]
