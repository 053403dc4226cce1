"""Many files named in a stream."""

import numpy as np
import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import learnt
from PIL import Image

from segp_ext.method.learner import SeGPCL
from segp_ext.run.prediction import FilePredictor, Question


@pytest.fixture
def files(tmp_path):
    """Six images larger than the model's input, the second one broken."""
    draw = np.random.RandomState(0)
    found = [tmp_path / f"{number}.png" for number in range(6)]
    for file in found:
        Image.fromarray(draw.randint(0, 255, (12, 20, 3)).astype(np.uint8)).save(file)
    found[1].write_bytes(b"broken")
    return found


@pytest.mark.parametrize("resize", ["exact", "device"])
@pytest.mark.parametrize("others", [(), ("zebra",)])
def test_files_are_named_as_the_learner_names_them(files, resize, others):
    learner, _ = learnt(training__epochs=0)
    learner.config.loading.resize = resize
    predictor = FilePredictor(learner.classifier(), Question(3, "dual", others), batch_size=4, workers=0)
    batches = list(predictor.rows(files))
    assert [len(rows) for rows in batches] == [4, 2]
    rows = [row for batch in batches for row in batch]
    assert [row.path for row in rows] == list(map(str, files)) and rows[1].error and not rows[1].named
    readable = [files[0], *files[2:]]
    expected = learner.predict(readable, 3, "dual", others)
    for row, named in zip(rows[:1] + rows[2:], expected, strict=True):
        assert row.error is None and [name for name, _ in row.named] == [prediction.name for prediction in named]
        assert [score for _, score in row.named] == pytest.approx([prediction.score for prediction in named], abs=1e-5)


def test_settings_of_the_learner_hold_where_none_is_given(files):
    learner, _ = learnt(training__epochs=0, inference__batch_size=5)
    learner.config.loading.workers, learner.config.loading.orientation = 3, "exif"
    predictor = FilePredictor(learner.classifier(), Question(9, others=("lion",)))
    assert (predictor.batch_size, predictor.reader.workers, predictor.reader.upright) == (5, 3, True)
    layout = predictor.layout(files)
    assert (layout.topk, layout.path_width, layout.name_width) == (6, len(str(files[0])), 5)
    other = FilePredictor(learner.classifier(), Question(1), batch_size=2, workers=0)
    assert (other.batch_size, other.reader.workers) == (2, 0)


def test_an_image_whose_scores_are_not_finite_is_a_row_with_an_error(files, monkeypatch):
    learner, _ = learnt(training__epochs=0)
    classifier = learner.classifier()
    encode = classifier.backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        return embedding.index_fill(0, torch.tensor([2]), torch.inf), feature

    monkeypatch.setattr(classifier.backbone, "encode_image", broken)
    (rows,) = FilePredictor(classifier, Question(1)).rows(files)
    assert [bool(row.error) for row in rows] == [False, True, False, True, False, False]
    assert rows[3].error == f"{files[3]}: its scores are not finite; with model.precision fp16, bf16 or fp32 may help"


def test_nothing_learnt_and_names_that_cannot_compete_are_refused():
    with pytest.raises(ValueError, match="the learner has learnt no class yet"):
        FilePredictor(SeGPCL(tiny_backbone(), small_config()).classifier(), Question(1))
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    learner.learn_task(made_images(2, 2), ["cat", "dog"])
    with pytest.raises(ValueError, match="others: class name 'dog' is learnt already"):
        FilePredictor(learner.classifier(), Question(1, others=("lion", "dog")))
