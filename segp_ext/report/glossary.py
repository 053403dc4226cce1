"""Words of the pages: what each column, path, method and phase is."""

from __future__ import annotations

from segp_ext.config import ScorePath
from segp_ext.config.methods import FILES

METRICS = {"avg": "Avg", "last": "Last", "forgetting": "Forgetting", "bwt": "BWT", "fwt": "FWT"}
"""Column of each metric over seen classes, by its key in result.json."""
GLOBAL_METRICS = {"global_fwt": "global FWT", "global_bwt": "global BWT", "global_forgetting": "global Forgetting"}
"""Column of each global metric, by its key in result.json."""

COLUMNS = {
    "Avg": "mean of the accuracies after each task",
    "Last": "accuracy after the last task",
    "Forgetting": "mean drop of old tasks from their best",
    "BWT": "mean change of old tasks since they were learnt",
    "FWT": "zero-shot accuracy on the next task before it is learnt, over that task's classes (text path only; tasks of one class, "
    "which are always right, are left out)",
}
"""Meaning of the columns over seen classes."""
GLOBAL_CAPTION = (
    "Global, text path: accuracy in percent on the test images of all tasks, future ones too, against all class names (the paper's "
    "Table II)"
)
GLOBAL_COLUMNS = {
    "global FWT": "mean accuracy on a task just before it is learnt",
    "global BWT": "mean change of old tasks since they were learnt",
    "global Forgetting": "mean drop of old tasks from their best after any task",
}
"""Meaning of the global columns."""
PATHS: dict[ScorePath, str] = {
    "text": "compares an image with the class names",
    "visual": "compares an image with each class's training images, by a prototype or another head on image features",
    "dual": "adds the scores of both paths",
    "frozen": "scores by the head on the pre-trained model alone",
    "auto": "dual, frozen or a weighted sum of both, chosen after each task on images held back from training",
}
"""Meaning of each score path."""
_SEGP_ANCHORS = "segp, but {} take the place of its anchors"
METHODS = {
    "segp": "the method of this package (SeGP-CL): LoRA, held on anchors between old and new classes; prototypes move with the model",
    "zero-shot": "CLIP as it was pre-trained, with class names alone; nothing is learnt",
    "frozen-prototypes": "the pre-trained model, with the mean image feature of each class; no training",
    "ranpac": "the pre-trained model, with ridge regression on random features; no training of the model",
    "lda": "the pre-trained model, with normal distributions of one covariance for all classes; no training of the model",
    "rda": "the pre-trained model, with a normal distribution of its own for each class; no training of the model",
    "linear-probe": "a linear classifier on the pre-trained model, trained on all images of all tasks at once: a ceiling",
    "joint": "LoRA trained on all images of all tasks at once: a ceiling",
    "lora": "LoRA trained task after task; nothing holds it back from forgetting",
    "sdc": "LoRA whose prototypes follow the drift of new images",
    "adc": "LoRA whose prototypes follow new images that were moved towards them",
    "lwf": "LoRA, held on the new task's own images",
    "zscl": "LoRA, held on reference images, in both directions",
    "seeds": _SEGP_ANCHORS.format("seeds, which are not moved,"),
    "noise": _SEGP_ANCHORS.format("seeds with noise"),
    "text-pgd": _SEGP_ANCHORS.format("images that were moved towards the text alone"),
    "visual-pgd": _SEGP_ANCHORS.format("images that were moved towards the prototype alone"),
    "auto": "segp and a head on the frozen model together; images held back from training choose whose scores are used",
}
"""Meaning of each method of the package."""
BASELINES = {
    "zero-shot": METHODS["zero-shot"],
    "frozen prototypes": METHODS["frozen-prototypes"],
    "frozen rda": METHODS["rda"],
    "frozen lda": METHODS["lda"],
}
"""Meaning of the rows that every run measures beside its method."""
PHASES = {
    "baselines": "scores the frozen rows",
    "evaluation": "scores the test images",
    "text": "encodes class names",
    "seeds": "chooses the seeds of anchors",
    "anchors": "moves the anchors",
    "training": "trains the adapter",
    "prototypes": "makes prototypes of new classes",
    "transfer": "moves prototypes of old classes",
}
"""Meaning of a run's phases."""


def row_meaning(row: str) -> str:
    """Says what a row is: a baseline, or a method with its changed settings.

    Args:
        row: name of a baseline, or a method's name and its changes, as `segp anchors.steps=20`.
    """
    if row in BASELINES:
        return BASELINES[row]
    method, *changes = row.split()
    if method in METHODS:
        meaning = METHODS[method]
    elif method in FILES:
        meaning = f"a method of your own, from {FILES[method].name}"
    else:
        meaning = "a method of your own"
    return f"{meaning}; with {', '.join(changes)}" if changes else meaning
