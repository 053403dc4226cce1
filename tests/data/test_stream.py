"""Streams: several data sets in order, their names, tasks and settings."""

import pytest
from public_trees import torchvision_tree
from trees import make

import segp_ext
from segp_ext.clip.wording import Wording
from segp_ext.config import DataConfig
from segp_ext.data import load_scenario


@pytest.fixture
def roots(tmp_path):
    """Two folders of images, which share the class "cat"."""
    for name, classes in {"pets": ("cat", "dog", "hen"), "zoo": ("cat", "yak")}.items():
        make(tmp_path / name, {f"{part}/{c}": 3 for part in ("train", "test") for c in classes})
    return tmp_path


def stream(root, *sources, **settings):
    return load_scenario(DataConfig(root=str(root), sources=[*sources], **settings))


def tasks_of(found):
    return [(task.source, task.class_names) for task in found.tasks]


def test_data_sets_are_tasks_and_shared_names_are_qualified(roots):
    found = stream(roots, {"root": "pets"}, {"root": "zoo", "prompts": ["a sketch of a {}."]}, prompts=["a {}."])
    assert tasks_of(found) == [("pets", ["pets/cat", "dog", "hen"]), ("zoo", ["zoo/cat", "yak"])]
    assert found.wording == {
        "pets/cat": Wording("cat", ["a {}."]), "dog": Wording(prompts=["a {}."]), "hen": Wording(prompts=["a {}."]),
        "zoo/cat": Wording("cat", ["a sketch of a {}."]), "yak": Wording(prompts=["a sketch of a {}."]),
    }  # fmt: skip
    assert found.called == ["cat", "dog", "hen", "cat", "yak"] and found.name == "pets+zoo"


def test_each_source_has_settings_of_its_own(roots):
    found = stream(
        roots,
        {"root": "pets", "tasks": [1], "classes_per_task": 2, "order": 1},
        {"name": "digits", "shots": 4},
        shots=2,
    )
    assert [len(task.class_names) for task in found.tasks] == [1, 2, 10]
    assert [len(task.train) for task in found.tasks] == [2, 4, 40]
    assert len(stream(roots, {"root": "zoo"}, classes_per_task=1).tasks) == 1  # the stream's own is not a source's


def test_an_absolute_root_is_its_own(roots, tmp_path_factory):
    away = make(tmp_path_factory.mktemp("away") / "farm", {f"{part}/cow": 3 for part in ("train", "test")})
    assert stream(roots, {"root": str(away)}, {"root": "zoo"}).class_names == ["cow", "cat", "yak"]


def test_one_class_in_several_looks(roots):
    found = stream(roots, {"root": "pets"}, {"root": "zoo"}, shared_names="same")
    assert tasks_of(found) == [("pets", ["cat", "dog", "hen"]), ("zoo", ["cat", "yak"])]
    assert found.class_names == ["cat", "dog", "hen", "yak"]
    with pytest.raises(ValueError, match="known_classes must be update or train with data.shared_names same"):
        segp_ext.load_config(changes={"data.shared_names": "same"})


def test_a_class_of_several_looks_is_read_as_it_is_learnt_first(roots):
    """The learner keeps the wording of the first task, here the template, so the prompts of later ones are not measured."""
    sketches = {"root": "zoo", "prompts": ["a sketch of a {}."]}
    found = stream(roots, {"root": "pets"}, sketches, shared_names="same")
    assert found.wording == {"yak": Wording(prompts=["a sketch of a {}."])}
    assert {*stream(roots, sketches, {"root": "pets"}, shared_names="same").wording} == {"cat", "yak"}


def test_the_order_can_be_given_apart(roots):
    sources = {"root": "pets"}, {"root": "zoo", "title": "park"}
    ahead, back = (stream(roots, *sources, source_order=order) for order in (["pets", "park"], ["park", "pets"]))
    assert tasks_of(back) == tasks_of(ahead)[::-1] and ahead.split_hash != back.split_hash
    assert stream(roots, *sources).split_hash == ahead.split_hash


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (["pets", "park"], "data.source_order names park, but the data sets are pets, zoo"),
        (["zoo"], "data.source_order leaves out pets; it must name each of data.sources once"),
        (["pets", "zoo", "zoo"], "data.source_order names zoo twice"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(roots, order, says):
    with pytest.raises(ValueError, match=says):
        stream(roots, {"root": "pets"}, {"root": "zoo"}, source_order=order)


def test_what_is_missing_names_its_source(roots):
    with pytest.raises(FileNotFoundError, match=r"data.sources, number 2 \(.*gone\): data.root: no folder"):
        stream(roots, {"root": "pets"}, {"root": "gone"})
    torchvision_tree(roots, "dtd")
    next((roots / "dtd").rglob("*.jpg")).unlink()
    with pytest.raises(FileNotFoundError, match=r"number 2 \(dtd\): 1 image.* listed or linked but not in .* has them"):
        stream(roots, {"root": "pets"}, {"name": "dtd"})
    with pytest.raises(ValueError, match="number 2 .*data.shots is 9, but class .* has 3 training image"):
        stream(roots, {"root": "pets"}, {"root": "zoo", "shots": 9})


def test_two_data_sets_of_one_name_are_refused(roots):
    twice = {"root": "pets"}, {"root": "pets"}
    with pytest.raises(ValueError, match="two data sets are named pets; give one of them a title"):
        stream(roots, *twice)
    make(roots / "more", {f"{part}/pets%cat".replace("%", "/"): 2 for part in ("train", "test")})
    names = stream(roots, twice[0], {**twice[1], "title": "again"}).class_names
    assert names == ["pets/cat", "pets/dog", "pets/hen", "again/cat", "again/dog", "again/hen"]


def test_a_class_that_is_called_like_a_qualified_one_is_refused(roots):
    make(roots / "farm", {f"{part}/{c}": 2 for part in ("train", "test") for c in ("cat", "hen")})
    (roots / "names.json").write_text('{"cat": "pets/cat", "hen": "duck"}')
    farm = {"root": "farm", "names_file": str(roots / "names.json")}
    with pytest.raises(ValueError, match="two classes would be named pets/cat"):
        stream(roots, {"root": "pets"}, {"root": "zoo"}, farm)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sources": []}, r"data.sources must be one data set or more, or null; got \[\]"),
        ({"sources": [{}]}, "data.sources, number 1: a source needs the name of a data set, or the root"),
        ({"sources": [{"name": "dt"}]}, "data.sources, number 1: data.name must be one of"),
        ({"sources": [{"name": "dtd", "shot": 3}]}, "number 1: no such setting: data.shot; close: data.shots"),
        (
            {"sources": [{"name": "dtd", "prompts": ["a"]}]},
            r"number 1: data.prompts: prompt 1 must be a string with one \{\}",
        ),
        ({"sources": [{"name": "dtd", "setting": "global"}]}, "data.setting holds for all sources alike"),
        ({"sources": [{"name": "dtd"}], "name": "dtd"}, "data.name must be left out with data.sources"),
        ({"sources": [{"name": "dtd"}], "tasks": [3]}, "data.tasks must be set in a source, with data.sources"),
        ({"source_order": ["a"]}, "data.source_order must be null without data.sources"),
        ({"setting": "global", "evaluate_global": False}, "data.evaluate_global must be true with data.setting global"),
        ({"title": " "}, "data.title must be a name or null"),
    ],
)
def test_wrong_sources_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        DataConfig(**settings)


def test_a_stream_of_many_data_sets_has_a_short_name(tmp_path):
    names = [f"a folder with a rather long name {number}" for number in range(4)]
    for name in names:
        make(tmp_path / name, {f"{part}/{name[-1]}{c}": 1 for part in ("train", "test") for c in "xy"})
    found = stream(tmp_path, *({"root": name} for name in names))
    assert found.name == "a folder with a rather long name 0+3 more"
    assert [task.source for task in found.tasks] == names
