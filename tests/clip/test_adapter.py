"""The adapter's promises: its start, what is trained, merged and switched off."""

import pytest
import torch
from made import TEXTS, pixels, shake, tiny_backbone

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


def test_narrow_layers_get_their_width_as_rank_and_the_scale_of_the_others():
    backbone = load_clip("made-resnet", None)
    backbone.adapt(LoraConfig(rank=100, alpha=50, encoders="vision", targets="convolutions"), seed=0)
    found = {}
    for name, module in backbone.clip.named_modules():
        if hasattr(module, "lora_A"):
            found[name.removeprefix("visual.trunk.")] = module.r["default"], module.scaling["default"]
    assert found["layer1.0.conv1"] == found["layer1.1.conv2"] == (64, 0.5)
    assert found["layer2.0.conv1"] == found["layer4.1.conv2"] == (100, 0.5)
    for name, parameter in backbone.clip.named_parameters():
        if ".lora_A." in name:
            rows = parameter.flatten(1)
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)


def test_a_narrow_text_tower_leaves_the_vision_towers_ranks_alone():
    """The text tower's names are ends of the vision tower's, and PEFT looks for the ends of names."""
    backbone = load_clip("made-vit", None)
    backbone.adapt(LoraConfig(rank=40), seed=0)
    ranks = {name: module.r["default"] for name, module in backbone.clip.named_modules() if hasattr(module, "lora_A")}
    assert {rank for name, rank in ranks.items() if name.startswith("visual.")} == {40}
    assert {rank for name, rank in ranks.items() if not name.startswith("visual.")} == {32}


@pytest.mark.parametrize(
    ("targets", "rank", "count"),
    [("kv+ffn", 32, 3_440_640), ("kv", 32, 983_040), ("ffn", 32, 2_457_600), ("kv+ffn", 8, 860_160)],
)
def test_the_papers_numbers_of_trained_parameters(vit_b_16, targets, rank, count):
    """Section IV-A.4 and table VI: ViT-B/16, both encoders."""
    backbone = vit_b_16.copy()
    backbone.adapt(LoraConfig(rank=rank, targets=targets), seed=0)
    assert sum(p.numel() for p in backbone.clip.parameters() if p.requires_grad) == count
    assert sum(p.numel() for p in backbone.trained_parameters()) == count


@pytest.fixture(scope="module")
def vit_b_16():
    return load_clip("ViT-B-16", None)


def only_b_trains(backbone):
    return {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        n for n, _ in backbone.named_parameters() if ".lora_B." in n
    }


def test_an_interrupt_while_merging_leaves_nothing_merged(backbone, monkeypatch):
    from peft.tuners.lora import Linear

    backbone.adapt(LoraConfig(rank=4), seed=0)
    for parameter in backbone.trained_parameters():
        parameter.data.normal_()
    x, merge, calls = pixels(), Linear.merge, []
    before = backbone.encode_image(x)[0]

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        merge(self, *arguments)

    monkeypatch.setattr(Linear, "merge", interrupted)
    with pytest.raises(KeyboardInterrupt), backbone.merged():
        pass
    assert torch.equal(backbone.encode_image(x)[0], before)
    assert all(parameter.requires_grad for parameter in backbone.trained_parameters())
    with backbone.merged():
        torch.testing.assert_close(backbone.encode_image(x)[0], before, rtol=1e-4, atol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_trains_only_b(backbone):
    with torch.no_grad():
        before = backbone.encode_image(pixels())[1], backbone.encode_text(backbone.tokenize(TEXTS))
    backbone.adapt(LoraConfig(rank=4), seed=3)
    after = backbone.encode_image(pixels())[1], backbone.encode_text(backbone.tokenize(TEXTS))
    for expected, got in zip(before, after, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert only_b_trains(backbone)
    # per block: k and v together (2·width), FFN up (its width) and down, each times the rank
    vision, text = 2 * 4 * (24 * 2 + 48 + 24), 2 * 4 * (20 * 2 + 80 + 20)
    assert sum(p.numel() for p in backbone.trained_parameters()) == vision + text
    for name, parameter in backbone.clip.named_parameters():
        if ".lora_A." in name:
            torch.testing.assert_close(parameter @ parameter.T, torch.eye(4), rtol=0, atol=1e-5)


def test_only_b_trains_whatever_was_done_before(backbone):
    """PEFT's disable_adapter, as it ends, lets gradients to A too."""
    backbone.adapt(LoraConfig(rank=4, targets="attention+ffn"), seed=0)
    shake(backbone)
    with backbone.reference():
        backbone.encode_image(pixels())
    assert only_b_trains(backbone)
    with pytest.raises(KeyboardInterrupt), backbone.reference():
        raise KeyboardInterrupt
    assert only_b_trains(backbone)
    with backbone.merged():
        assert not any(p.requires_grad for p in backbone.parameters())
        merged = backbone.copy()
        with backbone.reference():  # which takes the adapter out of the weights meanwhile
            pass
        assert not any(p.requires_grad for p in backbone.parameters())
    assert only_b_trains(backbone) and only_b_trains(backbone.copy())
    merged.unmerge()
    assert only_b_trains(merged)
    backbone.load_adapter_state(backbone.adapter_state())
    assert only_b_trains(backbone)
    backbone.encode_image(pixels())[0].square().sum().backward()
    assert all((p.grad is not None) == (".lora_B." in n) for n, p in backbone.clip.visual.named_parameters())


def test_queries_keys_and_values_start_alike():
    backbone = tiny_backbone()
    backbone.adapt(LoraConfig(rank=4, targets="attention+ffn"), seed=0)
    starts = {n.split(".lora_A.")[0]: p for n, p in backbone.clip.named_parameters() if ".lora_A." in n}
    for block in ("visual.transformer.resblocks.0", "transformer.resblocks.1"):
        assert torch.equal(starts[f"{block}.attn.q_proj"], starts[f"{block}.attn.kv_proj"])
        assert not torch.equal(starts[f"{block}.attn.q_proj"], starts[f"{block}.attn.out_proj"])
    first, second = (starts[f"transformer.resblocks.{n}.attn.q_proj"] for n in (0, 1))
    assert not torch.equal(first, second)


def test_the_adapters_start_follows_its_seed():
    starts = []
    for seed in (0, 0, 1):
        backbone = tiny_backbone()
        torch.manual_seed(99 + len(starts))  # the caller's generator must not matter, nor be touched
        untouched = torch.random.get_rng_state()
        backbone.adapt(LoraConfig(rank=2), seed=seed)
        assert torch.equal(torch.random.get_rng_state(), untouched)
        starts.append(backbone.adapter_state())
    assert all(torch.equal(starts[0][n], starts[1][n]) for n in starts[0])
    assert any(not torch.equal(starts[0][n], starts[2][n]) for n in starts[0])


@pytest.mark.parametrize(("encoder", "changed"), [("vision", (True, False)), ("text", (False, True))])
def test_one_encoder_alone(backbone, encoder, changed):
    with torch.no_grad():
        before = backbone.encode_image(pixels())[0], backbone.encode_text(backbone.tokenize(TEXTS))
        backbone.adapt(LoraConfig(rank=2, encoders=encoder), seed=0)
        shake(backbone)
        after = backbone.encode_image(pixels())[0], backbone.encode_text(backbone.tokenize(TEXTS))
    assert tuple(not torch.equal(a, b) for a, b in zip(after, before, strict=True)) == changed


def test_teacher_is_the_same_function_and_leaves_no_trace(backbone):
    backbone.adapt(LoraConfig(rank=4), seed=0)
    shake(backbone)
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    x = pixels()
    expected = backbone.encode_image(x)[0].detach()
    for _ in range(3):
        with backbone.merged():
            x.requires_grad_(True)
            embedding, _ = backbone.encode_image(x)
            torch.testing.assert_close(embedding, expected, rtol=1e-5, atol=1e-5)
            assert not any(p.requires_grad for p in backbone.parameters())
            assert torch.autograd.grad(embedding.sum(), x)[0].abs().sum() > 0
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name]), name  # to the bit: merging must not round the base weights
    assert all(p.requires_grad for p in backbone.trained_parameters())
    torch.testing.assert_close(backbone.encode_image(x)[0], expected, rtol=0, atol=0)


def test_teacher_restores_after_an_error(backbone):
    backbone.adapt(LoraConfig(rank=4), seed=0)
    shake(backbone)
    expected = backbone.encode_image(pixels())[0].detach()
    with pytest.raises(KeyboardInterrupt), backbone.merged():
        raise KeyboardInterrupt
    assert torch.equal(backbone.encode_image(pixels())[0], expected)


def test_reference_is_the_pretrained_model(backbone):
    with torch.no_grad():
        expected = backbone.encode_text(backbone.tokenize(TEXTS))
        backbone.adapt(LoraConfig(rank=4), seed=0)
        shake(backbone)
        assert not torch.equal(backbone.encode_text(backbone.tokenize(TEXTS)), expected)
        with backbone.reference():
            torch.testing.assert_close(backbone.encode_text(backbone.tokenize(TEXTS)), expected, rtol=0, atol=0)
