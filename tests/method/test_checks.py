"""What a task brings is checked before anything is learnt."""

import numpy as np
import pytest
from made import images_of, made_images, small_config, tiny_backbone
from method.learners import FIRST, Labelled, learnt, same, state

import segp_ext
from segp_ext.method.checks import prompts
from segp_ext.method.learner import SeGPCL
from segp_ext.run.evaluation import EvaluationSet


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 1, 1], ["cat", "red"], "class name 'red' is learnt already"),
        ([0, 0, 1, 1], ["cat", "cat"], "class name 'cat' is given twice"),
        ([0, 0, 2, 1], ["cat", "dog"], "label of image 2 must be from 0 to 1.*got 2"),
        ([0, 0, -1, 1], ["cat", "dog"], "label of image 2 .*got -1"),
        ([0, 0, 0], ["cat", "dog"], r"class 'dog' has 0 training image\(s\); at least 2"),
        ([0, 0, 1], ["cat", "dog"], r"class 'dog' has 1 training image\(s\); at least 2.*min_images_per_class"),
        ([], ["cat"], "class 'cat' has 0 training image"),
        ([0, 0], [], "at least one name"),
        ([0, 0, 1, 1], ["cat", "two\nlines"], r"a class name must be one line; got 'two\\nlines'"),
        ([0, 0, 1, 1], ["CAT", "cat"], "class names 'CAT' and 'cat' read the same"),
        ([0, 0], ["a name far too long for a context of ten"], "does not fit the 10 tokens"),
    ],
)
def test_a_refused_task_changes_nothing(labels, names, message):
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    before = state(learner)
    with pytest.raises(ValueError, match=message):
        learner.learn_task(Labelled(labels), names)
    assert same(before, state(learner)) and list(learner.class_names) == FIRST


def test_names_to_be_encoded_are_a_list():
    learner, _ = learnt(method="frozen-prototypes")
    with pytest.raises(TypeError, match=r"class_names must be a list of names; got the string 'cat': write \['cat'\]"):
        learner.encode_names("cat")
    with pytest.raises(TypeError, match="got a set, which has no such order"):
        learner.encode_names({"cat", "dog"})
    with pytest.raises(TypeError, match="got the string 'cat'"):
        EvaluationSet("cat", images_of(made_images(1, 2), learner.backbone))
    with pytest.raises(TypeError, match=r"texts must be a list of strings; got the string 'a cat': write \['a cat'\]"):
        learner.backbone.tokenize("a cat")
    assert len(learner.encode_names(np.array(["cat", "dog"]))) == 2


def test_names_given_as_numpy_strings_come_back_as_pythons():
    learner = SeGPCL(tiny_backbone(), small_config(method="frozen-prototypes"))
    learner.learn_task(made_images(2, 4), np.array(["cat", "dog"]))
    assert [type(name) for name in learner.class_names] == [str, str]
    assert type(learner.predict(made_images(1, 1)[0][0])[0][0].name) is str


def test_one_image_per_class_when_asked():
    learner = SeGPCL(tiny_backbone(), small_config(min_images_per_class=1))
    learner.learn_task(Labelled([0, 1]), ["cat", "dog"])
    assert list(learner.class_names) == ["cat", "dog"]


def test_names_that_stand_twice_read_the_same():
    with pytest.raises(ValueError, match="class names 'cat' and 'cat' read the same"):
        prompts(tiny_backbone(), "a {}.", ["cat", "dog", "cat"])


def test_names_that_differ_in_the_writing_of_accents_alone_are_refused():
    learner = SeGPCL(segp_ext.load_clip("glyph"), small_config())
    with pytest.raises(ValueError, match="read the same to the text encoder"):
        learner.learn_task(made_images(2, 4), ["caf\u00e9", "cafe\u0301"])
    assert learner.class_names == ()
