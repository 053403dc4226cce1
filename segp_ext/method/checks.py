"""Checks of a task: its class names, prompts and labels before it is learnt, its numbers afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.wording import PLAIN, ClassTokens, Wordings, tokenized
from segp_ext.method.anchors import Anchors


def listed(class_names: Any, argument: str = "class_names") -> list[Any]:
    """Returns class names as a list.

    Args:
        class_names: what the caller passed.
        argument: the argument's name, for messages.

    Raises:
        TypeError: for one string, which would be taken apart into letters, and for a collection without an order.
    """
    if isinstance(class_names, (str, bytes)):
        raise TypeError(f"{argument} must be a list of names; got the string {class_names!r}: write [{class_names!r}]")
    if isinstance(class_names, (set, frozenset, Mapping)) or not isinstance(class_names, Iterable):
        order = " in the order of their labels" if argument == "class_names" else ""
        raise TypeError(
            f"{argument} must be a list of names{order}; got a {type(class_names).__name__}, which has no such order"
        )
    return [str(name) if isinstance(name, np.str_) else name for name in class_names]


def check_new_names(names: Sequence[Any], learnt: Collection[str]) -> None:
    """Refuses names of new classes that are empty, have several lines, are given twice or are `learnt` already.

    Raises:
        ValueError: naming the class.
    """
    if not names:
        raise ValueError("class_names must hold at least one name; got none")
    known = set(learnt)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"class names must be strings that are not empty; got {name!r}")
        if len(name.splitlines()) > 1:
            raise ValueError(f"a class name must be one line; got {name!r}")
        if name in known:
            where = "learnt already" if name in learnt else "given twice"
            raise ValueError(f"class name {name!r} is {where}; every class needs a name of its own")
        known.add(name)


def check_labels(labels: Tensor, names: Sequence[str], least: Sequence[int]) -> None:
    """Refuses labels that are out of range, and classes with too few images.

    Args:
        labels: label of every image of a task, int64 `[N]`.
        names: names of the task's classes.
        least: smallest number of images of each class.

    Raises:
        ValueError: naming the image or the class.
    """
    wrong = ((labels < 0) | (labels >= len(names))).nonzero().flatten()
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(
            f"label of image {index} must be from 0 to {len(names) - 1}, an index into class_names; got {int(labels[index])}"
        )
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    for name, count, fewest in zip(names, counts, least, strict=True):
        if count < fewest:
            raise ValueError(
                f"class {name!r} has {count} training image(s); at least {fewest} are needed (setting min_images_per_class)"
            )


def prompts(backbone: Backbone, template: str, names: Sequence[str], wording: Wordings | None = None) -> ClassTokens:
    """Makes the token ids of classes' prompts.

    Args:
        backbone: its tokenizer is used.
        template: the prompt of classes without one of their own; {} stands for the class name.
        names: the class names.
        wording: how the text encoder reads classes, by name.

    Raises:
        TypeError: if `names` is not a list of names.
        ValueError: for a prompt that does not fit the text context. Also for two names that differ only in what the tokenizer ignores,
            such as case: they would be one class to the text encoder. A wording with `called` says that this is meant.
    """
    names, wording = listed(names), wording or {}
    tokens = tokenized(backbone, [wording.get(name, PLAIN).sentences(name, template) for name in names])
    for index, other in same_prompts(tokens).items():
        pair = names[other], names[index]
        if not any(wording.get(name, PLAIN).called for name in pair):
            raise ValueError(_same(*pair))
    return tokens


def same_prompts(tokens: ClassTokens) -> dict[int, int]:
    """Finds classes that the text encoder cannot tell from an earlier one: {place of the class: place of the first one like it}."""
    first: dict[tuple[tuple[int, ...], ...], int] = {}
    found = {}
    for index, own in enumerate(tokens.tokens.split(tokens.counts.tolist())):
        other = first.setdefault(tuple(map(tuple, own.tolist())), index)
        if other != index:
            found[index] = other
    return found


def alike_rows(text: Tensor, tokens: ClassTokens, first: int = 0) -> Tensor:
    """Gives classes that read the same one embedding to the bit, so that the earlier one leads wherever text alone decides.

    Args:
        text: text embeddings of the classes `[C, De]`, which rounding may have made to differ.
        tokens: their prompts.
        first: the first class that may take an earlier one's embedding.
    """
    alike = {index: other for index, other in same_prompts(tokens).items() if index >= first}
    rows = [alike.get(index, index) for index in range(len(text))]
    return text[rows] if alike else text


def _same(name: str, other: str) -> str:
    return f"class names {name!r} and {other!r} read the same to the text encoder; they need different words"


def prompts_of_others(
    backbone: Backbone, template: str, learnt: Sequence[str], wording: Wordings, others: Sequence[str]
) -> ClassTokens:
    """Makes the token ids of names that were never learnt.

    Args:
        backbone: its tokenizer is used.
        template: the prompt of the names; {} stands for the name.
        learnt: names of the learnt classes.
        wording: how the text encoder reads learnt classes, by name.
        others: the names that were never learnt.

    Raises:
        ValueError: naming a name that is empty, learnt, given twice, too long, or read like another one by the text encoder.
    """
    try:
        check_new_names(others, learnt)
        names = [*learnt, *others]
        tokens = prompts(backbone, template, names, wording)
        for index, other in same_prompts(tokens).items():
            if index >= len(learnt):  # whatever the learnt class is called
                raise ValueError(_same(names[other], names[index]))
    except ValueError as error:
        raise ValueError(f"others: {error}") from error
    return tokens.begin_at(len(learnt))


def check_anchors(anchors: Anchors, task: int) -> None:
    """Refuses anchors whose teacher's outputs are not finite.

    Raises:
        FloatingPointError: naming the first such anchor, and the task by its number `task`.
    """
    for tensor in (anchors.embedding, anchors.feature):
        wrong = (~tensor.sum(dim=1).isfinite()).nonzero().flatten()
        if len(wrong):
            raise FloatingPointError(
                f"the teacher's features of anchor {int(wrong[0])} are not finite in task {task} ({len(wrong)} of "
                f"{len(anchors)} anchors); with model.precision fp16, bf16 or fp32 may help"
            )


def check_finite(what: str, tensors: Iterable[Tensor], task: int) -> None:
    """Refuses tensors that are not finite after a task.

    Raises:
        FloatingPointError: naming the tensors as `what`, and the task by its number `task`.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise FloatingPointError(
            f"the {what} stopped being finite in task {task}; a lower training.learning_rate may help"
        )
