"""The sections of settings for the backbone and for the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segp_ext.config.checks import positive, require
from segp_ext.config.setting import setting

Precision = Literal["fp32", "bf16", "fp16", "fp64"]
ResizeMode = Literal["shortest", "squash", "longest"]
"""How images become square: short side to size and centre crop; both sides to size, ignoring aspect; long side to size and padding."""


@dataclass
class ModelConfig:
    """The CLIP backbone."""

    name: str = setting("ViT-B-16-quickgelu", paper="section IV-A.4: CLIP ViT-B/16", protocol=True, short_help=True)
    """Model: an open_clip name (any ViT or timm tower), hf-hub:ORG/NAME, local-dir:FOLDER, or glyph, the small model of this package."""
    pretrained: str | None = setting("openai", paper="section IV-A.4", resume=True, protocol=True, short_help=True)
    """Weights: an open_clip tag, a local checkpoint file (OpenAI's archives too), or null for random weights. Models of hf-hub: and \
local-dir: and glyph bring their own weights."""
    device: str = setting("auto", resume=True, short_help=True)
    """torch device (cpu, cuda, cuda:1 ...). auto takes CUDA if it is usable."""
    resize_mode: Literal["shortest", "squash"] | None = setting(None, protocol=True)
    """How an image becomes square. shortest: short side to the input size, then centre crop. squash: both sides to the input size, \
ignoring aspect. null takes the model's own way."""
    precision: Precision = setting("fp32", protocol=True, short_help=True)
    """Arithmetic of the encoders: fp32, bf16, fp16 or fp64. bf16 and fp16 work by autocast; weights, losses and the adapter stay fp32. \
fp64 is slow and meant for checks."""
    compile: bool = setting(False)
    """Compile the encoders with torch.compile, which pays in long runs on a GPU. A run ends by saying how many of their passes ran \
compiled."""


@dataclass
class RunConfig:
    """The folder of a run, its checkpoints and its threads."""

    name: str | None = setting(None, short_help=True)
    """Name of the run's folder. null makes a name from the data, the method and the time."""
    directory: str = setting("runs", short_help=True)
    """Folder that holds the runs."""
    threads: int | None = setting(None, resume=True)
    """CPU threads of torch in each process. null keeps torch's own choice (OMP_NUM_THREADS), or takes a share of the cores if several \
processes run on one host."""
    checkpoint_steps: int | None = setting(200, resume=True)
    """Optimiser steps between checkpoints within a task. A killed run loses no more than these steps. null keeps only finished tasks."""
    keep_checkpoints: int | None = setting(3, resume=True)
    """Newest checkpoints of finished tasks to keep. null keeps all."""

    def __post_init__(self) -> None:
        for name in ("threads", "checkpoint_steps", "keep_checkpoints"):
            if getattr(self, name) is not None:
                positive("run", self, name)
        parts = Path("run" if self.name is None else self.name).parts
        require(
            len(parts) == 1 and parts[0] not in ("..", "/"),
            "run.name",
            "a name without folders, which belong into run.directory",
            self.name,
        )
