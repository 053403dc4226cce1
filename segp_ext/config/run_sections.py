"""The sections of settings for the backbone and for the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segp_ext.config.checks import positive, require

Precision = Literal["fp32", "bf16", "fp16", "fp64"]
ResizeMode = Literal["shortest", "squash", "longest"]
"""How images become square: short side to size and centre crop, both sides ignoring aspect, long side and padding."""


@dataclass
class ModelConfig:
    """The CLIP backbone."""

    name: str = "ViT-B-16-quickgelu"
    """open_clip model name (any ViT or timm tower), hf-hub:ORG/NAME, local-dir:FOLDER, or glyph, the small model of this package."""
    pretrained: str | None = "openai"
    """open_clip weights tag or a local checkpoint file (OpenAI's archives too); none starts from random weights. hf-hub:, local-dir: and \
glyph bring their own."""
    device: str = "auto"
    """torch device (cpu, cuda, cuda:1 ...); auto takes CUDA where it is usable."""
    resize_mode: Literal["shortest", "squash"] | None = None
    """How an image becomes square: shortest (short side to the input size, centre crop), squash (both sides, ignoring aspect); none: the \
model's own."""
    precision: Precision = "fp32"
    """Arithmetic of the encoders: fp32; bf16 or fp16 by autocast, where weights, losses and the adapter stay fp32; or fp64, slow, to \
check."""
    compile: bool = False
    """torch.compile the encoders; worth it in long runs on a GPU. A run ends with how many of their passes ran compiled."""


@dataclass
class RunConfig:
    """Where results go."""

    name: str | None = None
    """Name of the run's folder; none makes one from the data, the method and the time."""
    directory: str = "runs"
    """Folder that holds the runs."""
    threads: int | None = None
    """CPU threads of each process for torch; none leaves torch's own choice (OMP_NUM_THREADS), or takes a share of the cores where \
several processes are on one host."""
    checkpoint_steps: int | None = 200
    """Optimiser steps after which a task in the middle is kept on disk, so that a run that is killed loses no more; none keeps finished \
tasks alone."""
    keep_checkpoints: int | None = 3
    """Checkpoints of finished tasks to keep, the newest; none keeps all."""

    def __post_init__(self) -> None:
        for name in ("threads", "checkpoint_steps", "keep_checkpoints"):
            if getattr(self, name) is not None:
                positive("run", self, name)
        parts = Path("run" if self.name is None else self.name).parts
        require(
            len(parts) == 1 and parts[0] not in ("..", "/"),
            "run.name",
            "a name without folders; they go to run.directory",
            self.name,
        )
