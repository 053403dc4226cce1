"""Changes of a learner's classes without their images: removing, renaming and merging them."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from segp_ext.method.calibration import Calibration
from segp_ext.method.checks import check_new_names, listed, prompts
from segp_ext.method.class_places import places_after_keeping, places_after_merging, places_kept
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.state import State
from segp_ext.runtime.process_state import without_autocast
from segp_ext.storage.class_records import ClassRecord, merged_records, renamed_records, sizes_of_tasks


class ClassEditing(State):
    """A learner's state whose classes can be removed, renamed and merged."""

    def remove_classes(self, names: Sequence[str]) -> None:
        """Removes classes. Images are then named by the other classes alone, whose scores stay as they are.

        Later tasks make anchors for the other classes. A task that loses all its classes keeps its number, and its size is 0. Temperatures
        and the shares of the path auto stay too, until the next task.

        Args:
            names: Names of the classes.

        Raises:
            TypeError: If `names` is not a list of names.
            ValueError: For a class that was not learnt, the message naming close ones; for a name given twice; if no class would stay; for
                a head that cannot leave a class out. The learner is as before, here and below.
            RuntimeError: While the learner learns, in another thread.
        """
        with self._editing():
            places = self._places(names, "remove_classes")
            if len(places) == len(self.records):
                raise ValueError(
                    "a learner keeps at least one class; to begin anew, make another learner, or call forget()"
                )
            classes = len(self.records)
            kept = places_kept(classes, places)
            self._take_statistics(lambda each: each.keep(kept), places_after_keeping(classes, kept))
            self._take_records(tuple(self.records[place] for place in kept.tolist()), self.calibration)

    def rename_class(self, old: str, new: str) -> None:
        """Gives a class another name. Its prompt is encoded anew; prototypes and heads stay as they are.

        Args:
            old: Name of the class.
            new: Name that it gets.

        Raises:
            ValueError: For a class that was not learnt, the message naming close ones; for a new name that is empty, learnt, too long, or
                read like another one by the text encoder.
            RuntimeError: While the learner learns, in another thread.
        """
        with self._editing():
            (place,) = self._places([old], "rename_class").tolist()
            check_new_names([new], self.class_names)
            self._take_records(renamed_records(self.records, place, new))

    def merge_classes(self, names: Sequence[str], into: str) -> None:
        """Makes one class of several, as if it had been learnt from all their images in the model of today.

        It stands at the place, and in the task, of the class among them that was learnt first.

        Args:
            names: Names of two classes or more.
            into: Name of the merged class, which may be one of `names`.

        Raises:
            TypeError: If `names` is not a list of names.
            ValueError: For a class that was not learnt, the message naming close ones; for fewer than two classes, or one given twice; for
                a name that `rename_class` refuses; for classes whose numbers of images are not known; for a head that cannot merge.
            RuntimeError: While the learner learns, in another thread.
        """
        with self._editing():
            names = listed(names, "names")
            places = self._places(names, "merge_classes")
            if len(places) < 2:
                raise ValueError(f"merge_classes needs two classes or more; got {', '.join(map(repr, names))} alone")
            check_new_names([into], [name for name in self.class_names if name not in names])
            self._take_statistics(lambda each: each.merge(places), places_after_merging(len(self.records), places))
            self._take_records(merged_records(self.records, places.tolist(), into))

    @contextmanager
    def _editing(self) -> Iterator[None]:
        """Changes classes within a moment, or leaves the learner as it was."""
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            without_autocast(),
            self._changing(),
            self._as_before_on_failure(),
        ):
            self.check_settings()
            yield

    def _places(self, names: Any, method: str) -> Tensor:
        """Returns the places of classes, int64 `[N]`, ascending."""
        names, learnt = listed(names, "names"), self.class_names
        if not names:
            raise ValueError(f"{method} needs the name of a class; got none")
        for place, name in enumerate(names):
            if name not in learnt:
                close = difflib.get_close_matches(str(name), learnt)
                hint = f"; close: {', '.join(map(repr, close))}" if close else ""
                raise ValueError(f"no class {name!r} has been learnt{hint}")
            if name in names[:place]:
                raise ValueError(f"class {name!r} is given twice")
        return torch.tensor(sorted(map(learnt.index, names)), dtype=torch.int64, device=self.prototypes.device)

    def _take_statistics(self, change: Callable[[ClassStatistics], None], where: Tensor) -> None:
        """Changes the classes' statistics in both models, and the places of the images held back.

        Args:
            change: Changes the statistics of one model.
            where: New place of every class of before, int64 `[C]`.
        """
        statistics, frozen = copy.deepcopy((self.statistics, self.frozen))
        for each in (statistics, frozen):
            if each is not None:
                change(each)
        self.statistics, self.frozen, self.held = statistics, frozen, self.held.replaced(where)
        self.untransferred = None

    def _take_records(self, records: tuple[ClassRecord, ...], measured: Calibration | None = None) -> None:
        """Takes over the records of the classes, and measures the learner anew.

        Args:
            records: The records.
            measured: What was found before, where temperatures and shares stay.
        """
        wording = {record.name: record.wording for record in records}
        prompts(self.backbone, self.config.template, [*wording], wording)  # refuses names that read the same
        self.task_sizes = sizes_of_tasks(records, len(self.task_sizes))
        self.records = records
        self.calibration = self._calibrated(measured)
