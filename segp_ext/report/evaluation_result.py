"""The evaluation of a learner on a folder: `Evaluation` holds all that evaluation.json holds, writes it, reads it and checks it.

Accuracies, probabilities and calibration errors are fractions.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from segp_ext.config import ScorePath
from segp_ext.report.calibration_bins import CalibrationBin
from segp_ext.report.confusion import Confusion, confusion_fits
from segp_ext.report.typed_json import WrongEntryError, plain, typed
from segp_ext.storage import sealed

FILE = "evaluation.json"
"""Name of the file, by which the folder of an evaluation is known."""
FORMAT = 1
"""Format of evaluation.json. A reader refuses every other format."""


@dataclass(frozen=True)
class Mistake:
    """An image that got a wrong name.

    Attributes:
        file: The image, by its name within the folder.
        true: Its class.
        predicted: The name that it got.
        probability: Probability of that name.
        own: Probability of its class.
    """

    file: str
    true: str
    predicted: str
    probability: float
    own: float


@dataclass(frozen=True)
class UnreadFile:
    """An image that was left out.

    Attributes:
        file: The image, by its name within the folder.
        error: Why it was left out.
    """

    file: str
    error: str


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of images of learnt classes fit.

    Attributes:
        temperature: The learner's temperature T of the path.
        error_before: Expected calibration error of softmax(scores).
        error_after: Expected calibration error of softmax(scores / T).
        before: Bins of the probabilities before.
        after: Bins of the probabilities after.
    """

    temperature: float
    error_before: float
    error_after: float
    before: list[CalibrationBin]
    after: list[CalibrationBin]

    @property
    def changes(self) -> bool:
        """Whether the temperature changes probabilities by what a reader can see."""
        return abs(self.temperature - 1) >= 0.005


@dataclass(frozen=True)
class UnknownClass:
    """A class of the folder that the learner has not learnt.

    Attributes:
        name: Its name.
        images: Number of its images.
        area_under_curve: AUROC of its images alone against all images of learnt classes.
        named: The learnt class that its images get most often.
        times: How many images get that name.
    """

    name: str
    images: int
    area_under_curve: float
    named: str
    times: int


@dataclass(frozen=True)
class UnknownDetection:
    """How well the learner's score tells images of learnt classes from images of unknown ones.

    Attributes:
        images: Number of images of unknown classes.
        area_under_curve: AUROC.
        false_positive_rate: FPR95.
        classes: Each unknown class, the one detected worst first.
    """

    images: int
    area_under_curve: float
    false_positive_rate: float
    classes: list[UnknownClass]


@dataclass(frozen=True)
class Evaluation:
    """What a learner gets right on a folder.

    Attributes:
        learner: Name of the learner's folder.
        folder: Name of the folder of images.
        layout: One line about the layout found there.
        path: Path whose scores were used.
        class_names: The learnt classes.
        images: Number of images of learnt classes that were read.
        accuracy: Share of them that got their class's name.
        mean_class_accuracy: Mean of the accuracies of the classes that have images.
        class_accuracy: Accuracy of each learnt class; None for a class without images.
        confusion: [true class, predicted class, number of images], classes as places in `class_names`.
        calibration: How well probabilities fit.
        unknown: Detection of unknown classes; None if the folder has none, or no image of them was read.
        mistakes: The wrong names with the highest probabilities, highest first.
        unread: Images that were left out.
        versions: Versions of Python, segp_ext and the packages that it needs.
    """

    learner: str
    folder: str
    layout: str
    path: ScorePath
    class_names: list[str]
    images: int
    accuracy: float
    mean_class_accuracy: float
    class_accuracy: list[float | None]
    confusion: Confusion
    calibration: Calibration
    unknown: UnknownDetection | None
    mistakes: list[Mistake]
    unread: list[UnreadFile]
    versions: dict[str, str]

    def to_json(self) -> bytes:
        """Writes the evaluation as evaluation.json holds it."""
        text = json.dumps({"format": FORMAT, **plain(self)}, indent=1, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace")

    @classmethod
    def read(cls, file: Path) -> Evaluation:
        """Reads an evaluation.

        Args:
            file: An evaluation.json.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file holds no evaluation. The error names the file and the entry.
        """
        found = sealed.read_json(file)
        if found.get("format") != FORMAT:
            raise ValueError(f"{file} is no evaluation of format {FORMAT}: it has {found.get('format', 'none')}")
        try:
            made: Evaluation = typed(cls, {key: value for key, value in found.items() if key != "format"}, "")
            if fault := made._fault():
                raise WrongEntryError(fault)
        except WrongEntryError as error:
            raise ValueError(f"{file} is no evaluation: {error}") from None
        return made

    def _fault(self) -> str:
        """Says which entry does not fit the others; empty if all fit."""
        if not confusion_fits(self.confusion, self.class_names):
            last = len(self.class_names) - 1
            return f"confusion must be a list of [true class, predicted class, number of images], with classes from 0 to {last}"
        if sum(count for *_, count in self.confusion) != self.images:
            return (
                f"confusion must count images images, {self.images}; got {sum(count for *_, count in self.confusion)}"
            )
        if len(self.class_accuracy) != len(self.class_names):
            return f"class_accuracy must have an entry for each of {len(self.class_names)} classes; got {len(self.class_accuracy)}"
        fractions = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name.endswith("accuracy")}
        for name, value in fractions.items():
            values = value if isinstance(value, list) else [value]
            if not all(one is None or 0 <= one <= 1 for one in values):
                return f"{name} must be from 0 to 1; got {value}"
        return ""
