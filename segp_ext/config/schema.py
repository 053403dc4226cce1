"""The two whole configurations: `MethodConfig` for a learner, and `Config` for a run around it.

Defaults are the paper's (SeGP-CL, arXiv 2603.12055) where it states a value; `paper.py` has the tables of these values and of our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from segp_ext.config.checks import require
from segp_ext.config.data_sections import DataConfig, LoadingConfig
from segp_ext.config.method_sections import (
    AnchorsConfig,
    DistillationConfig,
    InferenceConfig,
    LoraConfig,
    PrototypesConfig,
    TextGeometryConfig,
    TrainingConfig,
)
from segp_ext.config.methods import METHODS
from segp_ext.config.plain_values import from_dict
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.config.run_sections import ModelConfig, RunConfig


@dataclass
class MethodConfig:
    """Everything that the learner needs; `Config` adds the model, the data and the run around it."""

    method: str = "segp"
    """segp, the full method, or one to compare with: zero-shot, frozen-prototypes (untrained model with class means), lora (no anchors, \
no text geometry), lwf (distillation on the new images), zscl (on reference images), sdc, adc (lora with prototypes that follow the \
new images, or images moved towards them), ranpac, lda, rda (heads on the frozen model: ridge regression, one covariance, and half \
each class's own), linear-probe, joint (frozen or trained, with all images of all tasks), seeds, noise, text-pgd, visual-pgd (other \
anchors)."""
    seed: int = 0
    """Seed of the adapter's start, the sample order and all draws."""
    ops: Literal["fused", "eager"] = "fused"
    """fused: the native kernels; eager: their plain PyTorch twins, to compare with."""
    template: str = "a photo of a {}."
    """Prompt; {} stands for the class name."""
    min_images_per_class: int = 2
    """A task with a class of fewer training images is refused."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    anchors: AnchorsConfig = field(default_factory=AnchorsConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    text_geometry: TextGeometryConfig = field(default_factory=TextGeometryConfig)
    prototypes: PrototypesConfig = field(default_factory=PrototypesConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    loading: LoadingConfig = field(default_factory=LoadingConfig)

    def __post_init__(self) -> None:
        own = "; one of your own is known when the file that adds it has been imported: --import FILE"
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method, own)
        require(
            self.template.count("{}") == self.template.count("{") == self.template.count("}") == 1,
            "template",
            "a text with one {} for the class name and no other braces",
            self.template,
        )
        require(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        require(self.min_images_per_class >= 1, "min_images_per_class", "1 or more", self.min_images_per_class)

    @property
    def uses_anchors(self) -> bool:
        """Whether a task makes anchors: there is a kind, and the distillation or the transfer of prototypes reads them."""
        read = self.distillation.weight > 0 or self.prototypes.transfer != "none"
        return self.anchors.kind != "none" and read and not self.training.joint


@dataclass
class Config(MethodConfig):
    """A whole run: method, model, data and output."""

    imports: list[str] = field(default_factory=list)
    """Python files that are run first, --import FILE for short: they may add methods, and hold parts of your own (docs/extending.md)."""
    protocol: str | None = None
    """Named protocol: sets data.name, data.order, data.classes_per_task, data.names, template, model.name, model.pretrained and \
model.resize_mode, and keeps data.max_images_per_class, data.evaluate_on, data.class_list, data.names_file, data.test_fraction (of \
ImageNet-R), loading.resize and model.precision. One of them given otherwise goes before it, and the result's id then says "+changed"."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    held_out: list[str] = field(default_factory=list)
    """Data sets that are never trained on and scored zero-shot after every task: folders of images, digits, or NAME:FOLDER with a name \
that data.name takes."""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol is not None:
            require(self.protocol in PROTOCOLS, "protocol", f"one of {', '.join(PROTOCOLS)}", self.protocol)


def with_method(config: MethodConfig) -> MethodConfig:
    """Returns a copy of `config` in which the settings that its method fixes have the method's values."""
    values = dataclasses.asdict(config)
    for setting, value in METHODS[config.method].items():
        section, _, name = setting.rpartition(".")
        group = values.setdefault(section, {}) if section else values
        group[name] = value
    return from_dict(type(config), values)
