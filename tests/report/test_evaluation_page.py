"""The folder of an evaluation: its page, files and pictures."""

import base64
import csv
import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from made_pages import parsed, pictures
from PIL import Image

from segp_ext.report import evaluation_page, evaluation_tables
from segp_ext.report.calibration_bins import calibration_bins, expected_error
from segp_ext.report.contact_sheet import captioned, contact_sheet
from segp_ext.report.evaluation_result import (
    Calibration,
    Evaluation,
    Mistake,
    UnknownClass,
    UnknownDetection,
    UnreadFile,
)
from segp_ext.storage.sealed import check_seal


def made(**changed):
    """An evaluation of 10 images: 8 right, one lion taken for a fox, one fox for a lion."""
    right = [True] * 8 + [False] * 2
    before, after = (calibration_bins([p] * 10, right) for p in (0.99, 0.85))
    unknown = UnknownDetection(3, 0.9, 0.25, [UnknownClass("zebra", 3, 0.9, "lion", 2)])
    values = {
        "learner": "saved", "folder": "photos", "layout": "test/ of <class>/ folders", "path": "dual",
        "class_names": ["old lion", "fox", "owl"], "images": 10, "accuracy": 0.8, "mean_class_accuracy": 0.79,
        "class_accuracy": [0.75, 5 / 6, None], "confusion": [[0, 0, 3], [0, 1, 1], [1, 0, 1], [1, 1, 5]],
        "calibration": Calibration(1.7, expected_error(before), expected_error(after), before, after),
        "unknown": unknown,
        "mistakes": [Mistake("old_lion/1.jpg", "old lion", "fox", 0.85, 0.1)],
        "unread": [UnreadFile("fox/2.jpg", "cannot read <it>")], "versions": {"python": "3"},
    }  # fmt: skip
    return Evaluation(**{**values, **changed})


def picture(text="old lion → fox"):
    return captioned(Image.new("RGB", (40, 20), (200, 30, 30)), [text, "85 % fox, 10 % old lion", "1.jpg"])


def test_the_folder_holds_all_of_it_and_is_sealed(tmp_path):
    out = tmp_path / "out"
    evaluation_page.write(out, made(), [picture()])
    assert {*check_seal(out)} == {
        "evaluation.json", "confusion.csv", "confusion.svg", "calibration.svg", "mistakes.jpg", "report.html",
    }  # fmt: skip
    assert Evaluation.read(out / "evaluation.json") == made()
    rows = list(csv.reader(io.StringIO((out / "confusion.csv").read_text())))
    assert rows == [
        ["true class", "old lion", "fox", "owl"],
        ["old lion", "3", "1", "0"],
        ["fox", "1", "5", "0"],
        ["owl", "0", "0", "0"],
    ]
    for name in ("confusion.svg", "calibration.svg"):
        root = ET.fromstring((out / name).read_text())
        assert root.get("width") and "--back" in (out / name).read_text()
    assert Image.open(out / "mistakes.jpg").format == "JPEG"
    evaluation_page.write(out, made(unknown=None), [])
    assert not (out / "mistakes.jpg").exists() and "zebra" not in (out / "report.html").read_text()


def test_the_page_is_well_formed_and_says_what_matters_first(tmp_path):
    text = evaluation_page.page(made(), [picture()], ["confusion.csv"]).html()
    assert "confusion.csv" in parsed(text)
    lead = re.search(r'<p class="lead">(.*?)</p>', text)[1]
    assert lead == (
        "saved (dual path) gets 80.0 % of 10 images of 2 learnt classes right (95 % interval 49.0 to 94.3); the worst class is old lion "
        "with 75.0 %. Its probabilities are off by 5.0 points on average, 19.0 without its temperature; an image of a learnt class looks "
        "more known than one of 1 unknown class in 90.0 % of pairs."
    )
    assert (
        len(pictures(text)) == 2 and "cannot read &lt;it&gt;" in text and "without an image in the folder: owl" in text
    )
    source = re.search(r'<img src="data:image/jpeg;base64,([^"]+)"', text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(source))).size == (160, 80)
    assert "zebra" in text and "FPR95" in text and 'src="http' not in text


def test_a_learner_without_a_temperature_has_one_line_in_the_plot():
    plain = made(calibration=dataclasses.replace(made().calibration, temperature=1.0), mistakes=[], unread=[])
    text = evaluation_page.page(plain, [], []).html()
    assert (
        "held no images back" in text and "without its temperature" not in text and "No image got a wrong name" in text
    )
    assert text.count('class="line ') == 2  # in the plot, and in its legend
    assert evaluation_page.page(made(), [], []).html().count('class="line ') == 4


def test_many_classes_get_tables_in_place_of_the_matrix(tmp_path):
    names = [f"class {number}" for number in range(60)]
    confusion = [[place, place if place % 2 else 0, 2] for place in range(60)]
    accuracy = [1.0 if place % 2 or place == 0 else 0.0 for place in range(60)]
    many = made(class_names=names, class_accuracy=accuracy, confusion=sorted(confusion), images=120)
    evaluation_page.write(tmp_path / "out", many, [])
    assert not (tmp_path / "out/confusion.svg").exists()
    text = (tmp_path / "out/report.html").read_text()
    parsed(text)
    assert "All 60 classes" in text and "The 20 classes with the lowest accuracy" in text


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an evaluation"):
        evaluation_page.write(tmp_path, made(), [])
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_picture_that_is_gone_is_left_out(tmp_path):
    (tmp_path / "old_lion").mkdir()
    assert evaluation_page.mistake_pictures(made(), tmp_path, False) == []
    Image.new("RGB", (10, 20)).save(tmp_path / "old_lion/1.jpg")
    (one,) = evaluation_page.mistake_pictures(made(), tmp_path, False)
    assert one.lines == ["old lion → fox", "85 % fox, 10 % old lion", "1.jpg"] and one.picture.size == (80, 160)


@pytest.mark.parametrize("count", [1, 6, 7])
def test_a_contact_sheet_has_rows_of_six(count):
    sheet = Image.open(io.BytesIO(contact_sheet([picture("a long name " * 9)] * count)))
    columns, rows = min(count, 6), -(-count // 6)
    assert sheet.size == (columns * 172 + 12, rows * 227 + 12)


def test_the_terminal_shows_the_worst_classes():
    text = evaluation_tables.evaluation_text(made())
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^old lion +4 +75.0 +fox +1$", text, re.MULTILINE)
    assert re.search(r"^ECE at temperature 1 +19.0$", text, re.MULTILINE)
    assert re.search(r"^with the learner's, 1.7 +5.0$", text, re.MULTILINE)
    assert re.search(r"^AUROC of unknown classes +90.0$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("images"), "images is missing"),
        (lambda e: e.update(more=1), "more is unknown"),
        (lambda e: e.update(path="sideways"), "path must be one of "),
        (lambda e: e.update(accuracy=2.0), "accuracy must be from 0 to 1; got 2.0"),
        (lambda e: e.update(images=11), "confusion must count images images, 11; got 10"),
        (lambda e: e["confusion"].append([0, 9, 1]), "with classes from 0 to 2"),
        (lambda e: e["class_accuracy"].pop(), "class_accuracy must have an entry for each of 3 classes; got 2"),
        (lambda e: e["unknown"].pop("images"), "unknown.images is missing"),
        (lambda e: e["calibration"]["after"][0].update(images="x"), "calibration.after.images must be a whole number"),
        (lambda e: e.update(format=7), "is no evaluation of format 1: it has 7"),
    ],
)
def test_what_is_no_evaluation_is_refused_by_its_entry(change, message, tmp_path):
    found = json.loads(made().to_json())
    change(found)
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    with pytest.raises(ValueError) as error:
        Evaluation.read(tmp_path / "evaluation.json")
    assert str(tmp_path) in str(error.value) and message in str(error.value)
