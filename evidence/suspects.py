"""Measures `segp suspects` on labels that are wrong on purpose.

    python -m evidence.suspects --cifar CIFAR10 --out LABELS.md --copies COPIES.md

Labels of the digits and of photographs are flipped to another class, drawn at random. Precision is the share of suspects whose label was
flipped, recall the share of flipped labels that are suspects. Candidates for the classifier see the same flips; seeds from 101 on chose
among them. Copies of images are added too, each changed in one way, and counted.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import segp_ext
from evidence.tables import write_table
from segp_ext.config import MethodConfig
from segp_ext.data.decoding import open_image
from segp_ext.data.digits import digits
from segp_ext.data.duplicates import NEAR, duplicates, groups
from segp_ext.data.labelled_folder import LabelledFolder, read_labelled_folder
from segp_ext.method.confident_learning import held_out_probabilities, suspects_of
from segp_ext.run.label_check import Encoded, encode_folder

RATES = (0.0, 0.05, 0.1)
"""Shares of labels that are flipped."""
CANDIDATES: dict[str, Any] = {
    **{f"logistic regression, C {c:g}": LogisticRegression(C=c, max_iter=300) for c in (0.1, 1)},
    "LDA, shrinkage": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "QDA, shrinkage 0.1": QuadraticDiscriminantAnalysis(reg_param=0.1),
    "20 nearest neighbours": KNeighborsClassifier(20),
}
"""Classifiers by name."""
SHIPPED = "LDA, shrinkage"
"""The one that the package uses."""
COPIES = 200
"""Images that are copied."""


def _encoded_again(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return open_image(content)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "JPEG, quality 90": lambda image: _encoded_again(image, 90),
    "JPEG, quality 50": lambda image: _encoded_again(image, 50),
    "twice as large": lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
    "darker by a fifth": lambda image: image.point(lambda value: round(0.8 * value)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
"""What is done to a copy, by name. A mirrored copy is no duplicate here."""


@contextmanager
def digits_folder() -> Iterator[Path]:
    """Writes the digits to a folder `<class>/*.png` for a while."""
    with tempfile.TemporaryDirectory() as folder:
        found = digits()
        for name, *parts in zip(found.class_names, found.train, found.test, strict=True):
            for number, source in enumerate([source for part in parts for source in part]):
                file = Path(folder, "digits", name, f"{number:04}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(found.opener(source)).transpose(1, 2, 0)).save(file)
        yield Path(folder, "digits")


def first_images(folder: LabelledFolder, count: int) -> LabelledFolder:
    """Keeps the first `count` images of each class."""
    label = np.array(folder.label)
    kept = np.concatenate([np.flatnonzero(label == own)[:count] for own in range(len(folder.folders))])
    files = [folder.files[place] for place in kept]
    return LabelledFolder(folder.base, folder.layout, folder.folders, folder.names, files, label[kept].tolist(), [])


def flipped(label: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Gives a share of the labels, drawn at random, another class, drawn at random."""
    draw = np.random.RandomState(seed)
    changed = label.copy()
    chosen = draw.permutation(len(label))[: round(rate * len(label))]
    changed[chosen] = (label[chosen] + draw.randint(1, label.max() + 1, len(chosen))) % (label.max() + 1)
    return changed


def measured(encoded: Encoded, true: np.ndarray, given: np.ndarray, classifier: Any) -> dict[str, float]:
    """Compares the suspects with the flipped labels.

    Args:
        encoded: The images.
        true: Class of each image `[N]`.
        given: The same, some labels flipped `[N]`.
        classifier: Classifier of scikit-learn.
    """
    group = groups(len(given), duplicates(encoded.digests, encoded.thumbnails, encoded.features))
    probabilities = held_out_probabilities(encoded.features.numpy(), given, group, classifier)
    found = suspects_of(probabilities, given)
    wrong = given != true
    hits = [one for one in found if wrong[one.image]]
    first = found[: int(wrong.sum())]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == true).mean()),
        "suspects": len(found),
        "precision": len(hits) / len(found) if found else float("nan"),
        "recall": len(hits) / wrong.sum() if wrong.any() else float("nan"),
        "class": sum(one.likely == true[one.image] for one in hits) / len(hits) if hits else float("nan"),
        "first": sum(wrong[one.image] for one in first) / len(first) if first else float("nan"),
    }


def label_rows(name: str, encoded: Encoded, true: np.ndarray, seeds: list[int]) -> Iterator[list[str]]:
    """Yields a row of the table for each candidate and rate: means over seeds, in percent."""
    for candidate, classifier in CANDIDATES.items():
        for rate in RATES:
            own = seeds if rate else seeds[:1]
            runs = [measured(encoded, true, flipped(true, rate, seed), classifier) for seed in own]
            mean = {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}
            shares = [
                "–" if np.isnan(mean[key]) else f"{100 * mean[key]:.1f}"
                for key in ("precision", "recall", "first", "class")
            ]
            shown = f"**{candidate}**" if candidate == SHIPPED else candidate
            row = [name, shown, f"{100 * rate:g}", f"{100 * mean['accuracy']:.1f}", f"{mean['suspects']:.0f}", *shares]
            print(*row, flush=True)
            yield row


def copy_rows(name: str, backbone: Any, folder: LabelledFolder, limits: list[float]) -> Iterator[list[str]]:
    """Yields a row for each change: how many copies are found at each limit; then how many pairs there are without copies."""
    chosen = np.random.RandomState(1).permutation(len(folder.files))[:COPIES]
    pairs_of: dict[str, dict[float, int]] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, (change, make) in enumerate(CHANGES.items()):
            base = Path(place, str(number))
            base.mkdir()
            for image in chosen:
                make(open_image(folder.files[image])).save(base / f"{image}.png")
            files = [*folder.files, *(base / f"{image}.png" for image in chosen)]
            both = LabelledFolder(Path("/"), "", folder.folders, folder.names, files, [0] * len(files), [])
            encoded, _ = encode_folder(backbone, MethodConfig(), both, None, 0)
            copy_of = {len(folder.files) + place: int(image) for place, image in enumerate(chosen)}
            for limit in limits:
                pairs = duplicates(encoded.digests, encoded.thumbnails, encoded.features, limit)
                group = groups(len(files), pairs)
                hits = sum(group[copy] == group[image] for copy, image in copy_of.items())
                pairs_of.setdefault(change, {})[limit] = int(hits)
                own = sum(pair.second < len(folder.files) for pair in pairs)
                pairs_of.setdefault("pairs among the images themselves", {})[limit] = own
    for change, hits in pairs_of.items():
        yield [name, change, *(str(hits[limit]) for limit in limits)]


def main() -> None:
    parser = argparse.ArgumentParser("python -m evidence.suspects", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cifar", type=Path, required=True, help="CIFAR10's images, {train,test}/<class>/")
    parser.add_argument("--per_class", type=int, default=500, help="photographs of each class")
    parser.add_argument("--model", default="glyph", help="model, as model.name")
    parser.add_argument("--pretrained", help="its weights, as model.pretrained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the flips")
    parser.add_argument("--out", type=Path, required=True, help="file for the table of labels")
    parser.add_argument("--copies", type=Path, required=True, help="file for the table of copies")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = segp_ext.load_clip(options.model, options.pretrained, device="cpu")
    head = [
        "images",
        "classifier",
        "% flipped",
        "% right",
        "suspects",
        "precision",
        "recall",
        "precision of the first",
        "likely is true",
    ]
    limits = sorted({0.97, 0.98, 0.99, 0.995, 0.999, NEAR})
    labels, copies = [head], [["images", "change of the copies", *(f"found at {limit:g}" for limit in limits)]]
    with digits_folder() as place:
        photographs = first_images(read_labelled_folder(options.cifar, all_parts=True), options.per_class)
        for name, folder in (("digits", read_labelled_folder(place, all_parts=True)), ("CIFAR10", photographs)):
            encoded, _ = encode_folder(backbone, MethodConfig(), folder, None, 0)
            labels += label_rows(name, encoded, np.array(folder.label), options.seeds)
            copies += copy_rows(name, backbone, folder, limits)
    write_table(options.out, parser.prog, labels)
    write_table(options.copies, parser.prog, copies)


if __name__ == "__main__":
    main()
