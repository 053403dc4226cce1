"""What a source of anchors is: images that stand in for the old classes while a task is learnt."""

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
    """The model before the task, and what it knows.

    Attributes:
        backbone: merged, to encode with.
        text: its text embeddings of the old classes `[C, De]`.
        prototypes: of the old classes `[C, Dr]`.
    """

    backbone: Backbone
    text: Tensor
    prototypes: Tensor


@dataclass(frozen=True)
class Candidates:
    """Images that seeds are chosen from, and those who choose.

    Attributes:
        count: number of images.
        encoded: reads this process's share of them anew: (indices int64 `[B]`, embeddings v `[B, De]`, features z `[B, Dr]`).
        generator: CPU generator for draws; the same on all processes.
        processes: those that share the images.
    """

    count: int
    encoded: Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]
    generator: torch.Generator
    processes: Processes


class Source:
    """Where a task's anchors come from (equations 9 to 14).

    Subclass this, and name the class as `anchors.kind: my_package.my_module:Mine`. The class decides which images become seeds
    (`images`, `seeds`), and what is done to them (`draw`, `move`).

    Args:
        settings: the configuration's section `anchors`.

    Attributes:
        of_classes: whether every anchor belongs to an old class, as many to each, class by class. The transfers own-anchors and adc
            need that.
        takes_all: whether the anchors are all images as they are, without seeds: then neither pixels are kept nor `seeds` and `move`
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
        """Refuses, before the first task, data of the source's own that cannot do for so many old classes.

        Raises:
            OSError, ValueError: naming the setting.
        """

    def images(self, task: Images, reader: Reader) -> Images:
        """Images that become anchors: the task's own, unless the source has others, which `reader` reads."""
        return task

    def doubt(self, images: int) -> str | None:
        """What to say of so many training images of a task, if they are few."""
        if images >= self.settings.seeds_per_class:
            return None
        return (
            f"has {images} training images, fewer than the {self.settings.seeds_per_class} seeds of anchors.seeds_per_class; every old "
            "class takes all of them"
        )

    def seeds(self, teacher: Teacher, among: Candidates) -> Tensor:
        """Chooses the seeds: indices of images, int64 `[C, K]`, the same on all processes. By default those that look most like each
        class to the teacher."""
        count = min(self.settings.seeds_per_class, among.count)
        return select_seeds(((i, v) for i, v, _ in among.encoded()), teacher.text, count, among.processes)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor | None:
        """Random numbers for seeds of this shape; called for all of them in order on every process, so that all draw alike."""
        return None

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        """Turns seeds into anchors.

        A sample's way must not depend on the others that it is moved with.

        Args:
            teacher: the model that they are made for.
            seed: pixels `[B, 3, S, S]` in [0, 1].
            target: old class of each seed, int64 `[B]`.
            drawn: what `draw` gave, on the device.

        Returns:
            Pixels `[B, 3, S, S]` in [0, 1].
        """
        return seed.clone()


def _keys(score: Tensor, indices: Tensor) -> Tensor:
    """Scores float32 and image indices as int64 that sort by score, and by the smaller index where scores are equal."""
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
    """The `count` images with the largest v̂·û_c for every class c, streamed: no image × class matrix is kept.

    Args:
        batches: (indices int64 `[B]`, teacher's embeddings `[B, De]`) over this process's share of the new images.
        text: teacher's text embeddings of the old classes `[C, De]`, any norm.
        count: K_seed.
        processes: those that share the images.
        by_distance: take the smallest ‖v − u_c‖ instead, for raw features and prototypes (ADC).

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
