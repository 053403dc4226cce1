"""The two whole configurations: `MethodConfig` for a learner, and `Config` for a run around it.

Defaults are the paper's (SeGP-CL, arXiv 2603.12055) where it states a value. Every field says what the paper states of it (`setting.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from segp_ext.config.checks import require, require_prompt
from segp_ext.config.data_sections import DataConfig, LoadingConfig
from segp_ext.config.method_sections import (
    FROZEN_PATHS,
    AnchorsConfig,
    CalibrationConfig,
    DistillationConfig,
    ExtraLossConfig,
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
from segp_ext.config.setting import facts_of, setting


@dataclass
class MethodConfig:
    """Settings of a learner. `Config` adds the model, the data and the run around it."""

    method: str = setting("segp", ours="names the methods to compare with", short_help=True)
    """Method: segp, the full method, or one to compare with, such as lora, lwf, zscl, sdc, adc, ranpac, zero-shot or joint. lora: no \
anchors, no text geometry. lwf, zscl: distillation on the new images, or on reference images. sdc, adc: lora with prototypes that follow \
the new images, or images moved towards the prototypes. seeds, noise, text-pgd, visual-pgd: other anchors. Without training: zero-shot; \
frozen-prototypes (class means); ranpac, lda, rda (heads by ridge regression, with one covariance, and with half of each class's own). \
With all images of all tasks: linear-probe (frozen model), joint (trained model). auto (ours): segp and rda together; images held back \
from training choose the scores."""
    seed: int = setting(0, ours="makes a run repeatable", short_help=True)
    """Seed of the start of the adapters, the order of the images and all draws."""
    ops: Literal["fused", "eager"] = setting(
        "fused", ours="the fused kernels, or their eager twins with the same numbers up to rounding"
    )
    """fused: the native kernels. eager: their plain PyTorch twins, to compare with."""
    template: str = setting("a photo of a {}.", paper="section III-A.2, equation 4", protocol=True, short_help=True)
    """Prompt of a class. {} stands for the name of the class."""
    min_images_per_class: int = setting(2, ours="refuses a class of one image, which shows no distribution")
    """Fewest training images of a class. A task with a smaller class is refused."""
    known_classes: Literal["refuse", "update", "train"] = setting(
        "refuse", ours="lets classes that were learnt before take more images"
    )
    """What a task does with a class that was learnt before. refuse: an error, and nothing is learnt. update: the class's prototype and \
its share of the heads take the new images, by count, after their transfer. train: training sees these images too, which needs \
training.classes seen."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    anchors: AnchorsConfig = field(default_factory=AnchorsConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    text_geometry: TextGeometryConfig = field(default_factory=TextGeometryConfig)
    extra_loss: ExtraLossConfig = field(default_factory=ExtraLossConfig)
    prototypes: PrototypesConfig = field(default_factory=PrototypesConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    loading: LoadingConfig = field(default_factory=LoadingConfig)

    def __post_init__(self) -> None:
        own = "; a method of your own needs the file that adds it: --import FILE"
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method, own)
        require_prompt("template", self.template)
        require(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        require(self.min_images_per_class >= 1, "min_images_per_class", "1 or more", self.min_images_per_class)

        if self.inference.path in FROZEN_PATHS:
            needs = f"true with inference.path {self.inference.path}"
            require(self.prototypes.frozen_head, "prototypes.frozen_head", needs, False)
        if self.inference.gate is not None:
            fraction = METHODS[self.method].get("calibration.fraction", self.calibration.fraction)
            require(fraction > 0, "calibration.fraction", "above 0 with inference.gate", fraction)
        if self.inference.path == "auto":
            require(
                self.calibration.fraction > 0,
                "calibration.fraction",
                "above 0 with inference.path auto",
                self.calibration.fraction,
            )
        if self.known_classes == "train":
            require(
                self.training.classes == "seen",
                "training.classes",
                "seen with known_classes train",
                self.training.classes,
            )

    @property
    def uses_anchors(self) -> bool:
        """Whether a task makes anchors: they have a kind, and the distillation, the transfer of prototypes or a loss of one's own may \
read them."""
        read = self.distillation.weight > 0 or self.prototypes.transfer != "none" or self.extra_loss.used
        return self.anchors.kind != "none" and read and not self.training.joint


@dataclass
class Config(MethodConfig):
    """Settings of a whole run: method, model, data and output."""

    imports: list[str] = setting([])
    """Python files to run first; --import FILE adds one. They may add methods and hold parts of your own (docs/extending.md)."""
    protocol: str | None = setting(None, short_help=True)
    """Named protocol of a benchmark, such as segp-cifar100. It sets data.name, data.order, data.classes_per_task, data.names, template, \
model.name, model.pretrained and model.resize_mode. It also keeps data.sources, data.source_order, data.shared_names, data.title, \
data.prompts, data.descriptions, data.setting, data.tasks, data.max_images_per_class, data.shots, data.evaluate_on, data.class_list, \
data.names_file, data.test_fraction (of ImageNet-R and of streams), loading.resize and model.precision. Another value in a file or an \
option goes before the protocol's, and the id of the result then says '+changed'."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    held_out: list[str] = setting([])
    """Data sets that are scored zero-shot after every task and never trained on: folders of images, digits, or NAME:FOLDER with a NAME \
that data.name takes."""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.shared_names == "same":
            require(
                self.known_classes != "refuse", "known_classes", "update or train with data.shared_names same", "refuse"
            )
        if self.protocol is not None:
            require(self.protocol in PROTOCOLS, "protocol", f"one of {', '.join(PROTOCOLS)}", self.protocol)


RESUMABLE = tuple(name for name, facts in facts_of(Config).items() if facts.resume)
"""Settings that may be given with --resume, by dotted name. They change what is learnt only by rounding."""


def with_method(config: MethodConfig) -> MethodConfig:
    """Returns a copy of `config` in which the settings that its method fixes have the values of the method."""
    values = dataclasses.asdict(config)
    for name, value in METHODS[config.method].items():
        section, _, field_name = name.rpartition(".")
        group = values.setdefault(section, {}) if section else values
        group[field_name] = value
    return from_dict(type(config), values)
