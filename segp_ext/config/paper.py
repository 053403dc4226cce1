"""Choices of ours that no single setting states itself (`setting.py` holds each setting's own facts).

The paper is "Continual Learning with Vision-Language Models via Semantic-Geometry Preservation" (SeGP-CL, arXiv 2603.12055, v1).
`python scripts/settings_page.py > docs/settings.md` makes the page from these tables and the settings' own facts.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from segp_ext.config.plain_values import dotted
from segp_ext.config.schema import Config
from segp_ext.config.setting import facts_of


@dataclass(frozen=True)
class Choice:
    """A choice of ours: the paper is silent about it, or the choice goes beyond the paper.

    Attributes:
        why: the choice and its purpose.
        measured: file of this project with the measurement behind it; empty without one.
    """

    why: str
    measured: str = ""


_DIGITS = "evidence/results/digits_validation"
_METHOD = f"{_DIGITS}/method.md"
OTHER_VALUES: dict[str, Choice] = {
    "training.classes=seen": Choice(
        "cross-entropy over all classes seen; on the digits better only on the text path, and it forgets more", _METHOD
    ),
    "distillation.classes=anchors": Choice(
        "scores over the old classes of the step's anchors, so that a step's time does not grow"
    ),
    "training.optimizer=adamw": Choice("for the small built-in model", f"{_DIGITS}/sizes.md"),
    "anchors.kind=text": Choice("anchors without the visual loss, to compare with"),
    "anchors.kind=visual": Choice("anchors without the text loss, to compare with"),
    "anchors.kind=seeds": Choice("seeds as they are; the paper's table III has them too"),
    "anchors.kind=noise": Choice("seeds moved at random, to compare with"),
    "anchors.kind=new-images": Choice("Learning without Forgetting; the paper's table III has them too"),
    "anchors.kind=reference": Choice("ZSCL, arXiv 2303.06628; the paper's table III has them too"),
    "anchors.kind=adc": Choice("ADC, arXiv 2405.19074"),
    "anchors.kind=none": Choice("plain fine-tuning"),
    "prototypes.transfer=all-anchors": Choice(
        "all anchors, by the softmax of their cosines over prototypes.temperature", _METHOD
    ),
    "prototypes.transfer=sdc": Choice("Semantic Drift Compensation, arXiv 2004.00440"),
    "prototypes.transfer=adc": Choice("Adversarial Drift Compensation, arXiv 2405.19074"),
    "prototypes.transfer=none": Choice("prototypes that do not move"),
    "prototypes.features=raw": Choice("means of raw features", _METHOD),
    "prototypes.score=mahalanobis": Choice("a normal distribution about each class's mean", _METHOD),
    "prototypes.score=ridge": Choice("RanPAC, arXiv 2307.02251"),
    "prototypes.score=probe": Choice("logistic regression on all tasks' images, a ceiling"),
    "lora.targets=attention+ffn": Choice("query and output projections as well", _METHOD),
    "lora.targets=kv": Choice("only attention; the paper's table VI has it too"),
    "lora.targets=ffn": Choice("only the FFNs; the paper's table VI has it too"),
    "lora.targets=kv+ffn+convolutions": Choice("for towers of convolutions"),
    "lora.encoders=vision": Choice("only one encoder"),
    "lora.encoders=text": Choice("only one encoder"),
    "inference.path=text": Choice("the paper's onlyCLIP, its table I"),
    "inference.path=visual": Choice("the paper's V., its figure 9"),
    "inference.path=frozen": Choice("a head on the frozen model, learnt beside the trained one"),
    "inference.path=auto": Choice("dual, frozen or both, as images held back choose"),
}
"""Other values of settings for which the paper states one, as "name=value"."""

BESIDE_SETTINGS: dict[str, Choice] = {
    "pixels of anchors stay in [0, 1]": Choice("An anchor then is an image. Equation 14 bounds only the change."),
    "weight of ACGD times 100/s": Choice(
        "The weight is stated for CLIP's logit scale s of 100. The loss grows with s², the cross-entropy's gradient with s.",
        f"{_DIGITS}/sizes.md",
    ),
    "s in ACGD's logits": Choice(
        "Equation 16 writes cosines. Without s the loss would be some 10⁴ times smaller and flat in τ_A, which figure 7 contradicts."
    ),
    "start of the matrices A": Choice("Orthonormal rows. A stays frozen, as in the paper."),
    "one A for query, key and value": Choice(
        "The adapters of query, key and value in one attention start from the same A, so that a packed projection takes them as one. "
        "Only B is trained, and each adapter has its own."
    ),
    "temperature τ of equations 5, 6, 11, 12 and 15": Choice(
        "1/s, with CLIP's own logit scale s. The paper gives no value."
    ),
    "momentum of SGD": Choice("0.9, the usual value."),
    "optimiser and schedule from task to task": Choice(
        "Both start anew. The cosine falls with every step, to 0 at the end of the task."
    ),
    "batches of anchors": Choice("Every step draws anew, without repetition."),
    "class names": Choice("Words: the names of folders are split at underscores and capitals."),
    "a first or later task of one class": Choice(
        "It takes no training steps: cross-entropy over one class is 0, and the other terms keep what is there and teach nothing. The "
        "prototype of the class is made, and old ones stay."
    ),
    "sums of losses in DPGD": Choice("The path of a sample does not depend on its batch."),
    "class orders and preprocessing": Choice(
        "MG-CLIP's, or RAPF's and C3Box's where MG-CLIP has none. The paper names none."
    ),
}
"""Choices without a setting about which the paper is silent."""


def source(name: str) -> str:
    """Returns the source of a setting's default: "the paper: 10, section IV-A.4", "ours", or nothing for settings beside the method."""
    facts = facts_of(Config)[name]
    if facts.paper:
        return f"the paper: {shown(dotted(dataclasses.asdict(Config()))[name])}, {facts.paper}"
    return "ours" if facts.ours else ""


def shown(value: Any) -> str:
    """Returns a value as a file of settings holds it."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return "4/255" if value == 4 / 255 else f"{value:g}" if isinstance(value, float) else str(value)
