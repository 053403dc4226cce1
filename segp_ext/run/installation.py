"""Versions, devices and kernels of this machine, as text."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

import segp_ext

_PACKAGES = ("torch", "torchvision", "numpy", "open_clip_torch", "timm", "peft", "safetensors", "scikit-learn")


def versions() -> dict[str, str]:
    """Returns the versions of segp_ext, of Python, and of the packages that segp_ext builds on, by name."""
    found = {"segp_ext": segp_ext.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(built: dict[str, Any]) -> dict[str, str]:
    """Describes kernels, devices and versions.

    Args:
        built: What `segp_ext.build_info` returns.

    Returns:
        A line of text for each subject.
    """
    cuda = f"built; {'usable' if built['cuda_usable'] else 'not usable now'}"
    if not built["cuda_built"]:
        cuda = f"not built ({built['cuda_reason'] or 'no native library'})"
    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    kernels = "native kernels" if built["ops_path"] == "native" else "plain PyTorch"
    found = {
        "segp_ext": f"{built['version']}, {kernels}" + (f" ({built['library']})" if built["library"] else ""),
        "compiler": str(built["compiler"] or "none"),
        "CUDA kernels": cuda,
        "devices": ", ".join(devices),
        "CPU": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch",
    }
    return found | {name: version for name, version in versions().items() if name != "segp_ext"}
