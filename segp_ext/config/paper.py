"""What the paper states of every setting of the method, and what is ours: the tables behind --help, docs/settings.md and a test.

The paper is "Continual Learning with Vision-Language Models via Semantic-Geometry Preservation" (SeGP-CL, arXiv 2603.12055, v1).
`python scripts/settings_page.py > docs/settings.md` makes the page from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stated:
    """A value that the paper states.

    Attributes:
        value: the paper's, which is our default.
        where: section, equation, table or figure of the paper.
    """

    value: Any
    where: str


@dataclass(frozen=True)
class Ours:
    """A setting on which the paper is silent, or that goes beyond it.

    Attributes:
        why: what it is for, and what chose its default.
        measured: what measured it, a file of this project; empty where nothing did.
    """

    why: str
    measured: str = ""


_SETUP = "section IV-A.4"
PAPER: dict[str, Stated] = {
    "template": Stated("a photo of a {}.", "section III-A.2, equation 4"),
    "model.name": Stated("ViT-B-16-quickgelu", f"{_SETUP}: CLIP ViT-B/16"),
    "model.pretrained": Stated("openai", _SETUP),
    "lora.rank": Stated(32, "table VI"),
    "lora.encoders": Stated("both", _SETUP),
    "lora.targets": Stated("kv+ffn", f"table VI; {_SETUP} says attention projections and FFN"),
    "training.epochs": Stated(10, _SETUP),
    "training.batch_size": Stated(128, _SETUP),
    "training.optimizer": Stated("sgd", _SETUP),
    "training.learning_rate": Stated(1e-3, _SETUP),
    "training.classes": Stated("new", "equation 15"),
    "anchors.kind": Stated("dpgd", "section III-C, equations 10 to 14"),
    "anchors.seeds_per_class": Stated(5, f"equation 9, {_SETUP}"),
    "anchors.steps": Stated(10, f"equation 14, {_SETUP}"),
    "anchors.step_size": Stated(1.5e-3, f"equation 14, {_SETUP}"),
    "anchors.epsilon": Stated(
        4 / 255, "equation 10; section IV-G names 4/255 as an example of a small bound, with figure 11"
    ),
    "anchors.visual_weight": Stated(0.5, f"equation 13, {_SETUP}"),
    "distillation.weight": Stated(5.0, f"equation 22, {_SETUP}"),
    "distillation.temperature": Stated(20.0, f"equations 17 and 18, {_SETUP}"),
    "distillation.batch_size": Stated(32, _SETUP),
    "text_geometry.weight": Stated(1.0, f"equation 22, {_SETUP}"),
    "text_geometry.temperature": Stated(0.05, f"equations 19 and 20, {_SETUP}"),
    "text_geometry.neighbours": Stated(10, _SETUP),
    "prototypes.features": Stated("unit", "section III-A.3, equation 23"),
    "prototypes.transfer": Stated("own-anchors", "equations 24 to 29"),
    "prototypes.score": Stated("cosine", "equations 6 and 30"),
    "inference.beta": Stated(0.5, f"equation 31, {_SETUP}"),
    "inference.path": Stated("dual", "equations 31 and 32"),
}
"""The paper's value of every setting that it states, by dotted name."""

_SPEED = "changes speed and memory alone"
_DIGITS = "evidence/results/digits_validation"
OURS: dict[str, Ours] = {
    "method": Ours("names the methods to compare with"),
    "seed": Ours("makes a run repeatable"),
    "ops": Ours("the fused kernels or their eager twins; the same numbers up to rounding"),
    "min_images_per_class": Ours("refuses a class of one image, of which no distribution can be told"),
    "lora.alpha": Ours("the rank, so that the adapter's scale is 1"),
    "training.weight_decay": Ours("shrinks what is trained; 0 leaves it out"),
    "training.joint": Ours("the ceiling for a method that keeps no images"),
    "training.accumulate": Ours(_SPEED),
    "training.prompts_per_pass": Ours(_SPEED),
    "anchors.reference": Ours("images for ZSCL, a method to compare with"),
    "anchors.batch_size": Ours(_SPEED),
    "anchors.memory_gb": Ours(_SPEED),
    "anchors.folder": Ours("where anchors beyond anchors.memory_gb lie"),
    "distillation.both_directions": Ours("for ZSCL"),
    "prototypes.temperature": Ours("of the transfers all-anchors and sdc", f"{_DIGITS}/method.md"),
    "prototypes.shrinkage": Ours("of the score mahalanobis; estimated unless given", f"{_DIGITS}/method.md"),
    "prototypes.own_covariance": Ours("of the score mahalanobis", f"{_DIGITS}/method.md"),
    "prototypes.random_features": Ours("of RanPAC, a method to compare with"),
    "inference.batch_size": Ours(_SPEED),
    "loading.resize": Ours("exact is CLIP's own preprocessing; device saves memory and differs by rounding"),
    "loading.orientation": Ours(
        "stored, as torchvision's loaders and published numbers have images; exif turns photographs upright"
    ),
    "loading.workers": Ours(_SPEED),
    "loading.memory_gb": Ours(_SPEED),
}
"""Every other setting of the method, by dotted name."""

_METHOD = f"{_DIGITS}/method.md"
OTHER_VALUES: dict[str, Ours] = {
    "training.classes=seen": Ours(
        "cross-entropy over all classes seen; on the digits better on the text path alone, and forgets more", _METHOD
    ),
    "training.optimizer=adamw": Ours("for the small built-in model", f"{_DIGITS}/sizes.md"),
    "anchors.kind=text": Ours("anchors without the visual loss, to compare with"),
    "anchors.kind=visual": Ours("anchors without the text loss, to compare with"),
    "anchors.kind=seeds": Ours("seeds that are not moved; the paper's table III has them too"),
    "anchors.kind=noise": Ours("seeds moved at random, to compare with"),
    "anchors.kind=new-images": Ours("Learning without Forgetting; the paper's table III has them too"),
    "anchors.kind=reference": Ours("ZSCL, arXiv 2303.06628; the paper's table III has them too"),
    "anchors.kind=adc": Ours("ADC, arXiv 2405.19074"),
    "anchors.kind=none": Ours("plain fine-tuning"),
    "prototypes.transfer=all-anchors": Ours(
        "all anchors, by the softmax of their cosines over prototypes.temperature", _METHOD
    ),
    "prototypes.transfer=sdc": Ours("Semantic Drift Compensation, arXiv 2004.00440"),
    "prototypes.transfer=adc": Ours("Adversarial Drift Compensation, arXiv 2405.19074"),
    "prototypes.transfer=none": Ours("prototypes that stay"),
    "prototypes.features=raw": Ours("means of raw features", _METHOD),
    "prototypes.score=mahalanobis": Ours("a normal distribution about each class's mean", _METHOD),
    "prototypes.score=ridge": Ours("RanPAC, arXiv 2307.02251"),
    "prototypes.score=probe": Ours("logistic regression on all tasks' images, a ceiling"),
    "lora.targets=attention+ffn": Ours("query and output projections too", _METHOD),
    "lora.targets=kv": Ours("attention alone; the paper's table VI has it too"),
    "lora.targets=ffn": Ours("the FFNs alone; the paper's table VI has it too"),
    "lora.targets=kv+ffn+convolutions": Ours("for towers of convolutions"),
    "lora.encoders=vision": Ours("one encoder alone"),
    "lora.encoders=text": Ours("one encoder alone"),
    "inference.path=text": Ours("the paper's onlyCLIP, its table I"),
    "inference.path=visual": Ours("the paper's V., its figure 9"),
}
"""What else a setting may be on which the paper states a value."""

BESIDE_SETTINGS: dict[str, Ours] = {
    "pixels of anchors stay in [0, 1]": Ours("so that an anchor is an image; equation 14 bounds the change alone"),
    "weight of ACGD times 100/s": Ours(
        "The weight is stated for CLIP's logit scale s of 100. The loss grows with s², the cross-entropy's gradient with s.",
        f"{_DIGITS}/sizes.md",
    ),
    "s in ACGD's logits": Ours(
        "Equation 16 writes cosines. Without s the loss would be some 10⁴ times smaller and flat in τ_A, which figure 7 contradicts."
    ),
    "start of the matrices A": Ours("orthonormal rows; A stays frozen, as in the paper"),
    "one A for query, key and value": Ours(
        "The adapters of one attention's query, key and value start from the same A, so that a packed projection takes them as one. B "
        "alone is trained, and each has its own."
    ),
    "temperature τ of equations 5, 6, 11, 12 and 15": Ours("1/s, CLIP's own logit scale; the paper gives no value"),
    "momentum of SGD": Ours("0.9, the usual value"),
    "optimiser and schedule from task to task": Ours(
        "Both start anew, and the cosine falls with every step, to 0 at the task's end."
    ),
    "batches of anchors": Ours("A fresh draw without repetition for every step."),
    "class names": Ours("As words: underscores and capitals of folders' names are taken apart."),
    "a first or later task of one class": Ours(
        "It takes no training steps: cross-entropy over one class is 0, and the other terms hold what is there but teach nothing. The "
        "class's prototype is made, old ones stay."
    ),
    "sums of losses in DPGD": Ours("A sample's path does not depend on its batch."),
    "class orders and preprocessing": Ours("of MG-CLIP, or RAPF and C3Box where that has none; the paper names none"),
}
"""Choices without a setting on which the paper is silent."""


def note(setting: str) -> str:
    """What --help says of a setting's source; empty for settings that are none of the method's."""
    if setting in PAPER:
        return f"(the paper: {shown(PAPER[setting].value)}, {PAPER[setting].where})"
    return "(ours)" if setting in OURS else ""


def shown(value: Any) -> str:
    """A value as a file of settings has it."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return "4/255" if value == 4 / 255 else f"{value:g}" if isinstance(value, float) else str(value)
