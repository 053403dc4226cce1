"""How the text encoder reads classes: the prompts of each class, their token ids, and their mean as one embedding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.clip.backbone import Backbone


@dataclass(frozen=True)
class Wording:
    """How the text encoder reads one class.

    Attributes:
        called: Name of the class in its prompts; empty for the name that it is learnt under.
        prompts: Prompts, of which several are an ensemble, and the first is the plain one. {} stands for the name; a sentence without it
            stays as it is. Empty for the learner's `template`.
    """

    called: str = ""
    prompts: list[str] = field(default_factory=list)

    def sentences(self, name: str, template: str) -> list[str]:
        """Returns the prompts of a class, written out.

        Args:
            name: Name that the class is learnt under.
            template: The learner's template.
        """
        return [prompt.replace("{}", self.called or name) for prompt in self.prompts or [template]]


Wordings = Mapping[str, Wording]
"""Wordings by the names of classes. A class that is not there is read by the learner's template."""
PLAIN = Wording()
"""The wording of a class without one."""


def first_wordings(tasks: Iterable[tuple[Sequence[str], Wordings]]) -> dict[str, Wording]:
    """Returns the wordings that classes are learnt with. A class of several tasks has that of the first one, if only the template.

    Args:
        tasks: The class names of each task, and wordings of some of them.
    """
    found: dict[str, Wording] = {}
    for names, wording in tasks:
        for name in names:
            found.setdefault(name, wording.get(name, PLAIN))
    return {name: own for name, own in found.items() if own != PLAIN}


def check_wording(name: str, wording: object) -> None:
    """Refuses what is no wording.

    Raises:
        TypeError: For another type, naming the class.
        ValueError: For a prompt that is empty, has several lines, has other braces than {}, or stands there twice.
    """
    if not isinstance(wording, Wording):
        raise TypeError(f"wording of class {name!r} must be a segp_ext.Wording; got {type(wording).__name__}")
    for place, prompt in enumerate(wording.prompts):
        if not isinstance(prompt, str) or not prompt.strip() or len(prompt.splitlines()) > 1:
            raise ValueError(f"a prompt of class {name!r} must be one line of text; got {prompt!r}")
        if "{" in prompt.replace("{}", "") or "}" in prompt.replace("{}", ""):
            raise ValueError(
                f"a prompt of class {name!r} may have no other braces than {{}}, for its name; got {prompt!r}"
            )
        if prompt in wording.prompts[:place]:
            raise ValueError(
                f"class {name!r} has the prompt {prompt!r} twice; each one counts in the mean, so give it once"
            )


@dataclass(frozen=True)
class ClassTokens:
    """Token ids of classes' prompts.

    Attributes:
        tokens: Token ids of all prompts, class after class, `[P, L]`.
        counts: Number of prompts of each class, int64 `[C]`.
    """

    tokens: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def are_single(self) -> bool:
        """Whether no class has more than one prompt."""
        return len(self.tokens) == len(self.counts)

    @property
    def _first(self) -> Tensor:
        return self.counts.cumsum(0) - self.counts

    def plain(self) -> Tensor:
        """Returns the first prompt of every class, `[C, L]`."""
        return self.tokens[self._first]

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Returns one prompt of every class, drawn by a CPU generator, `[C, L]`."""
        share = torch.rand(len(self), dtype=torch.float64, generator=generator, device="cpu")
        return self.tokens[self._first + (share * self.counts).long()]

    def begin_at(self, first: int) -> ClassTokens:
        """Returns the prompts of the classes from `first` on."""
        return ClassTokens(self.tokens[int(self.counts[:first].sum()) :], self.counts[first:])


def tokenized(backbone: Backbone, sentences: Sequence[Sequence[str]]) -> ClassTokens:
    """Makes the token ids of classes' prompts.

    Args:
        backbone: Its tokenizer is used.
        sentences: The prompts of each class, at least one.

    Raises:
        ValueError: For a prompt that does not fit the text context.
    """
    tokens = backbone.tokenize([sentence for own in sentences for sentence in own])
    return ClassTokens(tokens, torch.tensor([len(own) for own in sentences], dtype=torch.int64, device="cpu"))


def mean_embeddings(embeddings: Tensor, counts: Tensor) -> Tensor:
    """Makes one text embedding of each class: the mean of its prompts' unit embeddings, as CLIP's authors average prompts.

    Args:
        embeddings: Embeddings of all prompts, class after class, any norm, `[P, De]`.
        counts: Number of prompts of each class, int64 `[C]`.

    Returns:
        Embeddings u `[C, De]`. A class of one prompt has the embedding of this prompt, whatever its norm.
    """
    if len(embeddings) == len(counts):
        return embeddings
    parts = embeddings.split(counts.tolist())
    return torch.stack([part[0] if len(part) == 1 else F.normalize(part, dim=-1).mean(dim=0) for part in parts])
