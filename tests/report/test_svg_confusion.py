"""The confusion matrix as a picture."""

import pytest
from made_pages import pictures, texts

from segp_ext.report.svg_confusion import MOST_CLASSES, confusion_picture

COUNTS = [[0, 0, 18], [0, 2, 2], [1, 1, 20], [2, 0, 5], [2, 2, 15]]


def test_each_count_has_its_cell():
    svg = pictures(confusion_picture(COUNTS, ["cat", "dog", "a <cow>"], [2, 1], "Confusion matrix"))[0]
    cells = [shape for shape in svg.iter() if (shape.get("class") or "").startswith("cell-")]
    assert [cell.get("class") for cell in cells] == [
        "cell-right",
        "cell-wrong",
        "cell-right",
        "cell-wrong",
        "cell-right",
    ]
    right, wrong = float(cells[0].get("fill-opacity")), float(cells[1].get("fill-opacity"))
    assert right == pytest.approx(0.2 + 0.8 * 0.9, abs=0.01) and wrong == pytest.approx(0.2 + 0.8 * 0.1, abs=0.01)
    words = [text for *_, text in texts(svg)]
    assert [words.count(text) for text in ("18", "2", "20", "5", "15")] == [1] * 5
    assert [words.count(text) for text in ("cat", "dog", "a <cow>", "true class", "predicted class →")] == [
        2,
        2,
        2,
        1,
        1,
    ]
    assert cells[1].findtext("{http://www.w3.org/2000/svg}title") == "cat taken for a <cow>: 2 of 20"
    xs = [float(cell.get("x")) for cell in cells]
    assert xs[0] == xs[3] and xs[1] == xs[4] and xs[0] < xs[2] < xs[1]
    assert svg.findtext("{http://www.w3.org/2000/svg}desc").startswith(
        "The most frequent confusions: a <cow> taken for cat 5 times"
    )


@pytest.mark.parametrize("count", [1, 12, 24, MOST_CLASSES])
def test_names_and_cells_stay_within_the_picture(count):
    names = [f"a long class name, number {n}" for n in range(count)]
    svg = pictures(confusion_picture([[n, n, 1000] for n in range(count)], names, [count], "title"))[0]
    width, height = (float(size) for size in svg.get("viewBox").split()[2:])
    for cell in svg.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(cell.get("x")) > 0 and float(cell.get("x")) + float(cell.get("width")) <= width
        assert float(cell.get("y")) + float(cell.get("height")) <= height
    assert sum(text.endswith("…") for *_, text in texts(svg)) == 2 * count  # names are cut; a title has them whole
    assert "No image was predicted wrongly." in svg.findtext("{http://www.w3.org/2000/svg}desc")
