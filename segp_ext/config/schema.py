"""The typed configuration: every setting of a run, its default and its meaning, and the methods as sets of fixed settings.

Defaults are the paper's (SeGP-CL, arXiv 2603.12055) where it states a value; ``paper.py`` has the tables of these values and of our own.
``configs/digits.yaml`` holds the built-in default run's own values. Reading files and the command line is ``command_line.py``'s duty;
this module is plain dataclasses.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segp_ext.config.hints import close_names
from segp_ext.config.methods import METHODS
from segp_ext.config.protocols import PROTOCOLS

ScorePath = Literal["text", "visual", "dual"]
Precision = Literal["fp32", "bf16", "fp16", "fp64"]
ResizeMode = Literal["shortest", "squash", "longest"]
"""How images become square: short side to size and centre crop, both sides ignoring aspect, long side and padding."""
DataName = Literal["auto", "digits", "folder", "cifar100", "imagenet-r", "imagenet100", "cub200", "ucf101"]
ClassOrder = Literal["cifar100-icarl", "imagenet100-numpy1993", "imagenet-r-mgclip", "imagenet-r-rapf", "cub200-rapf"]
PATHS: tuple[ScorePath, ...] = ("text", "visual", "dual")


class _Short(reprlib.Repr):
    """What came, for messages: whole where it is of usual length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxdict = 20
        self.maxlevel = 4

    def repr_int(self, value: int, level: int) -> str:
        """A number, or how long it is where Python would not write it out."""
        return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"


_SHORT = _Short()
_LARGEST = 2**31 - 1
"""No count here can sensibly be larger, and what they are handed to takes no larger ones."""


def _require(condition: bool, field_name: str, expected: str, value: object, remedy: str = "") -> None:
    if not condition:
        raise ValueError(f"{field_name} must be {expected}; got {_SHORT.repr(value)}{remedy}")


def _finite(section: str, name: str, value: float) -> None:
    if isinstance(value, int):
        _require(value <= _LARGEST, f"{section}.{name}", f"at most {_LARGEST}", value)
    else:
        _require(math.isfinite(value), f"{section}.{name}", "a finite number", value)


def _positive(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _finite(section, name, value)
        _require(value > 0, f"{section}.{name}", "greater than 0", value)


def _within(section: str, config: object, low: float, high: float, *names: str) -> None:
    """Beyond these bounds float32 scores overflow or vanish, and what depends on them does nothing."""
    for name in names:
        value = getattr(config, name)
        _require(low <= value <= high, f"{section}.{name}", f"from {low:g} to {high:g}", value)


def _not_negative(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _finite(section, name, value)
        _require(value >= 0, f"{section}.{name}", "0 or more", value)


LORA_WORDS = ("kv", "attention", "ffn", "convolutions")
"""What `lora.targets` may name, joined by +; `segp_ext.clip.lora_targets` finds the layers."""


@dataclass
class LoraConfig:
    """Low-rank adaptation of the CLIP encoders: A frozen at its random orthonormal start, only B trained."""

    rank: int = 32
    """Rank of every adapter; at most its layer's width."""
    alpha: int | None = None
    """Numerator of the adapter's scale alpha/rank; none means alpha = rank, a scale of 1."""
    encoders: Literal["both", "vision", "text"] = "both"
    """Which CLIP encoders are adapted."""
    targets: list[str] | str = "kv+ffn"
    """Layers to adapt: words joined by +, or a list of the ends of their names (attn.kv_proj, mlp.c_fc ...). The words: kv (key and value \
projections), attention (query, key, value and output projections), ffn (all linear layers of the feed-forward networks), and, ours, \
convolutions (in blocks, ungrouped). A list may name other convolutions too."""

    def __post_init__(self) -> None:
        _positive("lora", self, "rank")
        if self.alpha is not None:
            _positive("lora", self, "alpha")
        known = f"words out of {', '.join(LORA_WORDS)}, each at most once, joined by +, or a list of the ends of layers' names"
        if isinstance(self.targets, str):
            words = self.targets.split("+")
            sound = {*words} <= {*LORA_WORDS} and len({*words}) == len(words)
        else:
            listed = isinstance(self.targets, list) and bool(self.targets)
            sound = listed and all(isinstance(end, str) and end for end in self.targets)
        _require(sound, "lora.targets", known, self.targets)


@dataclass
class TrainingConfig:
    """Optimisation of one task."""

    epochs: int = 10
    """Passes over a task's images; 0 leaves the model frozen."""
    batch_size: int = 128
    """New images per step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW; the learning rate falls to zero along a cosine within each task."""
    learning_rate: float = 1e-3
    """Learning rate at a task's first step."""
    weight_decay: float = 0.0
    """Weight decay on the trained matrices B."""
    accumulate: int = 1
    """Parts in which a step's images are passed, one after the other, through the encoder: less memory, the same step."""
    prompts_per_pass: int = 2048
    """Prompts that the text encoder holds at a time. With more classes each step encodes them twice, to keep memory bounded."""
    classes: Literal["new", "seen"] = "new"
    """Classes in the cross-entropy: the new ones alone, or all seen so far (ours)."""
    joint: bool = False
    """In runs, start anew from the pre-trained model at every task, with the images of all tasks so far: the ceiling for a method that \
keeps none. `SeGPCL.learn_task` learns what it is given."""

    def __post_init__(self) -> None:
        _not_negative("training", self, "epochs", "weight_decay")
        _positive("training", self, "batch_size", "accumulate", "prompts_per_pass", "learning_rate")


@dataclass
class AnchorsConfig:
    """Seeds and anchors: images that stand in for the old classes (equations 9 to 14)."""

    kind: Literal["none"] | str = "dpgd"
    """dpgd: seeds moved towards an old class's text embedding and prototype; text or visual: towards that one alone; seeds: unmoved; \
noise: seeds plus uniform noise within epsilon; new-images: distil on the new images themselves (LwF); reference: on as many images \
of anchors.reference (ZSCL); adc: seeds nearest to the prototype, moved towards it by steps along the gradient (ADC); none: nothing to \
distil on; my_package.my_module:Mine: a source of your own (docs/extending.md)."""
    reference: str | None = None
    """Images for kind reference: a folder, digits, or NAME:FOLDER with a name that data.name takes; training images are taken."""
    seeds_per_class: int = 5
    """K_seed: new images taken per old class, those that the teacher scores highest for it."""
    steps: int = 10
    """K_adv: projected gradient steps."""
    step_size: float = 1.5e-3
    """Gamma: step per pixel and iteration, in units of the pixel range [0, 1]."""
    epsilon: float = 4 / 255
    """Largest change of a pixel from its seed, in units of [0, 1]."""
    visual_weight: float = 0.5
    """Lambda_p: weight of the visual (prototype) loss beside the text loss."""
    batch_size: int = 128
    """Anchors perturbed together; it changes speed and memory, not the anchors' definition."""
    memory_gb: float = 8.0
    """Gigabytes (10^9 bytes) of anchors kept on the device; more than that go to a file, from which each step reads its own."""
    folder: str | None = None
    """Folder for that file, which is gone when the task is learnt; none takes the system's temporary folder."""

    def __post_init__(self) -> None:
        _positive("anchors", self, "seeds_per_class", "batch_size")
        _not_negative("anchors", self, "steps", "step_size", "epsilon", "visual_weight", "memory_gb")


@dataclass
class DistillationConfig:
    """Anchor-guided cross-modal geometry distillation, ACGD (equations 16 to 18)."""

    weight: float = 5.0
    """Weight at a logit scale of 100; multiplied by 100/s for a model whose scale is s (ours: the loss grows with s squared)."""
    temperature: float = 20.0
    """Tau_A: softens the teacher's and the student's scores."""
    batch_size: int = 32
    """Anchors drawn per training step."""
    both_directions: bool = False
    """Keep, besides each image's similarities to the texts, each text's to the images of the step (ZSCL)."""

    def __post_init__(self) -> None:
        _not_negative("distillation", self, "weight")
        _positive("distillation", self, "batch_size")
        _within("distillation", self, 1e-3, 1e6, "temperature")


@dataclass
class TextGeometryConfig:
    """Text semantic-geometry regularisation, TSGR (equations 19 to 21)."""

    weight: float = 1.0
    """Weight of the loss."""
    temperature: float = 0.05
    """Tau_T: temperature of a class's similarities to its neighbours."""
    neighbours: int = 10
    """k: nearest neighbours of a new class among all seen classes in the reference text encoder."""

    def __post_init__(self) -> None:
        _not_negative("text_geometry", self, "weight")
        _positive("text_geometry", self, "neighbours")
        _within("text_geometry", self, 1e-4, 1e6, "temperature")


@dataclass
class PrototypesConfig:
    """Class prototypes in the raw visual feature space (equations 23 to 29)."""

    features: Literal["unit", "raw"] = "unit"
    """unit: a prototype is the direction of its class's mean unit feature; raw (ours): the mean of raw features, with its length."""
    transfer: Literal["own-anchors", "all-anchors", "sdc", "adc", "none"] = "own-anchors"
    """How old classes' prototypes follow the model after each task. own-anchors: along the drift of the class's own anchors, each \
weighted by its cosine to the prototype; all-anchors (ours): along the drift of all anchors, weighted by likeness and scaled by \
proximity; sdc: the same without the scale; adc: along the mean drift of the class's own anchors; none: not at all. Anchors of kind \
new-images and reference belong to no class and take all-anchors, sdc or none."""
    temperature: float = 0.1
    """Tau_p: temperature of all-anchors' weights; of sdc it is sigma squared."""
    score: str = "cosine"
    """Visual path. cosine: s·cos(r, μ); mahalanobis (ours): log-likelihood under a normal distribution about the class's mean, with one \
covariance of all classes, summed up over the tasks, or partly with each class's own; ridge: regression behind random features (RanPAC), \
for a model that stays frozen; probe: logistic regression, for a frozen model with training.joint; my_package.my_module:Mine: a head of \
your own (docs/extending.md)."""
    shrinkage: float | None = None
    """Share of the mean variance that is mixed into the covariance of mahalanobis, which few images would leave singular; none \
estimates it (oracle approximating shrinkage)."""
    own_covariance: float = 0.0
    """Share of each class's own covariance beside the one of all classes in mahalanobis (regularised discriminant analysis). Above 0 a \
matrix of the feature's width squared is kept for every class: 4.7 MB at 768 in checkpoints, twice that in memory."""
    random_features: int = 2000
    """Width of ridge's random projection."""

    def __post_init__(self) -> None:
        _within("prototypes", self, 1e-4, 1e6, "temperature")
        _positive("prototypes", self, "random_features")
        _within("prototypes", self, 0, 1, "own_covariance", *([] if self.shrinkage is None else ["shrinkage"]))


@dataclass
class InferenceConfig:
    """Prediction over all seen classes (equations 30 to 32)."""

    beta: float = 0.5
    """Weight of the visual (prototype) score beside the text score in the dual path."""
    path: ScorePath = "dual"
    """Scores used when a caller names none: text (CLIP), visual (prototypes) or dual (their weighted sum)."""
    batch_size: int = 256
    """Images encoded together."""

    def __post_init__(self) -> None:
        _within("inference", self, 0, 1e6, "beta")
        _positive("inference", self, "batch_size")


@dataclass
class LoadingConfig:
    """How images are read."""

    resize: Literal["exact", "device"] = "exact"
    """exact: the model's own preprocessing by PIL, as published numbers have it; device: small images of one size are kept as they are \
and resized on the device, which saves memory and decoding time and differs from PIL by rounding."""
    orientation: Literal["stored", "exif"] = "stored"
    """stored: pixels as the file has them, as torchvision's loaders and published numbers do; exif: images that a camera has marked as \
turned are turned upright."""
    workers: int | None = None
    """Processes that decode images; none takes up to 8 per device on a GPU, and decodes in the main process on the CPU."""
    memory_gb: float | None = None
    """Gigabytes (10^9 bytes) of decoded images that each process keeps; none takes half of what is free, or of what a container or batch \
job leaves. Others are decoded every time, to the same pixels."""

    def __post_init__(self) -> None:
        for name in ("workers", "memory_gb"):
            if getattr(self, name) is not None:
                _not_negative("loading", self, name)


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
        _require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method, own)
        _require(
            self.template.count("{}") == self.template.count("{") == self.template.count("}") == 1,
            "template",
            "a text with one {} for the class name and no other braces",
            self.template,
        )
        _require(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        _require(self.min_images_per_class >= 1, "min_images_per_class", "1 or more", self.min_images_per_class)

    @property
    def uses_anchors(self) -> bool:
        """Whether a task makes anchors: there is a kind, and the distillation or the transfer of prototypes reads them."""
        read = self.distillation.weight > 0 or self.prototypes.transfer != "none"
        return self.anchors.kind != "none" and read and not self.training.joint


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
class DataConfig:
    """Images, their split into tasks, and what is evaluated."""

    name: DataName = "auto"
    """digits: scikit-learn's handwritten digits; folder: your images, see root; cifar100, imagenet-r, imagenet100, cub200, ucf101: the \
benchmarks, in the layouts that their users have on disk; auto: folder if root is given, else digits."""
    root: str | None = None
    """Folder of the data set. For folder: {train,test}/<class>/* (val counts as test), <class>/* with lists or split by test_fraction, \
train/<class>/* alone, which is split so too, or Tiny-ImageNet's train/<wnid>/ with val/val_annotations.txt. \
configs/<data.name>.yaml says what each benchmark takes."""
    download: bool = False
    """Download CIFAR100 to root through torchvision if it is not there."""
    train_list: str | None = None
    """Split of a flat tree <root>/<class>/*: file of training images, one path a line, or YAML with a list data. Classes are the \
folders: labels beside the paths may not contradict them. A name that is no file here is looked for in root. Needs test_list."""
    test_list: str | None = None
    """The like for test images."""
    class_list: str | None = None
    """File of class folders to take, one a line (what follows it is ignored), in their order from then on; none takes all (imagenet100: \
the first 100 classes of ILSVRC)."""
    names: Literal["spaces", "folders"] = "spaces"
    """spaces: underscores in class names become spaces, and UCF101's camel case separate words; folders: names stay as the data set \
has them."""
    names_file: str | None = None
    """JSON file of class names by class folder, each a text or a list of texts whose first is taken; none goes by data.name and names."""
    merge_folders: bool = False
    """Take all folders of images below a class's folder as that class. Without it, a class folder that holds no image itself but \
several folders of images is an error, as these may be the classes."""
    unreadable: Literal["stop", "skip"] = "stop"
    """stop: an unreadable or missing image is an error; skip: every image is opened once at the start, and those are left out and named."""
    classes_per_task: int = 10
    """New classes per task; the last task may have fewer."""
    order: int | ClassOrder | None = 1993
    """Class order: a number n for numpy.random.RandomState(n).permutation, the name of an order in use by others, or none for the data \
set's own."""
    max_images_per_class: int | None = None
    """Use at most so many images of a class in each part, for small trials; none uses all."""
    test_fraction: float = 0.3
    """Share of each class held out for testing where the data has no split of its own."""
    evaluate_on: Literal["test", "validation"] = "test"
    """validation holds part of the training images out and scores on it, so that settings can be chosen without the test images."""
    validation_fraction: float = 0.25
    """Share of each class's training images held out when evaluate_on is validation."""
    evaluate_global: bool = True
    """After every task, also score all tasks' test images, future ones too, against all class names (the paper's Table II and figure 5). \
It encodes every test image after each task, about twice the evaluation."""

    def __post_init__(self) -> None:
        _positive("data", self, "classes_per_task")
        for name in ("test_fraction", "validation_fraction"):
            value = getattr(self, name)
            _require(0 < value < 1, f"data.{name}", "between 0 and 1", value)
        if isinstance(self.order, int):
            _require(0 <= self.order < 2**32, "data.order", "from 0 to 2**32 - 1", self.order)
        else:
            _require(fits(self.order, ClassOrder | None), "data.order", _type_text(int | ClassOrder | None), self.order)
        if self.max_images_per_class is not None:
            _positive("data", self, "max_images_per_class")
        if self.name == "digits" and self.root is not None:
            raise ValueError(
                f"data.root must not be given with data.name digits, which comes with scikit-learn; got {self.root!r}"
            )
        if self.download and self.name != "cifar100":
            raise ValueError(f"data.download is for data.name cifar100 alone; got data.name {self.name}")
        if (self.train_list is None) != (self.test_list is None):
            raise ValueError("data.train_list and data.test_list must be given together; got one of them")
        for name in ("root", "train_list", "test_list", "class_list", "names_file"):
            _require(getattr(self, name) != "", f"data.{name}", "a path", "")
        for name in ("train_list", "class_list", "names_file"):
            if getattr(self, name) is not None and self.name in ("digits", "cifar100"):
                raise ValueError(f"data.{name} is for data sets in class folders; {self.name} has none")


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
                _positive("run", self, name)
        parts = Path("run" if self.name is None else self.name).parts
        _require(
            len(parts) == 1 and parts[0] not in ("..", "/"),
            "run.name",
            "a name without folders; they go to run.directory",
            self.name,
        )


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
            _require(self.protocol in PROTOCOLS, "protocol", f"one of {', '.join(PROTOCOLS)}", self.protocol)


def with_method(config: MethodConfig) -> MethodConfig:
    """Returns a copy of `config` in which the settings that its method fixes have the method's values."""
    values = dataclasses.asdict(config)
    for setting, value in METHODS[config.method].items():
        section, _, name = setting.rpartition(".")
        group = values.setdefault(section, {}) if section else values
        group[name] = value
    return from_dict(type(config), values)


def from_dict(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Builds a config dataclass from nested plain values, as `dataclasses.asdict` gives them.

    Raises:
        ValueError: for a field that does not exist, has the wrong type, or has a value that its class refuses.
    """
    check_settings(cls, values, prefix)
    groups = _groups(cls)
    return cls(**{name: from_dict(groups[name], value) if name in groups else value for name, value in values.items()})


def check_settings(cls: type, values: dict[str, Any], prefix: str = "", known: Collection[str] = ()) -> None:
    """Checks names and types of nested plain values, which need not be all, without building anything.

    A name that does not exist is an error with what it may mean, of `known` dotted names, which are those of `cls` by default.

    Raises:
        ValueError: for a field of `cls` that does not exist or has the wrong type.
    """
    names = [f.name for f in dataclasses.fields(cls)]
    known = known or [f"{prefix}{name}" for name in setting_types(cls)]
    for name, value in values.items():
        if name not in names:
            close = close_names(f"{prefix}{name}", known)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise ValueError(f"no such setting: {prefix}{name}{hint}; known here: {', '.join(names)}")
        group, hint = _groups(cls).get(name), _type_hints(cls)[name]
        right = fits(value, dict if group else hint)
        as_text = [*map(str, value)] if isinstance(value, list) else str(value)
        remedy = " (a text like this needs quotes)" if value is not None and fits(as_text, hint) else ""
        _require(right, f"{prefix}{name}", _GROUP if group else _type_text(hint), value, remedy)
        if group:
            check_settings(group, value, f"{prefix}{name}.", known)


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@cache
def setting_types(cls: type) -> Mapping[str, Any]:
    """The types of all settings of a config dataclass by dotted name, and of its groups, which are dict."""
    groups, hints = _groups(cls), _type_hints(cls)
    own = {f.name: dict if f.name in groups else hints[f.name] for f in dataclasses.fields(cls)}
    inside = {f"{group}.{name}": hint for group, kind in groups.items() for name, hint in setting_types(kind).items()}
    return MappingProxyType(own | inside)


_GROUP = "a group of settings, {name: value, ...}"
_type_hints = cache(get_type_hints)  # which reads all of a class's annotations anew


@cache
def _groups(cls: type) -> Mapping[str, type]:
    """The fields of a config dataclass that hold settings of their own, with their classes."""
    found: dict[str, Any] = {f.name: f.default_factory for f in dataclasses.fields(cls)}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def fits(value: Any, expected: Any) -> bool:
    """Whether a plain value is of a type, as settings and results have them."""
    if expected is Any:
        return True
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_origin(expected) in (Union, UnionType):
        return any(fits(value, option) for option in get_args(expected))
    if get_origin(expected) is list:
        return isinstance(value, list) and all(fits(item, get_args(expected)[0]) for item in value)
    if expected is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, get_origin(expected) or expected) and (expected is bool or not isinstance(value, bool))


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    list[str]: "a list of texts, [a, b]",
}


def _type_text(expected: Any) -> str:
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(map(_type_text, get_args(expected)))
    if get_origin(expected) is Literal:
        return f"one of {', '.join(map(str, get_args(expected)))}"
    return _WORDS[expected]
