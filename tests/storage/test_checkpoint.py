"""Saving and loading a learner."""

import copy
import io
import json
import os
import pickle
import random
import subprocess
import sys
from typing import get_args

import psutil
import pytest
import torch
from made import at_once, made_images, small_config
from PIL import Image
from safetensors.torch import load, save

import segp_ext
from segp_ext import predict
from segp_ext.clip import glyph
from segp_ext.config import MethodConfig, Precision, PrototypesConfig
from segp_ext.config.methods import METHODS
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed
from segp_ext.storage.checkpoint import read_learner


def reseal(folder, changed):
    """Replaces files of a checkpoint and seals it again, as somebody would who wants it to be read."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    sealed.seal(folder, {name: content for name, content in {**files, **changed}.items() if name != sealed.SUMS})


@pytest.fixture(scope="module")
def learner():
    config = MethodConfig(min_images_per_class=2)
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph"), config)
    learner.learn_task(made_images(2, 4), ["0", "1"])
    learner.learn_task(made_images(2, 4, seed=2), ["2", "3"])
    return learner


def test_a_loaded_learner_predicts_the_same_and_goes_on_the_same(learner, tmp_path):
    learner.save(tmp_path / "saved")
    images = [made_images(2, 4)[i][0] for i in range(8)]
    loaded = segp_ext.SeGPCL.load(tmp_path / "saved")
    assert loaded.class_names == learner.class_names and loaded.config == learner.config
    assert loaded.predict(images) == learner.predict(images)
    again = segp_ext.SeGPCL.load(tmp_path / "saved")
    for each in (loaded, again):
        each.learn_task(made_images(2, 4, seed=5), ["4", "5"])
    assert torch.equal(loaded.prototypes, again.prototypes)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["cosine", "mahalanobis"])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_precision_is_loaded_as_it_was_saved(precision, score, tmp_path):
    config = MethodConfig(prototypes=PrototypesConfig(score=score))
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph", precision=precision), config)
    learner.learn_task(made_images(2, 8), ["0", "1"])
    learner.save(tmp_path / "saved")
    loaded = SeGPCL.load(tmp_path / "saved")
    images = [image for image, _ in made_images(2, 4)]
    assert loaded.predict(images) == learner.predict(images)
    for each in (learner, loaded):
        each.learn_task(made_images(2, 8, seed=2), ["2", "3"])
    assert torch.equal(loaded.prototypes, learner.prototypes) and loaded.prototypes.dtype == loaded.backbone.dtype


@pytest.mark.parametrize("method", [name for name, fixed in METHODS.items() if fixed.get("training.epochs") == 0])
def test_a_frozen_learner_is_loaded_as_it_was(method, tmp_path):
    config = MethodConfig(method=method, min_images_per_class=2, prototypes=PrototypesConfig(random_features=20))
    frozen = SeGPCL(segp_ext.load_clip("glyph"), config)
    frozen.learn_task(made_images(2, 4), ["0", "1"])
    if not frozen.config.training.joint:
        frozen.learn_task(made_images(2, 4, seed=2), ["2", "3"])
    frozen.save(tmp_path / "saved")
    loaded = segp_ext.SeGPCL.load(tmp_path / "saved")
    images = [image for image, _ in made_images(2, 4)]
    for path in ("text", "visual", "dual"):
        assert loaded.predict(images, path=path) == frozen.predict(images, path=path)


def test_saving_replaces_a_checkpoint_but_nothing_else(learner, tmp_path):
    learner.save(tmp_path / "saved")
    learner.save(tmp_path / "saved")
    assert sorted(os.listdir(tmp_path)) == ["saved"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    with pytest.raises(FileExistsError, match="photos exists and is not a checkpoint"):
        learner.save(tmp_path / "photos")


def test_a_failed_save_leaves_the_old_checkpoint(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "learner.json").read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(sealed, "_write", full)
    with pytest.raises(OSError, match="no space"):
        learner.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "learner.json").read_bytes() == before and os.listdir(tmp_path) == ["saved"]


@pytest.mark.parametrize("name", ["learner.safetensors", "adapter_model.safetensors"])
def test_damage_is_named(learner, tmp_path, name):
    learner.save(tmp_path / "saved")
    content = bytearray((tmp_path / "saved" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "saved" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        SeGPCL.load(tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        SeGPCL.load(tmp_path / "saved")


def test_missing_and_foreign_checkpoints(learner, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere"):
        SeGPCL.load(tmp_path / "nowhere")
    learner.save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "learner.json").read_text())
    for change, message in [
        ({"format": 99}, "format is 99"),
        ({"config": {**state["config"], "colour": 1}}, "no such setting: colour"),
        (
            {"backbone": {**state["backbone"], "weights": "0" * 64}},
            "glyph with its own weights is not the model it was trained on; the weights differ",
        ),
        ({"task_sizes": [2, 3]}, r"task_sizes must add up to 4 classes; got \[2, 3\]"),
    ]:
        reseal(tmp_path / "saved", {"learner.json": json.dumps({**state, **change}).encode()})
        with pytest.raises(ValueError, match=message):
            SeGPCL.load(tmp_path / "saved")
    reseal(tmp_path / "saved", {"learner.json": b"{"})
    with pytest.raises(ValueError, match="cannot load the checkpoint .*learner.json is damaged"):
        SeGPCL.load(tmp_path / "saved")


def test_a_checkpoint_of_the_earlier_method_is_refused(learner, tmp_path):
    """As segp_ext 0.1 wrote it: format 3, no version, and null for the layers."""
    learner.save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "learner.json").read_text())
    assert state["format"] == 4 and state["version"] == segp_ext.__version__
    del state["version"]
    config = {**state["config"], "lora": {**state["config"]["lora"], "targets": None}}
    reseal(tmp_path / "saved", {"learner.json": json.dumps({**state, "format": 3, "config": config}).encode()})
    for read in (SeGPCL.load, read_learner):
        with pytest.raises(
            ValueError, match=r"saved: it was made by segp_ext 0.1 \(format 3\), whose method differed .* learn anew"
        ):
            read(tmp_path / "saved")


def test_the_adapter_opens_with_peft_on_the_plain_model(learner, tmp_path):
    from peft import PeftModel

    learner.save(tmp_path / "saved")
    backbone, (plain, _) = learner.backbone, glyph.build()
    peft = PeftModel.from_pretrained(plain, str(tmp_path / "saved")).eval()
    images = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad():
        embedding = backbone.encode_image(images)[0]
        torch.testing.assert_close(
            peft.encode_image((images - backbone.mean) / backbone.std), embedding, rtol=1e-5, atol=1e-5
        )
        with backbone.reference():
            assert (backbone.encode_image(images)[0] - embedding).abs().max() > 1e-5


def test_no_flipped_byte_and_no_cut_file_is_accepted(learner, tmp_path):
    learner.save(tmp_path / "saved")
    files = sorted((tmp_path / "saved").iterdir())
    draw = random.Random(0)
    for number in range(1000):
        path = draw.choice(files)
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :]
        path.write_bytes(whole[:place] if number % 4 == 0 else flipped)
        with pytest.raises((ValueError, FileNotFoundError), match="saved"):
            read_learner(tmp_path / "saved")
        path.write_bytes(whole)
    read_learner(tmp_path / "saved")


def test_files_of_another_checkpoint_are_noticed(learner, tmp_path):
    learner.save(tmp_path / "saved")
    other = SeGPCL(segp_ext.load_clip("glyph"), learner.config)
    other.learn_task(made_images(2, 4, seed=8), ["a", "b"])
    other.save(tmp_path / "other")
    for name in ("learner.safetensors", "adapter_model.safetensors", "learner.json", "SHA256SUMS"):
        kept = (tmp_path / "saved" / name).read_bytes()
        (tmp_path / "saved" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(ValueError, match="is damaged"):
            SeGPCL.load(tmp_path / "saved")
        (tmp_path / "saved" / name).write_bytes(kept)


class Payload:
    """Would leave a file if it were unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def malicious(state, tensors, ran):
    """Checkpoints that are sealed as they should be and hold what should not be; which file of theirs, and what."""
    header = lambda entry, size=0: len(entry).to_bytes(8, "little") + entry + bytes(size)  # noqa: E731
    buffer = io.BytesIO()
    torch.save({"prototypes": Payload(ran)}, buffer)
    huge = json.dumps({"prototypes": {"dtype": "F32", "shape": [1 << 40, 128], "data_offsets": [0, 1 << 49]}}).encode()
    beyond = json.dumps({"prototypes": {"dtype": "F32", "shape": [4, 128], "data_offsets": [0, 2048]}}).encode()
    for name in ("learner.safetensors", "adapter_model.safetensors"):
        yield name, pickle.dumps(Payload(ran))
        yield name, buffer.getvalue()
        yield name, header(huge, 8)
        yield name, header(beyond, 8)
        yield name, (1 << 62).to_bytes(8, "little") + b"{}"
        yield name, b""
    yield "learner.json", b"[" * 200_000
    yield "learner.json", pickle.dumps(Payload(ran))
    for change in (
        {"class_names": ["a"] * 4},
        {"class_names": {"__reduce__": "os.system"}},
        {"task_sizes": [10**30]},
        {"task_sizes": [4, 0]},
        {"backbone": {**state["backbone"], "name": "local-dir:../../../etc"}},
        {"backbone": {**state["backbone"], "pretrained": "/etc/passwd", "name": "ViT-B-32"}},
        {"backbone": {**state["backbone"], "name": ["os.system"]}},
        {"config": {**state["config"], "lora": {**state["config"]["lora"], "rank": 10**9}}},
        {"config": {**state["config"], "template": "{0.__class__}"}},
    ):
        yield "learner.json", json.dumps({**state, **change}).encode()
    for tensor in (
        tensors["prototypes"].double(),
        tensors["prototypes"].to(torch.int32),
        tensors["prototypes"] * float("nan"),
        tensors["prototypes"][:, :5],
        tensors["prototypes"][None],
    ):
        yield "learner.safetensors", save({"prototypes": tensor.contiguous()})
    yield "learner.safetensors", save({"classes": tensors["prototypes"]})


def test_a_malicious_checkpoint_does_nothing_but_raise(learner, tmp_path):
    learner.save(tmp_path / "saved")
    good = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    state, tensors = json.loads(good["learner.json"]), load(good["learner.safetensors"])
    cases = list(malicious(state, tensors, tmp_path / "ran"))
    assert len(cases) > 20
    for name, content in cases:
        reseal(tmp_path / "saved", {**good, name: content})
        before = psutil.Process().memory_info().rss
        with pytest.raises((ValueError, FileNotFoundError)):
            SeGPCL.load(tmp_path / "saved")
        assert not (tmp_path / "ran").exists()
        assert psutil.Process().memory_info().rss - before < 2e9  # a ViT-B/32 whose weights are refused takes 0.6 GB


def test_the_state_must_be_sealed(learner, tmp_path):
    learner.save(tmp_path / "c")
    sums = (tmp_path / "c/SHA256SUMS").read_text().splitlines(keepends=True)
    for name in ("learner.json", "learner.safetensors"):
        (tmp_path / "c/SHA256SUMS").write_text("".join(line for line in sums if not line.endswith(f"{name}\n")))
        with pytest.raises(ValueError, match=f"{name} is no part of it"):
            SeGPCL.load(tmp_path / "c")


def test_the_present_folder_is_a_place_too(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "c")
    monkeypatch.chdir(tmp_path / "c")
    with pytest.raises(FileExistsError, match="is the folder that this process works in"):
        learner.save(".")
    assert SeGPCL.load(".").class_names == learner.class_names


def test_what_could_not_be_loaded_is_not_saved(learner, tmp_path):
    learner.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    for odd, message in (
        (learner.prototypes.double(), "must be torch.float32; got torch.float64"),
        (learner.prototypes / 0, "not finite"),
    ):
        broken = learner.copy()
        broken.prototypes = odd
        for place in ("saved", "elsewhere"):
            with pytest.raises(ValueError, match=f"cannot be saved, as it could not be loaded again: .*{message}"):
                broken.save(tmp_path / place)
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def with_settings(learner, **changes):
    """A copy whose settings have been changed since it learnt."""
    twin = copy.deepcopy(learner)
    for dotted, value in changes.items():
        section, _, name = dotted.partition("__")
        setattr(getattr(twin.config, section) if name else twin.config, name or section, value)
    return twin


@pytest.mark.slow
def test_a_learner_that_does_not_fit_its_settings_is_not_saved(learner, tmp_path):
    """Whatever `load` checks, `save` checks before it replaces what is there."""
    learner.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    uneven, nameless = learner.copy(), learner.copy()
    uneven.task_sizes = [*learner.task_sizes, 3]
    nameless.backbone.name = "made-up"
    ridge = SeGPCL(
        segp_ext.load_clip("glyph"), MethodConfig(method="ranpac", prototypes=PrototypesConfig(random_features=20))
    )
    ridge.learn_task(made_images(2, 4), ["0", "1"])
    for odd, message in (
        (with_settings(learner, lora__rank=8), r"adapter tensor .* must be \[8, .*; got \[4, "),
        (with_settings(learner, lora__alpha=64), "its adapter is not as config.lora says"),
        (with_settings(learner, lora__encoders="vision"), "adapter tensors do not match"),
        (with_settings(learner, training__epochs=0), "adapter tensors do not match"),
        (
            with_settings(learner, prototypes__score="mahalanobis"),
            r"the head's tensors must be \['counts', .*; got \[\]",
        ),
        (
            with_settings(learner, template="one two three four five six seven eight nine ten eleven twelve {}"),
            "does not fit",
        ),
        (with_settings(ridge, prototypes__random_features=30), r"head.gram must be \[30, 30\] .*; got \[20, 20\]"),
        (with_settings(ridge, seed=3), "its head was made with other settings"),
        (uneven, r"task_sizes must add up to 4 classes; got \[2, 2, 3\]"),
        (nameless, "no model named 'made-up'"),
    ):
        for place in ("saved", "elsewhere"):
            with pytest.raises(ValueError, match=f"cannot be saved.*: .*{message}|cannot be saved as it is.*{message}"):
                odd.save(tmp_path / place)
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    "way",
    [
        "in place",
        *(pytest.param(way, marks=pytest.mark.slow) for way in ("through .data", "before learning", "load_weights")),
    ],
)
def test_weights_of_ones_own_are_saved_with_the_learner_or_not_at_all(way, tmp_path):
    def change(backbone):
        if way == "load_weights":
            backbone.load_weights({name: tensor * 1.3 for name, tensor in backbone.weights().items()})
        for name, parameter in backbone.clip.named_parameters():
            if ".lora_" not in name and way != "load_weights":
                parameter.data.mul_(1.3) if way == "through .data" else parameter.detach().mul_(1.3)

    config = MethodConfig(min_images_per_class=2)
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph"), config)
    known = learner.backbone.weights_hash()
    learner.save(tmp_path / "saved")
    if way == "before learning":
        change(learner.backbone)
    learner.learn_task(made_images(2, 4), ["0", "1"])
    images = [image for image, _ in made_images(2, 4)]
    learner.predict(images)  # what it made for that must not outlive the change
    if way != "before learning":
        change(learner.backbone)
    assert learner.backbone.weights_hash() != known
    with pytest.raises(
        ValueError, match="weights are others than those of glyph with its own weights.*with_weights=True"
    ):
        learner.save(tmp_path / "saved")
    assert SeGPCL.load(tmp_path / "saved").class_names == ()
    learner.save(tmp_path / "saved", with_weights=True)
    loaded = SeGPCL.load(tmp_path / "saved")
    assert loaded.predict(images) == (learner.copy() if way == "through .data" else learner).predict(images)
    with pytest.raises(ValueError, match="with_weights=True"):  # that they are others is known of what was loaded, too
        loaded.save(tmp_path / "bare", with_weights=False)


@pytest.mark.parametrize("dim", [0, 1])
def test_weights_in_another_order_are_others(dim, tmp_path):
    learner = SeGPCL(segp_ext.load_clip("glyph"), MethodConfig())
    learner.save(tmp_path / "saved")  # which keeps a hash
    known = learner.backbone.weights_hash()
    weight = dict(learner.backbone.clip.named_parameters())["visual.transformer.resblocks.0.mlp.c_fc.base_layer.weight"]
    with torch.no_grad():
        weight.copy_(weight.flip(dim))
    assert learner.backbone.has_other_weights() and learner.backbone.weights_hash() != known
    with pytest.raises(ValueError, match="weights are others than"):
        learner.save(tmp_path / "saved")


def test_a_folder_with_hidden_files_alone_takes_a_learner(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.DS_Store").write_bytes(b"x")
    SeGPCL(segp_ext.load_clip("glyph")).save(tmp_path / "new")
    assert SeGPCL.load(tmp_path / "new").class_names == () and (tmp_path / "new/.DS_Store").is_file()


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


def test_an_empty_folder_may_be_saved_to_and_a_tilde_is_the_home_folder(learner, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").mkdir()
    learner.save("~/made")
    assert SeGPCL.load("~/made").class_names == learner.class_names and [p.name for p in tmp_path.iterdir()] == ["made"]


def test_names_in_any_writing_are_learnt_and_saved(tmp_path):
    names = ["猫", "قط", "cat 🐈", "a/b", "{x}", "%s \\n"]
    learner = SeGPCL(segp_ext.load_clip("glyph"), small_config())
    learner.learn_task(made_images(6, 4), names)
    learner.save(tmp_path / "saved")
    loaded, image = SeGPCL.load(tmp_path / "saved"), made_images(1, 1)[0][0]
    assert loaded.class_names == learner.class_names == tuple(names)
    assert loaded.predict(image, topk=None) == learner.predict(image, topk=None)


def test_the_predict_command_takes_folders_and_patterns_and_goes_on_after_a_bad_file(learner, tmp_path, capsys):
    learner.save(tmp_path / "saved")
    (tmp_path / "photos/more").mkdir(parents=True)
    for number, (image, _) in enumerate(made_images(2, 2)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"photos/{'more/' if number > 1 else ''}{number}.png")
    (tmp_path / "photos/notes.txt").write_text("no image")

    def shown(*given):
        status = predict.main([str(tmp_path / "saved"), *map(str, given)])
        said = capsys.readouterr()
        return status, [line.split(":")[0].rpartition("/")[2] for line in said.out.splitlines()], said.err

    assert shown(tmp_path / "photos") == (0, ["0.png", "1.png", "2.png", "3.png"], "")
    assert shown(tmp_path / "photos/*.png") == (0, ["0.png", "1.png"], "")
    (tmp_path / "photos/1.png").write_bytes(b"broken")
    status, named, said = shown(tmp_path / "photos")
    assert (status, named) == (2, ["0.png", "2.png", "3.png"]) and "error: cannot read " in said and "1.png" in said
    (tmp_path / "empty").mkdir()
    for nothing, message in (("empty", "no image in the folder"), ("*.gif", "no file matches")):
        status, named, said = shown(tmp_path / nothing)
        assert (status, named) == (2, []) and message in said
        status, named, said = shown(tmp_path / "photos/0.png", tmp_path / nothing, tmp_path / "photos/more/2.png")
        assert (status, named) == (2, ["0.png", "2.png"]) and message in said
    status, named, said = shown("http://x/y.png?size=8", tmp_path / "photos/0.png")
    assert (status, named, said) == (
        2,
        ["0.png"],
        "error: http://x/y.png?size=8 is an address; download it, and give the file\n",
    )
    (tmp_path / "photos/1.png").unlink()
    (tmp_path / "photos/notes.txt").unlink()
    for pattern in ("photos/*", "p*", "photos/**", "photos/*/*", "[ep]*"):
        found = ["2.png", "3.png"] if pattern == "photos/*/*" else ["0.png", "2.png", "3.png"]
        assert shown(tmp_path / pattern) == (0, found, ""), pattern


def test_an_image_that_does_not_fit_costs_the_predict_command_no_other(learner, tmp_path, monkeypatch, capsys):
    learner.save(tmp_path / "saved")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # PIL refuses twice as many
    monkeypatch.chdir(tmp_path)
    for name, size in (("a", (8, 8)), ("b", (1, 126)), ("c", (8, 8))):
        Image.new("RGB", size).save(f"{name}.png")
    assert predict.main(["saved", "a.png", "b.png", "c.png"]) == 2
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["a.png", "c.png"]
    assert said.err.startswith("error: b.png: ") and "too narrow" in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize("topk", ["0", "-1"])
def test_the_predict_command_names_a_class_at_least(topk, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["saved", "a.png", f"--topk={topk}"])
    assert stop.value.code == 2 and f"error: --topk must be 1 or more; got {topk}\n" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("module", ["doctor", "predict"])
def test_output_that_nobody_reads_is_no_error(module, learner, tmp_path):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    given = ["--help"] if module == "doctor" else [str(tmp_path / "saved"), str(tmp_path / "x.png")]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-m", f"segp_ext.{module}", *given]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE)
    assert done.returncode in (0, 141) and done.stderr == b""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_in_an_encoding_that_lacks_characters(encoding, learner, tmp_path):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "Füße→.png")
    for given in (["predict", str(tmp_path / "saved"), str(tmp_path / "Füße→.png")], ["train", "--help"]):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
        done = subprocess.run(
            [sys.executable, "-m", f"segp_ext.{given[0]}", *given[1:]], capture_output=True, env=environment
        )
        assert done.returncode == 0 and done.stderr == b""
    assert b"usage: python -m segp_ext.train" in done.stdout


@pytest.mark.parametrize("own", [None, "active"])
def test_commands_let_threads_wait_without_spinning(own):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
    asks = "import runpy, os, sys; import segp_ext; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    as_library = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, env=environment).stdout
    assert as_library.split()[0] == str(own)
    asks = "import sys; sys.argv = ['-m']; " + asks
    as_command = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, env=environment).stdout
    assert as_command.split() == ["PASSIVE" if own is None else own, "False"]


def test_a_learner_is_saved_when_the_present_folder_is_gone(learner, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    learner.save(tmp_path / "saved")
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert SeGPCL.load(tmp_path / "saved").class_names == learner.class_names


def test_a_name_that_begins_with_a_tilde_is_no_home_folder(learner, tmp_path, monkeypatch, capsys):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "~$x.png")
    monkeypatch.chdir(tmp_path)
    assert predict.main(["saved", "~$x.png"]) == 0 and "~$x.png: " in capsys.readouterr().out
    assert len(learner.predict("~$x.png")) == 1
