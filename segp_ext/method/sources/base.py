"""Sources of anchors: the base class, which chooses seeds among a task's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import AnchorsConfig, MethodConfig
from segp_ext.data.images import Images, Reader
from segp_ext.runtime.processes import Processes

_LOW = 0xFFFFFFFF


@dataclass(frozen=True)
class Teacher:
    """The model before the task, with the old classes that it knows.

    Attributes:
        backbone: the model, its adapter merged.
        text: its text embeddings of the old classes `[C, De]`.
        prototypes: prototypes of the old classes `[C, Dr]`.
    """

    backbone: Backbone
    text: Tensor
    prototypes: Tensor


@dataclass(frozen=True)
class Candidates:
    """Images among which seeds are chosen.

    Attributes:
        count: number of images.
        encoded: encodes this process's share of them anew: (indices int64 `[B]`, embeddings v `[B, De]`, features z `[B, Dr]`).
        generator: CPU generator for draws; the same on all processes.
        processes: the processes that share the images.
    """

    count: int
    encoded: Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]
    generator: torch.Generator
    processes: Processes


class Source:
    """Makes a task's anchors (equations 9 to 14).

    Name a subclass as `anchors.kind: my_package.my_module:Mine`. It decides which images become seeds (`images`, `seeds`), and how seeds
    become anchors (`draw`, `move`).

    Args:
        settings: the configuration's section `anchors`.

    Attributes:
        of_classes: whether every anchor belongs to an old class: as many to each, class by class. The transfers own-anchors and adc
            need such anchors.
        takes_all: whether the anchors are all images as they are, without seeds. Then no pixels are kept, and `seeds` and `move` are not
            called.
    """

    of_classes = True
    takes_all = False

    def __init__(self, settings: AnchorsConfig) -> None:
        self.settings = settings

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        """Refuses settings that do not go with this source.

        Raises:
            ValueError: naming the setting.
        """
        if not cls.of_classes and config.prototypes.transfer in ("own-anchors", "adc"):
            raise ValueError(
                f"prototypes.transfer must be all-anchors, sdc or none with anchors.kind {config.anchors.kind}, whose images belong to no "
                f"old class; got {config.prototypes.transfer}"
            )

    def check_data(self, classes: int) -> None:
        """Refuses, before the first task, data of the source's own that is too little for `classes` old classes.

        Raises:
            OSError, ValueError: naming the setting.
        """

    def images(self, task: Images, reader: Reader) -> Images:
        """Returns the images that become anchors: the task's own. A source with other images reads them with `reader`."""
        return task

    def doubt(self, images: int) -> str | None:
        """Returns a warning if a task of `images` training images has too few; None otherwise."""
        if images >= self.settings.seeds_per_class:
            return None
        return (
            f"has {images} training images, fewer than the {self.settings.seeds_per_class} seeds of anchors.seeds_per_class; every old "
            "class takes all of them"
        )

    def seeds(self, teacher: Teacher, among: Candidates) -> Tensor:
        """Chooses the seeds of every old class: by default the images that look most like the class to the teacher.

        Args:
            teacher: the model before the task.
            among: the images.

        Returns:
            Indices of images, int64 `[C, K]`, the same on all processes.
        """
        count = min(self.settings.seeds_per_class, among.count)
        return select_seeds(((i, v) for i, v, _ in among.encoded()), teacher.text, count, among.processes)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor | None:
        """Draws random numbers for seeds of this shape. Every process calls it for all seeds in order, so that all draw alike."""
        return None

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        """Turns seeds into anchors.

        The path of a sample must not depend on the samples that are moved with it.

        Args:
            teacher: the model before the task.
            seed: pixels `[B, 3, S, S]` in [0, 1].
            target: old class of each seed, int64 `[B]`.
            drawn: the random numbers of `draw`, on the device; None without any.

        Returns:
            Pixels `[B, 3, S, S]` in [0, 1].
        """
        return seed.clone()


def _keys(score: Tensor, indices: Tensor) -> Tensor:
    """Packs float32 scores and image indices into int64 keys, which sort by score, and by the smaller index where scores are equal."""
    bits = score.float().view(torch.int32).to(torch.int64)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered << 32) | (_LOW - indices)


@torch.no_grad()
def select_seeds(
    batches: Iterable[tuple[Tensor, Tensor]],
    text: Tensor,
    count: int,
    processes: Processes | None = None,
    by_distance: bool = False,
) -> Tensor:
    """Selects the `count` images with the largest v̂·û_c for every class c. It streams: no image × class matrix is kept.

    Args:
        batches: (indices int64 `[B]`, teacher's embeddings `[B, De]`) over this process's share of the new images.
        text: teacher's text embeddings of the old classes `[C, De]`, any norm.
        count: K_seed.
        processes: the processes that share the images; this one alone by default.
        by_distance: select the smallest ‖v − u_c‖ instead, for raw features and prototypes (ADC).

    Returns:
        Image indices int64 `[C, min(count, images)]`, best first, the smaller index first among equals; the same on every process. One
        image can serve several classes.
    """
    unit_text = F.normalize(text, dim=-1)
    none = torch.iinfo(torch.int64).min
    best = torch.full((len(text), count), none, dtype=torch.int64, device=text.device)
    for indices, embedding in batches:
        score = -torch.cdist(text, embedding) if by_distance else unit_text @ F.normalize(embedding, dim=-1).T
        best = torch.cat([best, _keys(score, indices.to(text.device))], dim=1).topk(count, dim=1).values
    if processes is not None:
        best = torch.cat(processes.gather(best), dim=1).topk(count, dim=1).values
    found = int((best[0] != none).sum()) if len(best) else 0
    return _LOW - (best[:, :found] & _LOW)
