"""Tiny-ImageNet: classes of validation images from a file, and files that are damaged."""

import json

import pytest
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


def test_tiny_imagenet(tmp_path):
    """Validation images lie in one folder, their classes in a file; test images have no class and are not used."""
    make(tmp_path, {"train/n02/images": 3, "train/n01/images": 2, "val/images": 4, "test/images": 2})
    (tmp_path / "train/n01/n01_boxes.txt").write_text("0 0 1 1")
    rows = [("00.jpg", "n01"), ("01.PNG", "n02"), ("02.jpg", "n02"), ("03.PNG", "n01")]
    annotations = tmp_path / "val/val_annotations.txt"
    annotations.write_text("".join(f"{file}\t{wnid}\t0\t0\t5\t5\n" for file, wnid in rows))
    (tmp_path / "names.json").write_text(
        json.dumps({"n01": ["goldfish", "Carassius auratus"], "n02": "European fox", "n03": 1})
    )
    found = scenario(tmp_path, names_file="names.json")
    assert found.layout == "folder: train/<wnid>/ folders and val/ with val_annotations.txt (Tiny-ImageNet)"
    assert found.class_names == ["goldfish", "European fox"]
    assert found.tasks[0].train.labels == [0, 0, 1, 1, 1] and found.tasks[0].test.labels == [0, 0, 1, 1]
    assert [s.name for s in found.tasks[0].test.sources] == ["00.jpg", "03.PNG", "01.PNG", "02.jpg"]
    assert load_collection(DataConfig(root=str(tmp_path), names_file="names.json")).stray == []
    (tmp_path / "val/images/02.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="val/images/02.jpg .in val_annotations.txt."):
        scenario(tmp_path)
    annotations.write_text("00.jpg\n")
    with pytest.raises(ValueError, match="val_annotations.txt, line 1: a file and a class are needed"):
        scenario(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.jpg n2", "line 3: '0.jpg' was named before"),
        ("../x.jpg n1", "'../x.jpg' is not a file's name"),
        ("/x n1", "'/x' is not a file's name"),
    ],
)
def test_annotations_name_each_image_once_and_none_elsewhere(tmp_path, line, message):
    make(tmp_path, {"train/n1": 1, "train/n2": 1, "val/images": 2})
    (tmp_path / "val/val_annotations.txt").write_text(f"0.jpg n1\n1.jpg n2\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load_collection(DataConfig(root=str(tmp_path)))
