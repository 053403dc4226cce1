"""The sections of the method's settings, one per part of the paper, and the checks of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segp_ext.config.checks import not_negative, positive, require, within

ScorePath = Literal["text", "visual", "dual"]
PATHS: tuple[ScorePath, ...] = ("text", "visual", "dual")

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
        positive("lora", self, "rank")
        if self.alpha is not None:
            positive("lora", self, "alpha")
        known = f"words out of {', '.join(LORA_WORDS)}, each at most once, joined by +, or a list of the ends of layers' names"
        if isinstance(self.targets, str):
            words = self.targets.split("+")
            sound = {*words} <= {*LORA_WORDS} and len({*words}) == len(words)
        else:
            listed = isinstance(self.targets, list) and bool(self.targets)
            sound = listed and all(isinstance(end, str) and end for end in self.targets)
        require(sound, "lora.targets", known, self.targets)


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
        not_negative("training", self, "epochs", "weight_decay")
        positive("training", self, "batch_size", "accumulate", "prompts_per_pass", "learning_rate")


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
        positive("anchors", self, "seeds_per_class", "batch_size")
        not_negative("anchors", self, "steps", "step_size", "epsilon", "visual_weight", "memory_gb")


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
        not_negative("distillation", self, "weight")
        positive("distillation", self, "batch_size")
        within("distillation", self, 1e-3, 1e6, "temperature")


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
        not_negative("text_geometry", self, "weight")
        positive("text_geometry", self, "neighbours")
        within("text_geometry", self, 1e-4, 1e6, "temperature")


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
        within("prototypes", self, 1e-4, 1e6, "temperature")
        positive("prototypes", self, "random_features")
        within("prototypes", self, 0, 1, "own_covariance", *([] if self.shrinkage is None else ["shrinkage"]))


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
        within("inference", self, 0, 1e6, "beta")
        positive("inference", self, "batch_size")
