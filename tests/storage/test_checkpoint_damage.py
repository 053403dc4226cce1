"""Checkpoints that are damaged, mixed up or malicious."""

import io
import json
import pickle
import random

import psutil
import pytest
import torch
from made import learnt_glyph, made_images, reseal
from safetensors.torch import load, save

import segp_ext
from segp_ext.method.learner import SeGPCL
from segp_ext.storage.checkpoint import read_learner


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


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
        {"classes": [{"name": "a", "task": 1}] * 4},
        {"classes": {"__reduce__": "os.system"}},
        {"classes": [{"name": ["os.system"], "task": 1}] * 4},
        {"format": 4, "class_names": ["a"] * 4},
        {"measured": {"__reduce__": "os.system"}},
        {"format": 4, "class_names": {"__reduce__": "os.system"}},
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
