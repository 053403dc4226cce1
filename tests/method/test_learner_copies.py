"""Copies of a learner, and predictions of a loaded one from several threads."""

import copy
import io
import pickle

import pytest
import torch
from made import at_once, learnt_glyph, made_images

import segp_ext
from segp_ext.method.learner import SeGPCL


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


every_copy = pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        pytest.param(lambda x: through_torch(x), marks=pytest.mark.slow),
        pytest.param(lambda x: pickle.loads(pytest.importorskip("cloudpickle").dumps(x)), marks=pytest.mark.slow),
    ],
    ids=["deepcopy", "pickle", "torch.save", "cloudpickle"],
)


@every_copy
def test_a_learner_is_copied_by_pickling(copied, learner):
    images = [image for image, _ in made_images(2, 4)]
    twin = copied(learner)
    assert twin.predict(images) == learner.predict(images)
    for each in (twin, own := learner.copy()):
        each.learn_task(made_images(2, 4, seed=5), ["4", "5"])
    assert torch.equal(twin.prototypes, own.prototypes) and len(learner.class_names) == 4


@every_copy
def test_a_copy_made_in_inference_mode_lives_on(copied, learner):
    images = [image for image, _ in made_images(2, 4)]
    with torch.inference_mode():
        twin, backbone = copied(learner), copied(segp_ext.load_clip("glyph"))
    assert twin.predict(images) == learner.predict(images)
    for each in (twin, own := learner.copy()):
        each.learn_task(made_images(2, 4, seed=5), ["4", "5"])
    assert torch.equal(twin.prototypes, own.prototypes)
    SeGPCL(backbone, learner.config).learn_task(made_images(2, 4), ["0", "1"])


def through_torch(x):
    content = io.BytesIO()
    torch.save(x, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


def test_a_learner_says_what_it_is(learner):
    assert repr(learner) == "SeGPCL(segp on glyph (own), cpu: 4 classes in 2 tasks)"


def test_the_first_predictions_of_a_loaded_learner_may_come_from_several_threads(learner, tmp_path):
    learner.save(tmp_path / "saved")
    images = [image for image, _ in made_images(2, 4)]
    for _ in range(5):
        assert at_once(SeGPCL.load(tmp_path / "saved"), images) == [learner.predict(images)] * 4
