"""What a learner knows of its classes' features in one model: prototypes, and the head that scores features against them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.class_places import merged_rows
from segp_ext.method.heads import Head
from segp_ext.method.named_parts import head_of
from segp_ext.method.own_parts import naming
from segp_ext.method.prototypes import ClassMeans, Means
from segp_ext.runtime.processes import Processes


class ClassStatistics:
    """Statistics of the raw features of all classes in one model.

    Args:
        width: Dr, the width of raw features.
        device: Device of the features.
        dtype: Dtype of the features.
        config: The method's settings.

    Attributes:
        prototypes: Prototypes μ `[C, Dr]`: unit vectors, or means of raw features where `prototypes.features` is raw.
        lengths: Lengths of the means of the classes' unit features when they were learnt, float64 `[C]`; the length of the prototype where
            `prototypes.features` is raw. 1 for a class of a learner that kept none.
        counts: Number of images that each class was learnt from, float64 `[C]`. -1 for a class of a learner that kept none.
        head: The head that scores features.
    """

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype, config: MethodConfig) -> None:
        self.prototypes = torch.zeros(0, width, device=device, dtype=dtype)
        self.lengths = torch.zeros(0, dtype=torch.float64, device=device)
        self.counts = torch.zeros(0, dtype=torch.float64, device=device)
        self.unit = config.prototypes.features == "unit"
        self.head: Head = head_of(config)(width, device, config)

    # -- learning new classes --------------------------------------------------------------------------------------------------

    def begin(self, classes: int) -> None:
        """Starts a task of `classes` new classes, and forgets an earlier task that was not finished."""
        self._means = ClassMeans(classes, self.prototypes, self.unit)
        with naming("prototypes.score", self.head):
            self.head.begin(classes)

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes raw features of some of the task's images; see `Head.add`."""
        self._means.add(feature, label)
        with naming("prototypes.score", self.head):
            self.head.add(feature, label, index)

    def means(self, processes: Processes) -> Means:
        """Returns the means of the new classes over all processes. The learner's own statistics stay as they are."""
        return self._means.read(processes)

    def finish(self, old: Tensor, new: Means, processes: Processes) -> None:
        """Ends the task: takes the new classes up, over all processes. If the head fails, nothing changes.

        Args:
            old: Prototypes of the old classes after their transfer `[C_old, Dr]`.
            new: What `means` returned.
            processes: The processes that learn together.
        """
        if len(new.counts):  # a head would choose what it chooses by a task's images on none
            with naming("prototypes.score", self.head):
                self.head.finish(processes)
        self.prototypes = torch.cat([old, new.prototypes])
        self.lengths = torch.cat([self.lengths, new.lengths])
        self.counts = torch.cat([self.counts, new.counts])

    # -- changing classes ------------------------------------------------------------------------------------------------------

    def class_means(self) -> Tensor:
        """Returns the mean feature of every class, float64 `[C, Dr]`: of unit features, or of raw ones as `prototypes.features` says."""
        means = self.prototypes.double()
        return means * self.lengths[:, None] if self.unit else means

    def check_updates(self, places: Tensor) -> None:
        """Refuses classes that can take no more images.

        Args:
            places: The classes, int64 `[N]`.

        Raises:
            ValueError: Saying why.
        """
        if not self.head.takes_updates():
            raise ValueError(
                f"known classes take no more images with the head {type(self.head).__name__} (prototypes.score), which has no method update"
            )
        self._check_counts(places, "take no more images")

    def _check_counts(self, places: Tensor, what: str) -> None:
        if bool((self.counts[places] < 0).any()):
            raise ValueError(
                f"classes that segp_ext 0.2 learnt {what}: it did not keep how many images they were learnt from"
            )

    def update(self, feature: Tensor, label: Tensor) -> None:
        """Lets known classes take more images, as if they had been learnt with the others.

        Args:
            feature: Raw features `[N, Dr]` of the images in the model of today.
            label: Their classes, int64 `[N]`, places among all classes.

        Raises:
            ValueError: If the head cannot take more images.
        """
        if not len(label):
            return
        touched = label.unique()
        before, rows = self.class_means(), F.normalize(feature.double(), dim=1) if self.unit else feature.double()
        with naming("prototypes.score", self.head):
            self.head.update(feature, label, before, self.counts)
        sums = before * self.counts[:, None]
        sums = sums.index_add(0, label, rows)
        counts = self.counts + torch.bincount(label, minlength=len(self.counts)).to(self.counts)
        means = sums / counts[:, None]
        moved = F.normalize(means, dim=1) if self.unit else means
        prototypes, lengths = self.prototypes.clone(), self.lengths.clone()
        prototypes[touched], lengths[touched] = moved[touched].to(prototypes.dtype), means.norm(dim=1)[touched]
        self.prototypes, self.lengths, self.counts = prototypes, lengths, counts

    def keep(self, places: Tensor) -> None:
        """Leaves classes out. The scores of the others stay as they are.

        Args:
            places: Places of the classes that stay, int64 `[K]`, ascending.

        Raises:
            ValueError: If the head cannot leave a class out.
        """
        with naming("prototypes.score", self.head):
            self.head.keep(places)
        self.prototypes, self.lengths, self.counts = (
            rows[places] for rows in (self.prototypes, self.lengths, self.counts)
        )

    def merge(self, places: Tensor) -> None:
        """Makes one class of several, as if it had been learnt from all their images.

        Args:
            places: Places of the classes that become one, int64 `[M]`, ascending. The merged class stands at the first of them.

        Raises:
            ValueError: If the head cannot merge classes, or the numbers of their images are not known.
        """
        self._check_counts(places, "cannot be merged")
        own, means = self.counts[places], self.class_means()
        with naming("prototypes.score", self.head):
            self.head.merge(places, means, self.counts)
        mean = (own[:, None] * means[places]).sum(dim=0) / own.sum()
        prototype = F.normalize(mean, dim=0) if self.unit else mean
        self.prototypes = merged_rows(self.prototypes, places, prototype)
        self.lengths = merged_rows(self.lengths, places, mean.norm())
        self.counts = merged_rows(self.counts, places, own.sum())

    # -- copies and checkpoints ------------------------------------------------------------------------------------------------

    def scores(self, feature: Tensor, scale: float) -> Tensor:
        """Scores raw features `[B, Dr]` against all classes, `[B, C]`; see `Head.scores`."""
        with naming("prototypes.score", self.head):
            return self.head.scores(feature, self.prototypes, scale)

    def takes_held_back(self) -> bool:
        """Tells whether classes learn their images held back at last: the head must be able to score them as if it had not."""
        head = type(self.head)
        tells = head.left_out_scores is not Head.left_out_scores or head.add is Head.add
        return tells and self.head.takes_updates()

    def held_back_scores(self, feature: Tensor, label: Tensor, scale: float) -> Tensor:
        """Scores images held back as if their classes had not learnt them at last.

        Args:
            feature: Raw features `[N, Dr]`.
            label: Their classes, int64 `[N]`, places among all classes.
            scale: s of the model.

        Returns:
            Scores, float64 `[N, C]`.
        """
        if not self.takes_held_back():  # they were not learnt
            return self.scores(feature, scale).double()
        means = self.class_means()
        with naming("prototypes.score", self.head):
            if type(self.head).add is not Head.add:
                return self.head.left_out_scores(feature, label, means, self.counts, scale)
            found = self.head.scores(feature, self.prototypes, scale).double()
            rows = F.normalize(feature.double(), dim=1) if self.unit else feature.double()
            for place in label.unique().tolist():
                own = (label == place).nonzero().flatten()
                rest = self.counts[place] * means[place] - rows[own]  # a prototype of its own for each image
                rest = F.normalize(rest, dim=1) if self.unit else rest / (self.counts[place] - 1)
                found[own, place] = self.head.scores(feature[own], rest.to(feature.dtype), scale).diagonal().double()
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name; all but the prototypes are float64."""
        head = {f"head.{name}": tensor for name, tensor in self.head.state().items()}
        return {"prototypes": self.prototypes, "lengths": self.lengths, "counts": self.counts, **head}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors that `tensors` gave. Older checkpoints have no lengths and no counts.

        Raises:
            KeyError: If there are no prototypes.
            ValueError: If the head's tensors have other names, or a tensor does not fit.
        """
        prototypes = tensors["prototypes"]
        head = {name.removeprefix("head."): tensor for name, tensor in tensors.items() if name.startswith("head.")}
        expects = self.head.state()
        if head.keys() != expects.keys():
            raise ValueError(f"the head's tensors must be {sorted(expects)}; got {sorted(head)}")
        ones = torch.ones(len(prototypes), dtype=torch.float64, device="cpu")
        lengths, counts = tensors.get("lengths", head.get("lengths", ones)), tensors.get("counts", -ones)
        for name, tensor in (("lengths", lengths), ("counts", counts)):
            if list(tensor.shape) != [len(prototypes)]:
                raise ValueError(
                    f"{name} must be [{len(prototypes)}], a number for each class; got {list(tensor.shape)}"
                )
        self.head.restore(head)
        device = self.prototypes.device
        self.prototypes = prototypes.to(device, self.prototypes.dtype)
        self.lengths, self.counts = lengths.to(device), counts.to(device)
