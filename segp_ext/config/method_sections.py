"""The sections of the method's settings, one per part of the paper, and the checks of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segp_ext.config.checks import not_negative, positive, require, within
from segp_ext.config.setting import setting

ScorePath = Literal["text", "visual", "dual", "frozen", "auto"]
PATHS: tuple[ScorePath, ...] = ("text", "visual", "dual")
"""Paths of every learner."""
FROZEN_PATHS: tuple[ScorePath, ...] = ("frozen", "auto")
"""Paths of a learner that keeps a head on the frozen model beside the trained one."""
LORA_WORDS = ("kv", "attention", "ffn", "convolutions")
"""Words that `lora.targets` may join by +; `segp_ext.clip.lora_targets` finds their layers."""

_SETUP = "section IV-A.4"
_SPEED = "changes only speed and memory"
_MEASURED = "evidence/results/digits_validation/method.md"


@dataclass
class LoraConfig:
    """LoRA adapters in the CLIP encoders. A stays frozen at its random orthonormal start; training changes B alone."""

    rank: int = setting(32, paper="table VI", short_help=True)
    """Rank of every adapter. It may not exceed the width of the adapted layer."""
    alpha: int | None = setting(None, ours="the default is the rank, so that the scale of the adapter is 1")
    """Numerator of the adapter's scale alpha/rank. null takes the rank, for a scale of 1."""
    encoders: Literal["both", "vision", "text"] = setting("both", paper=_SETUP)
    """CLIP encoders that get adapters."""
    targets: list[str] | str = setting("kv+ffn", paper=f"table VI; {_SETUP} says attention projections and FFN")
    """Layers that get adapters: words joined by +, or a list of endings of layer names (attn.kv_proj, mlp.c_fc ...). The words: kv (key \
and value projections), attention (query, key, value and output projections), ffn (all linear layers of the feed-forward networks), and \
convolutions (ours: ungrouped convolutions in blocks). A list may name other convolutions too."""

    def __post_init__(self) -> None:
        positive("lora", self, "rank")
        if self.alpha is not None:
            positive("lora", self, "alpha")
        known = (
            f"words out of {', '.join(LORA_WORDS)}, each at most once, joined by +, or a list of endings of layer names"
        )
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

    epochs: int = setting(10, paper=_SETUP, short_help=True)
    """Passes over the images of a task; 0 leaves the model frozen."""
    batch_size: int = setting(128, paper=_SETUP, short_help=True)
    """New images per step, over all processes."""
    optimizer: Literal["sgd", "adamw"] = setting("sgd", paper=_SETUP)
    """SGD with momentum 0.9, or AdamW. Within each task the learning rate falls to zero along a cosine."""
    learning_rate: float = setting(1e-3, paper=_SETUP, short_help=True)
    """Learning rate at the first step of a task."""
    weight_decay: float = setting(0.0, ours="shrinks the trained matrices; 0 leaves it out")
    """Weight decay on the trained matrices B."""
    accumulate: int = setting(1, ours=_SPEED, resume=True, short_help=True)
    """Parts in which the images of a step pass through the encoder, to save memory. The step stays the same."""
    prompts_per_pass: int = setting(2048, ours=_SPEED, resume=True)
    """Prompts that the text encoder holds at a time. With more classes, each step encodes the prompts twice to bound the memory."""
    classes: Literal["new", "seen"] = setting("new", paper="equation 15")
    """Classes in the cross-entropy: only the new ones, or all classes seen so far (ours)."""
    prompts: Literal["first", "drawn"] = setting("first", ours="for classes of several prompts")
    """Prompt of a class of several prompts in training. first: the first one. drawn: one of them, drawn anew for every task. Predictions \
take the mean of all prompts."""
    joint: bool = setting(False, ours="the ceiling for a method that keeps no images")
    """Start every task of a run from the pre-trained model, with the images of all tasks so far. This gives the ceiling for a method that \
keeps no images. `SeGPCL.learn_task` itself learns the images that it is given."""

    def __post_init__(self) -> None:
        not_negative("training", self, "epochs", "weight_decay")
        positive("training", self, "batch_size", "accumulate", "prompts_per_pass", "learning_rate")


@dataclass
class AnchorsConfig:
    """Seeds and anchors: images that stand in for the old classes (equations 9 to 14)."""

    kind: Literal["none"] | str = setting("dpgd", paper="section III-C, equations 10 to 14", short_help=True)
    """Where the anchors come from; dpgd is the paper's way. dpgd: seeds, moved towards the text embedding and the prototype of an old \
class. text, visual: seeds, moved towards only one of the two. seeds: seeds as they are. noise: seeds plus uniform noise within epsilon. \
new-images: the new images themselves (LwF). reference: up to seeds_per_class images of anchors.reference per old class (ZSCL). adc: the \
seeds nearest to the prototype, moved towards it by steps along the gradient (ADC). none: no anchors, nothing to distil on. \
my_package.my_module:Mine: a source of your own (docs/extending.md)."""
    reference: str | None = setting(None, ours="images for ZSCL, a method to compare with")
    """Images for kind reference: a folder, digits, or NAME:FOLDER with a NAME that data.name takes. Only training images are used."""
    seeds_per_class: int = setting(5, paper=f"equation 9, {_SETUP}")
    """K_seed: new images taken per old class. The teacher scores these highest for that class."""
    steps: int = setting(10, paper=f"equation 14, {_SETUP}", short_help=True)
    """K_adv: steps of projected gradient descent."""
    step_size: float = setting(1.5e-3, paper=f"equation 14, {_SETUP}")
    """Gamma: change of a pixel per step, in units of the pixel range [0, 1]."""
    epsilon: float = setting(
        4 / 255, paper="equation 10; section IV-G names 4/255 as an example of a small bound, with figure 11"
    )
    """Largest change of a pixel from its seed, in units of [0, 1]."""
    visual_weight: float = setting(0.5, paper=f"equation 13, {_SETUP}")
    """Lambda_p: weight of the visual (prototype) loss beside the text loss."""
    batch_size: int = setting(128, ours=_SPEED, resume=True)
    """Anchors moved together. It changes speed and memory, not what the anchors are."""
    memory_gb: float = setting(8.0, ours=_SPEED, resume=True)
    """Gigabytes (10^9 bytes) of anchors kept on the device. More anchors go to a file, and each step reads its own from there."""
    folder: str | None = setting(None, ours="place for the anchors beyond anchors.memory_gb", resume=True)
    """Folder for that file. The file is deleted when the task has been learnt. null takes the system's temporary folder."""

    def __post_init__(self) -> None:
        positive("anchors", self, "seeds_per_class", "batch_size")
        not_negative("anchors", self, "steps", "step_size", "epsilon", "visual_weight", "memory_gb")


@dataclass
class DistillationConfig:
    """Anchor-guided cross-modal geometry distillation, ACGD (equations 16 to 18)."""

    weight: float = setting(5.0, paper=f"equation 22, {_SETUP}")
    """Weight of the loss at a logit scale of 100. A model with the scale s uses the weight times 100/s (ours: the loss grows with s \
squared)."""
    temperature: float = setting(20.0, paper=f"equations 17 and 18, {_SETUP}")
    """Tau_A: temperature that softens the scores of teacher and student."""
    batch_size: int = setting(32, paper=_SETUP)
    """Anchors drawn per training step."""
    classes: Literal["all", "anchors"] = setting("all", paper="equations 17 and 18")
    """Old classes over which a step's scores are distilled. all: every old class. anchors (ours): the classes that the step's anchors \
stand for, so that the time of a step does not grow with the number of old classes."""
    both_directions: bool = setting(False, ours="for ZSCL")
    """Keep each text's similarities to the images of the step too, beside each image's similarities to the texts (ZSCL)."""

    def __post_init__(self) -> None:
        not_negative("distillation", self, "weight")
        positive("distillation", self, "batch_size")
        within("distillation", self, 1e-3, 1e6, "temperature")


@dataclass
class TextGeometryConfig:
    """Text semantic-geometry regularisation, TSGR (equations 19 to 21)."""

    weight: float = setting(1.0, paper=f"equation 22, {_SETUP}")
    """Weight of the loss."""
    temperature: float = setting(0.05, paper=f"equations 19 and 20, {_SETUP}")
    """Tau_T: temperature of a class's similarities to its neighbours."""
    neighbours: int = setting(10, paper=_SETUP)
    """k: nearest neighbours of a new class among all seen classes, in the reference text encoder."""

    def __post_init__(self) -> None:
        not_negative("text_geometry", self, "weight")
        positive("text_geometry", self, "neighbours")
        within("text_geometry", self, 1e-4, 1e6, "temperature")


@dataclass
class ExtraLossConfig:
    """One more term of the training loss: a class of your own (ours)."""

    kind: str | None = setting(None, ours="a term of the training loss of your own")
    """The term. my_package.my_module:Mine: a loss of your own (docs/extending.md). null: no further term."""
    weight: float = setting(1.0, ours="1 takes such a term as its class gives it")
    """Weight of the term in the training loss; 0 leaves it out."""

    def __post_init__(self) -> None:
        not_negative("extra_loss", self, "weight")

    @property
    def used(self) -> bool:
        """Whether there is such a term, and its weight is not 0."""
        return self.kind is not None and self.weight > 0


@dataclass
class PrototypesConfig:
    """Class prototypes in the raw visual feature space (equations 23 to 29)."""

    features: Literal["unit", "raw"] = setting("unit", paper="section III-A.3, equation 23")
    """What a prototype is. unit: the direction of the mean of the class's unit features. raw (ours): the mean of the raw features, with \
its length."""
    transfer: Literal["own-anchors", "all-anchors", "sdc", "adc", "none"] = setting(
        "own-anchors", paper="equations 24 to 29"
    )
    """How the prototypes of old classes follow the model after each task. own-anchors: along the drift of the class's own anchors, each \
weighted by its cosine to the prototype. all-anchors (ours): along the drift of all anchors, weighted by likeness and scaled by proximity. \
sdc: like all-anchors, without the scale. adc: along the mean drift of the class's own anchors. none: not at all. Anchors of kind \
new-images and reference belong to no class; they take all-anchors, sdc or none."""
    temperature: float = setting(0.1, ours="for the transfers all-anchors and sdc", measured=_MEASURED)
    """Tau_p: temperature of the weights of all-anchors. For sdc it is sigma squared."""
    score: str = setting("cosine", paper="equations 6 and 30")
    """Score of the visual path. cosine: s·cos(r, μ). mahalanobis (ours): log-likelihood under a normal distribution about the mean of the \
class. All classes share one covariance, summed up over the tasks; own_covariance mixes in each class's own. ridge: regression behind \
random features (RanPAC), for a model that stays frozen. probe: logistic regression, for a frozen model with training.joint. \
my_package.my_module:Mine: a head of your own (docs/extending.md)."""
    shrinkage: float | None = setting(None, ours="for the score mahalanobis; null estimates it", measured=_MEASURED)
    """Share of the mean variance that is mixed into the covariance of mahalanobis, which few images would leave singular. null estimates \
the share (oracle approximating shrinkage)."""
    own_covariance: float = setting(0.0, ours="for the score mahalanobis", measured=_MEASURED)
    """Share of each class's own covariance in mahalanobis, beside the covariance of all classes (regularised discriminant analysis). \
Above 0, every class keeps a matrix of the feature's width squared: 4.7 MB at width 768 in checkpoints, twice that in memory."""
    random_features: int = setting(2000, ours="for RanPAC, a method to compare with")
    """Width of the random projection of ridge."""
    frozen_head: bool = setting(False, ours="for the scores frozen and auto, which may replace the trained model's")
    """Learn a head on the frozen model too, beside the trained model: the same head if that is mahalanobis, else the head of method rda. \
Every task's images are then encoded once more. Predictions from both models take two passes."""

    def __post_init__(self) -> None:
        within("prototypes", self, 1e-4, 1e6, "temperature")
        positive("prototypes", self, "random_features")
        within("prototypes", self, 0, 1, "own_covariance", *([] if self.shrinkage is None else ["shrinkage"]))


@dataclass
class InferenceConfig:
    """Prediction over all seen classes (equations 30 to 32)."""

    beta: float = setting(0.5, paper=f"equation 31, {_SETUP}", short_help=True)
    """Weight of the visual (prototype) score beside the text score in the dual path."""
    path: ScorePath = setting("dual", paper="equations 31 and 32")
    """Scores used when a caller names none: text (CLIP), visual (prototypes) or dual (their weighted sum). Two more (ours) need \
prototypes.frozen_head. frozen: the head on the frozen model. auto: after each task, the images that calibration holds back choose \
between dual, frozen and a weighted sum of both."""
    gate: float | None = setting(None, ours="keeps the untouched model's answers for what was not learnt")
    """Share of images of learnt classes that may go to the untouched model, between 0 and 1, where names compete that were never learnt. \
The untouched model then scores images that fit no learnt class, and the names that were not learnt. The limit comes from the images that \
calibration holds back. null: the trained model scores everything."""
    batch_size: int = setting(256, ours=_SPEED, resume=True)
    """Images encoded together."""

    def __post_init__(self) -> None:
        require(self.gate is None or 0 < self.gate < 1, "inference.gate", "above 0 and below 1, or null", self.gate)
        within("inference", self, 0, 1e6, "beta")
        positive("inference", self, "batch_size")


@dataclass
class CalibrationConfig:
    """Images held back from training, on which a learner measures itself (ours). Their features are kept; the images are not."""

    fraction: float = setting(0.0, ours="measures a learner on images that it was not trained on")
    """Share of each class's training images that are held back from training. They choose between scores (inference.path auto), \
calibrate probabilities and set the limit for unknown images. Afterwards prototypes and heads learn them too. 0 holds none back."""
    max_per_class: int = setting(32, ours="bounds the features that a learner keeps")
    """Largest number of images held back per class."""

    def __post_init__(self) -> None:
        require(0 <= self.fraction < 1, "calibration.fraction", "from 0 to below 1", self.fraction)
        positive("calibration", self, "max_per_class")
