"""Prompts of a data set: lists from settings, published lists, and sentences from a file."""

import json

import open_clip
import pytest
from trees import make, scenario

from segp_ext.clip.wording import Wording
from segp_ext.config import DataConfig
from segp_ext.data.wordings import clip_lists, prompt_list

PROMPTS = ["a photo of a {}.", "art of a {}."]


@pytest.fixture
def tree(tmp_path):
    return make(tmp_path / "tree", {f"{part}/{name}": 2 for part in ("train", "test") for name in ("cat", "sea_horse")})


def test_every_class_has_the_prompts_of_the_list(tree):
    assert scenario(tree).wording == {}
    assert scenario(tree, prompts=PROMPTS).wording == {
        "cat": Wording(prompts=PROMPTS),
        "sea horse": Wording(prompts=PROMPTS),
    }


def test_published_lists():
    assert {name: len(prompts) for name, prompts in clip_lists().items()} == {  # as CLIP's data/prompts.md has them
        "aircraft": 2, "caltech101": 34, "cifar100": 18, "dtd": 8, "eurosat": 3, "flowers102": 1, "food101": 1, "mnist": 1,
        "oxford-pets": 1, "stanford-cars": 8, "sun397": 2, "ucf101": 48,
    }  # fmt: skip
    for name in clip_lists():
        DataConfig(name=name, prompts=prompt_list("clip", name))  # each is a valid list
    assert prompt_list("clip", "mnist") == ['a photo of the number: "{}".']
    found = prompt_list("imagenet", "auto")
    assert len(found) == 80 and found[0].replace("{}", "cat") == open_clip.OPENAI_IMAGENET_TEMPLATES[0]("cat")
    assert len(prompt_list("imagenet-simple", "auto")) == 7
    DataConfig(prompts=found)


def test_sentences_of_single_classes_go_before_the_list(tree):
    sentences = ["a fish like a horse.", "a {} in the sea."]
    (tree / "said.json").write_text(json.dumps({"sea horse": sentences}))
    found = scenario(tree, prompts=PROMPTS, descriptions="said.json").wording
    assert found == {"cat": Wording(prompts=PROMPTS), "sea horse": Wording(prompts=sentences)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "said.json: it must hold sentences by class name, .*; it holds a list"),
        ('{"dog": ["a dog."]}', "no class is named dog; the classes are cat, sea horse"),
        ('{"cat": "a cat."}', "class 'cat' must have a list of one sentence or more; got 'a cat.'"),
        ('{"cat": []}', "class 'cat' must have a list of one sentence or more"),
        ('{"cat": ["a", 3]}', "a prompt of class 'cat' must be one line of text; got 3"),
        ("{", "[^:]*said.json is not a JSON file"),
        ('{"cat": ["a"], "cat": ["b"]}', "said.json is not a JSON file: 'cat' stands there twice"),
        ('{"sea horse": ["a"], "sea  horse": ["b"]}', "no class is named sea  horse"),
        ('{"cat": ["a {name}."]}', "class 'cat' may have no other braces than {}"),
    ],
)
def test_a_wrong_file_of_sentences_is_named(tree, content, says):
    (tree / "said.json").write_text(content)
    with pytest.raises(ValueError, match=f"data.descriptions: .*{says}"):
        scenario(tree, descriptions="said.json")


def test_missing_lists_and_files_are_named(tree):
    with pytest.raises(FileNotFoundError, match="data.descriptions: no file 'gone.json'"):
        scenario(tree, descriptions="gone.json")
    with pytest.raises(ValueError, match="data.prompts clip is for the data sets aircraft, .*; got data.name auto"):
        scenario(tree, prompts="clip")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["a photo"], r"data.prompts: prompt 1 must be a string with one \{\} .*; got 'a photo'"),
        (["a {}", "{} {}"], r"data.prompts: prompt 2 must be a string with one \{\}"),
        (["a {}", "a {}"], "data.prompts: prompt 1 must be there once"),
        ([], "data.prompts must be one prompt or more, or null"),
        ("clips", "data.prompts must be a list of prompts, or one of clip, imagenet, imagenet-simple; got 'clips'"),
    ],
)
def test_wrong_prompts_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        DataConfig(prompts=wrong)
