"""The device that a setting names, checked against the devices that torch can use."""

from __future__ import annotations

import torch


def usable_device(device: str, what: str = "model.device") -> torch.device:
    """Returns the torch device of a name; "auto" takes CUDA where it is usable.

    Args:
        device: auto, cpu, cuda or cuda:<n>.
        what: the setting or argument that names the device, for messages.

    Raises:
        ValueError: if there is no such device, or it is not usable here.
    """
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"{what} must be auto, cpu, cuda or cuda:<n>; got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{what} is {device!r}, but this torch ({torch.__version__}) sees no usable CUDA device")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{what} is {device!r}, but only {torch.cuda.device_count()} CUDA device(s) are there")
    return chosen
