"""Classes that are removed, renamed and merged: what stays, what follows, and what is refused."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from made import images_of, made_images, pixels_of, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state

from segp_ext.method import state as state_module
from segp_ext.method.heads import Gaussians
from segp_ext.method.learner import SeGPCL

METHODS = ["segp", "auto", "lda", "rda", "ranpac"]


def pixels_for(learner):
    images = images_of(made_images(3, 4), learner.backbone)
    return learner.backbone.to_unit(pixels_of(images, range(12)))


def logits(learner, paths):
    classifier, pixels = learner.classifier(), pixels_for(learner)
    return {path: classifier.logits(pixels, path) for path in paths}


def everything(learner):
    """All that an edit may change, to compare it before and after."""
    plain = learner.records, tuple(learner.task_sizes), learner.calibration, learner.class_names
    return plain, {name: tensor.clone() for name, tensor in {**learner.tensors(), **state(learner)}.items()}


def check_unchanged(learner, before):
    plain, tensors = everything(learner)
    assert plain == before[0] and same(tensors, before[1])


# -- removing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_after_a_removal_scores_are_those_with_the_column_left_out(method, tmp_path):
    learner, _ = learnt(method=method)
    measured = learner.calibration
    if measured is not None:  # a share and a temperature that the images of the other classes would not choose
        ones = {path: dataclasses.replace(found, temperature=3.0) for path, found in measured.paths.items()}
        learner.calibration = dataclasses.replace(measured, trained_share=0.35, paths=ones)
    paths, pixels = learner.classifier().paths, pixels_for(learner)
    before, sure = logits(learner, paths), learner.classifier().probabilities(pixels)[:, [0, 2, 4]]
    learner.remove_classes(["cat", "green"])
    assert learner.class_names == ("red", "blue", "dog") and learner.task_sizes == [2, 1]
    after = logits(learner, paths)
    for path in paths:
        torch.testing.assert_close(after[path], before[path][:, [0, 2, 4]], rtol=1e-5, atol=1e-5)
        assert after[path].std() > 0
    held = learner.held
    assert len(held) == (6 if method == "auto" else 0) and (learner.calibration is None) == (method != "auto")
    if method == "auto":
        expected = sure / sure.sum(dim=1, keepdim=True)
        torch.testing.assert_close(learner.classifier().probabilities(pixels), expected, rtol=1e-4, atol=1e-5)
        found = learner.calibration
        assert held.label.unique().tolist() == [0, 1, 2] and found.images == 6 and found.fit != measured.fit
        right = learner.held_back_scores()["dual"].argmax(dim=1) == held.label
        assert found.paths["dual"].accuracy == pytest.approx(float(right.double().mean()))


@pytest.mark.parametrize("method", ["lda", "rda"])
def test_removed_classes_go_on_to_count_in_the_shared_covariance(method):
    learner, _ = learnt(method=method)
    before = copy.deepcopy(learner.head)
    assert isinstance(before, Gaussians) and before.own == {"lda": 0, "rda": 0.5}[method]
    for names in (["green"], ["cat", "red"]):  # the second time the sum of removed classes is there
        learner.remove_classes(names)
    after = learner.head
    kept = [2, 4] if before.own > 0 else [0]
    torch.testing.assert_close(after.scatters.sum(0), before.scatters.sum(0), rtol=1e-12, atol=1e-12)
    assert after.counts.sum() == before.counts.sum() == 50
    assert torch.equal(after._factors, before._factors[kept]) and torch.equal(after._volumes, before._volumes[kept])
    read = Gaussians(24, torch.device("cpu"), learner.config)
    read.restore(after.state())
    torch.testing.assert_close(read._volumes, after._volumes, rtol=1e-12, atol=1e-12)
    products = [head._factors @ head._factors.mT for head in (read, after)]
    torch.testing.assert_close(*products, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["segp", "rda", "auto", "ranpac"])
def test_an_edited_learner_is_saved_and_learns_on(method, tmp_path):
    """A task that lost all classes keeps its number, so that the next one draws as before."""
    learner, _ = learnt(method=method)
    learner.remove_classes(SECOND)
    learner.merge_classes(["blue", "red"], "violet")
    assert (learner.class_names, learner.task_sizes) == (("violet", "green"), [2, 0])
    other = SeGPCL(tiny_backbone(), small_config(method=method))
    other.restore(
        learner.records,
        learner.task_sizes,
        {**learner.tensors(), **learner.backbone.adapter_state()},
        None if learner.calibration is None else dataclasses.asdict(learner.calibration),
    )
    reports = [each.learn_task(made_images(2, 10, seed=5), ["fish", "bird"]) for each in (learner, other)]
    # Anchors stand for the classes that are left: three seeds each.
    assert [report.anchors for report in reports] == [6 if method in ("segp", "auto") else 0] * 2
    assert learner.task_sizes == [2, 0, 2] and [record.task for record in learner.records] == [1, 1, 3, 3]
    torch.testing.assert_close(learner.prototypes, other.prototypes)
    pairs = zip(logits(learner, ["dual"]).values(), logits(other, ["dual"]).values(), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_anchors_of_later_tasks_leave_removed_classes_out(monkeypatch):
    seen = []
    from segp_ext.method import task

    made = task.make_anchors
    monkeypatch.setattr(task, "make_anchors", lambda *given: seen.append(given[1]) or made(*given))
    learner, _ = learnt()
    learner.remove_classes(["green"])
    kept, text = learner.prototypes, learner.text_embeddings()
    learner.learn_task(made_images(2, 10, seed=5), ["fish", "bird"])
    assert [len(teacher.prototypes) for teacher in seen] == [3, 4] and torch.equal(seen[-1].prototypes, kept)
    torch.testing.assert_close(seen[-1].text, text, rtol=1e-4, atol=1e-4)


# -- renaming ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["segp", "auto"])
def test_a_rename_changes_the_text_and_no_prototype(method):
    learner, _ = learnt(method=method)
    text, tensors, scores = learner.text_embeddings(), everything(learner)[1], logits(learner, ["visual"])
    asked = learner.classifier()
    learner.rename_class("green", "turquoise")
    assert learner.class_names == ("red", "turquoise", "blue", "cat", "dog") and learner.records[1].images == 10
    assert same(everything(learner)[1], tensors)
    assert torch.equal(logits(learner, ["visual"])["visual"], scores["visual"])
    now = learner.text_embeddings()
    changed = [not torch.allclose(*rows, atol=1e-5) for rows in zip(now, text, strict=True)]
    assert changed == [False, True, False, False, False]
    torch.testing.assert_close(now, learner.encode_names(learner.class_names))
    assert asked.class_names[1] == "green"  # who predicts with it goes on
    if method == "auto":
        assert learner.calibration == learner._calibrated()


def test_a_class_may_be_renamed_to_what_reads_the_same_as_itself():
    learner, _ = learnt()
    learner.rename_class("red", "RED")
    assert learner.class_names[0] == "RED"


# -- merging -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["unit", "raw"])
@pytest.mark.parametrize("method", ["frozen-prototypes", "lda", "rda", "ranpac"])
def test_a_merged_class_is_the_one_learnt_from_all_images(method, features):
    config = {"method": method, "prototypes__features": features, "prototypes__shrinkage": 0.1}
    images, together = made_images(3, 10), {0: 0, 1: 1, 2: 0}
    whole = [(image, together[label]) for image, label in images]
    apart, joined = (SeGPCL(tiny_backbone(), small_config(**config)) for _ in range(2))
    apart.learn_task(images, FIRST)
    joined.learn_task(whole, ["violet", "green"])
    if method == "ranpac":
        joined.head._take(
            joined.head.gram, joined.head.targets, apart.head.power
        )  # the penalty is chosen by other targets
    apart.merge_classes(["blue", "red"], "violet")
    assert apart.class_names == ("violet", "green")
    assert [(record.task, record.images) for record in apart.records] == [(1, 20), (1, 10)]
    found, expected = apart.statistics.tensors(), joined.statistics.tensors()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
    scores = [logits(each, ["visual"])["visual"] for each in (apart, joined)]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


def test_a_merge_takes_images_held_back_along():
    learner, _ = learnt(method="auto")
    before, old = learner.held, {"red": 0, "dog": 4}
    learner.merge_classes(["dog", "red"], "dog")
    assert learner.class_names == ("dog", "green", "blue", "cat") and learner.task_sizes == [3, 1]
    held = learner.held
    merged = torch.isin(before.label, torch.tensor([*old.values()]))
    assert torch.equal(held.label, torch.where(merged, 0, before.label)) and torch.equal(held.feature, before.feature)
    expected = {"visual": learner.statistics, "frozen": learner.frozen}
    for path, feature in (("visual", held.feature), ("frozen", held.frozen)):
        of_model = expected[path].held_back_scores(feature, held.label, learner.backbone.logit_scale)
        assert torch.equal(learner.held_back_scores()[path], of_model)
    assert learner.calibration == learner._calibrated() and learner.calibration.images == len(held)


def test_the_mean_of_a_merged_class_counts_images():
    learner = SeGPCL(tiny_backbone(), small_config(method="frozen-prototypes", prototypes__features="raw"))
    images = [*made_images(1, 9), *((image, 1) for image, _ in made_images(1, 3, seed=4))]
    learner.learn_task(images, ["red", "blue"])
    red, blue = learner.prototypes
    learner.merge_classes(["red", "blue"], "blue")
    torch.testing.assert_close(learner.prototypes, ((9 * red + 3 * blue) / 12)[None])
    assert learner.statistics.counts.tolist() == [12]


# -- what is refused -----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("remove_classes", (["gren"],), "no class 'gren' has been learnt; close: 'green'"),
    ("remove_classes", (["xyz"],), "no class 'xyz' has been learnt$"),
    ("remove_classes", (["red", "red"],), "class 'red' is given twice"),
    ("remove_classes", ([],), "remove_classes needs the name of a class; got none"),
    ("remove_classes", (FIRST + SECOND,), "a learner keeps at least one class"),
    ("rename_class", ("dgo", "wolf"), "no class 'dgo' has been learnt; close: 'dog'"),
    ("rename_class", ("dog", "cat"), "class name 'cat' is learnt already"),
    ("rename_class", ("dog", "dog"), "class name 'dog' is learnt already"),
    ("rename_class", ("dog", " "), "class names must be strings that are not empty; got ' '"),
    ("rename_class", ("dog", "CAT"), "class names 'cat' and 'CAT' read the same to the text encoder"),
    ("merge_classes", (["dog"], "pet"), "merge_classes needs two classes or more; got 'dog' alone"),
    ("merge_classes", (["dog", "dog"], "pet"), "class 'dog' is given twice"),
    ("merge_classes", (["dog", "cta"], "pet"), "no class 'cta' has been learnt; close: 'cat'"),
    ("merge_classes", (["dog", "cat"], "red"), "class name 'red' is learnt already"),
    (
        "merge_classes",
        (["dog", "cat"], "Red"),
        "class names 'red' and 'Red' read the same|'Red' and 'red' read the same",
    ),
]


@pytest.fixture(scope="module")
def whole():
    """A learner that no test may change."""
    return learnt(method="auto")[0]


@pytest.mark.parametrize(("method", "given", "message"), REFUSED)
def test_what_cannot_be_done_is_named_and_nothing_is_changed(whole, method, given, message):
    before = everything(whole)
    with pytest.raises(ValueError, match=message):
        getattr(whole, method)(*given)
    check_unchanged(whole, before)


def test_one_string_is_no_list_of_names(whole):
    with pytest.raises(TypeError, match="names must be a list of names; got the string 'red'"):
        whole.remove_classes("red")


@pytest.mark.parametrize("method", ["remove_classes", "rename_class", "merge_classes"])
def test_an_edit_that_fails_at_its_end_changes_nothing(whole, method, monkeypatch):
    before = everything(whole)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(state_module, "left_out_fit_scores", interrupted)
    given = {"remove_classes": (["red"],), "rename_class": ("red", "x"), "merge_classes": (["red", "cat"], "x")}[method]
    with pytest.raises(KeyboardInterrupt):
        getattr(whole, method)(*given)
    monkeypatch.undo()
    check_unchanged(whole, before)


def test_heads_that_cannot_follow_say_so():
    learner, _ = learnt(method="frozen-prototypes")

    class Mine(type(learner.head)):
        def add(self, feature, label, index):
            """Learns from features, in a way that only its author knows."""

    learner.head.__class__ = Mine
    before = everything(learner)
    for method, given, message in (
        ("remove_classes", (["red"],), "the head Mine cannot leave a class out: it has no method keep"),
        ("merge_classes", (["red", "cat"], "x"), "the head Mine cannot merge classes: it has no method merge"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(learner, method)(*given)
    check_unchanged(learner, before)
    learner.rename_class("red", "crimson")  # which no head needs to know
    assert learner.class_names[0] == "crimson"


def test_a_linear_probe_leaves_classes_out_and_cannot_merge():
    config = small_config(method="linear-probe")
    learner = SeGPCL(tiny_backbone(), config)
    learner.learn_task(made_images(3, 10), FIRST)
    before = logits(learner, ["visual"])["visual"]
    with pytest.raises(ValueError, match="the head LinearProbe cannot merge classes"):
        learner.merge_classes(["red", "blue"], "violet")
    learner.remove_classes(["red"])
    torch.testing.assert_close(logits(learner, ["visual"])["visual"], before[:, 1:])


def test_classes_of_an_older_learner_are_renamed_and_removed_but_not_merged():
    learner, _ = learnt(method="frozen-prototypes")
    statistics = learner.statistics
    statistics.counts, statistics.lengths = (
        torch.full_like(statistics.counts, -1),
        torch.full_like(statistics.lengths, -1),
    )
    learner.records = tuple(dataclasses.replace(record, images=None, learnt="") for record in learner.records)
    before = everything(learner)
    with pytest.raises(ValueError, match=r"segp_ext 0.2 learnt cannot be merged: it did not keep how many images"):
        learner.merge_classes(["red", "dog"], "x")
    check_unchanged(learner, before)
    learner.rename_class("red", "crimson")
    learner.remove_classes(["dog"])
    assert learner.class_names == ("crimson", "green", "blue", "cat")
    assert F.normalize(learner.prototypes, dim=1).allclose(before[1]["prototypes"][:4])


def test_while_a_learner_learns_its_classes_stay():
    learner, _ = learnt()
    with learner._lock.learns(), pytest.raises(RuntimeError, match="learning a task"):
        learner.rename_class("red", "crimson")
    assert learner.class_names[0] == "red"
