"""Loading files of weights: every format that people have, written here as it is there, and what does not fit or is damaged."""

import json

import pytest
import torch
from made_clips import (
    in_transformers_layout,
    openai_archive,
    same_features,
    weights,
)
from safetensors.torch import save_file

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.parametrize("form", ["pt", "training", "safetensors"])
def test_a_local_checkpoint(tmp_path, form):
    model, state = weights()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(state, path)
    else:  # open_clip's training script wraps the state and, on several GPUs, prefixes its names
        torch.save(
            state if form == "pt" else {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path
        )
    backbone = load_clip("made-tiny", str(path))
    same_features(backbone, model)
    assert backbone.pretrained == str(path)


def test_messages_are_short(tmp_path):
    torch.save({f"tower.{k}": v for k, v in weights()[1].items() if k != "logit_scale"}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"Missing key.*and \d+ more; Unexpected key.*and \d+ more. Are they another"
    ) as raised:
        load_clip("made-tiny", str(tmp_path / "w.pt"))
    assert len(str(raised.value)) < 600 + len(str(tmp_path))


@pytest.mark.parametrize("said", ["quick_gelu", "gelu", None])
def test_the_configuration_beside_a_file_of_transformers_says_its_activation(tmp_path, said):
    model, state = weights(force_quick_gelu=said != "gelu")
    save_file(in_transformers_layout(state), tmp_path / "model.safetensors")
    tower = {} if said is None else {"hidden_act": said}  # transformers leaves out what is its default
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clip", "text_config": tower, "vision_config": tower})
    )
    place = str(tmp_path / "model.safetensors")
    if said == "gelu":
        same_features(load_clip("made-tiny", place), model)
        with pytest.raises(
            ValueError, match="were trained with GELU, and made-tiny-quickgelu has QuickGELU; name made-tiny"
        ):
            load_clip("made-tiny-quickgelu", place)
        return
    same_features(load_clip("made-tiny-quickgelu", place), model)
    with pytest.warns(RuntimeWarning, match="were trained with QuickGELU, which made-tiny gets for them"):
        same_features(load_clip("made-tiny", place), model)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_that_are_no_numbers_with_a_fraction_are_refused(tmp_path, dtype):
    _, state = weights()
    save_file({**state, "visual.proj": state["visual.proj"].to(dtype)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=f"visual.proj is {dtype}, as quantised weights are; floating-point ones are needed"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": "bert"}', '{"model_type": "clip", "text_config": 5}'])
def test_another_configuration_beside_a_file_says_nothing(tmp_path, content):
    model, state = weights()
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text(content)
    same_features(load_clip("made-tiny", str(tmp_path / "w.safetensors")), model)


def test_weights_that_do_not_fit_are_named(tmp_path):
    _, state = weights()
    torch.save(state, tmp_path / "tiny.pt")
    with pytest.raises(
        ValueError, match=r"tiny.pt' do not fit made-wider: .*visual.*\[48\].*\[60\].*Are they another model's\?"
    ):
        load_clip("made-wider", str(tmp_path / "tiny.pt"))
    openai_archive(tmp_path / "archive.pt", weights()[0], 32)
    with pytest.raises(ValueError, match="archive.pt' do not fit made-wider: .*another model's"):
        load_clip("made-wider", str(tmp_path / "archive.pt"))
    torch.save({"something": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt' do not fit made-tiny: .*Missing key"):
        load_clip("made-tiny", str(tmp_path / "other.pt"))


def test_weights_for_other_images_or_texts_are_not_stretched(tmp_path):
    _, state = weights()
    larger = {**state, "visual.positional_embedding": torch.zeros(26, 48)}
    torch.save(larger, tmp_path / "larger.pt")
    with pytest.raises(
        ValueError,
        match=r"larger.pt' do not fit made-tiny: they are for images of another size .* 26 places, the model's 17",
    ):
        load_clip("made-tiny", str(tmp_path / "larger.pt"))
    save_file({**state, "positional_embedding": torch.zeros(20, 32)}, tmp_path / "longer.safetensors")
    with pytest.raises(ValueError, match="for texts of another length .* 20 places, the model's 16"):
        load_clip("made-tiny", str(tmp_path / "longer.safetensors"))
    torch.save({**state, "logit_bias": torch.zeros(1)}, tmp_path / "sigmoid.pt")
    with pytest.raises(ValueError, match="they have a logit_bias.*SigLIP"):
        load_clip("made-tiny", str(tmp_path / "sigmoid.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "it holds a list, not tensors by name"),
        ({}, "it holds no tensors by name"),
        ({"epoch": 3, "optimizer": {}}, "it holds no tensors by name, only epoch, optimizer. Is"),
        (
            {"net": {"w": torch.zeros(2)}, "ema": {"w": torch.ones(2)}},
            "it holds 2 sets of tensors, net, ema; write one",
        ),
        (torch.zeros(2), "it holds a Tensor"),
    ],
)
def test_files_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"could not read .*w.pt' as weights of made-tiny: {message}"):
        load_clip("made-tiny", str(tmp_path / "w.pt"))


def test_damaged_weights_are_named(tmp_path):
    _, state = weights()
    openai_archive(tmp_path / "archive.pt", weights()[0], 32)
    for name in ("cut.pt", "cut.safetensors", "empty.pt", "empty.safetensors", "empty.npz", "text.pt", "archive.pt"):
        path = tmp_path / name
        if name.startswith("cut"):
            torch.save(state, path) if name.endswith("pt") else save_file(state, path)
        elif name != "archive.pt":
            path.write_bytes(b"no weights " * 20 if name == "text.pt" else b"")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"could not read .*{name}' as weights of made-tiny: .*Is the file whole"):
            load_clip("made-tiny", str(path))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        ValueError, match="pointer of Git LFS, and the file itself was not fetched: git lfs pull"
    ) as raised:
        load_clip("made-tiny", str(tmp_path / name))
    assert "weights_only" not in str(raised.value)  # torch's advice to read it all the same


def test_a_pickle_payload_beside_tensors_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    _, state = weights()
    torch.save({**state, "extra": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="could not read .*evil.pt"):
        load_clip("made-tiny", str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()
