"""The backbone against open_clip's own encoders, and its adapter's promises."""

import io
import pickle

import numpy as np
import open_clip
import pytest
import torch
from made import CONTEXT, WordTokenizer, images_of, made_images, tiny_backbone

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig
from segp_ext.data.scenario import LabelledImages, PixelArray

TEXTS = ["a", "a photo of a red fox", "one two three four five six seven eight"]


def pixels(count=5, seed=0):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def shake(backbone, seed=1):
    """Gives the adapter a non-zero state."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.trained_parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def only_b_trains(backbone):
    return {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        n for n, _ in backbone.named_parameters() if ".lora_B." in n
    }


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_features_are_open_clips_own(quick_gelu):
    torch.manual_seed(0)
    vision = {"image_size": 8, "patch_size": 4, "width": 24, "head_width": 12, "layers": 2}
    text = {"context_length": CONTEXT, "vocab_size": 50, "width": 20, "heads": 2, "layers": 2}
    clip = open_clip.CLIP(16, vision, text, quick_gelu=quick_gelu).eval()
    x, tokens = pixels(), WordTokenizer()(TEXTS)
    with torch.no_grad():
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
        image_expected, text_expected = clip.encode_image((x - mean) / std), clip.encode_text(tokens)
        projection = clip.visual.proj.clone()
        backbone = Backbone(clip, WordTokenizer(), "tiny", None)
        embedding, feature = backbone.encode_image(x)
        torch.testing.assert_close(embedding, image_expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(feature @ projection, image_expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.encode_text(tokens), text_expected, rtol=1e-5, atol=1e-5)


def test_cutting_prompts_leaves_embeddings_alone(backbone):
    with torch.no_grad():
        tokens = backbone.tokenize(TEXTS[:2])
        assert tokens.shape == (2, 8) and backbone.tokenize(TEXTS[:1]).shape == (1, 3)
        torch.testing.assert_close(
            backbone.encode_text(tokens), backbone.encode_text(WordTokenizer()(TEXTS[:2])), rtol=0, atol=1e-5
        )


def test_a_prompt_over_the_context_is_named(backbone):
    backbone.tokenize(["w " * (CONTEXT - 2)])  # fits exactly
    with pytest.raises(ValueError, match=r"10 tokens.*'too long a b c d e f g'"):
        backbone.tokenize(["fine", "too long a b c d e f g"])


@pytest.mark.parametrize(("learned", "scale"), [(4.0, 54.598), (4.7, 100.0), (88.0, 100.0)])
def test_the_logit_scale_is_bounded_as_in_clip(learned, scale):
    clip = tiny_backbone().clip
    clip.visual.proj = torch.nn.Parameter(torch.zeros(24, 16))
    clip.logit_scale.data.fill_(learned)
    assert Backbone(clip, WordTokenizer(), "tiny", None).logit_scale == pytest.approx(scale, rel=1e-4)
    clip.visual.proj = torch.nn.Parameter(torch.zeros(24, 16))
    clip.logit_scale.data.fill_(float("nan"))
    with pytest.raises(
        ValueError, match="weights of tiny are damaged: their logit_scale has values that are not finite"
    ):
        Backbone(clip, WordTokenizer(), "tiny", None)


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


def test_weights_hash_ignores_the_adapter_and_sees_the_weights(backbone):
    plain = backbone.weights_hash()
    backbone.adapt(LoraConfig(rank=4), seed=0)
    shake(backbone)
    assert backbone.weights_hash() == plain
    assert tiny_backbone(seed=1).weights_hash() != plain


class WithoutModel(pickle.Pickler):
    """Refuses models and tensors."""

    def persistent_id(self, obj):
        assert not isinstance(obj, (Backbone, torch.Tensor)), type(obj)


@pytest.fixture
def spawning():
    """Worker processes are spawned, as macOS and Python 3.14 do, and get a pickle of what they work with."""
    before = torch.multiprocessing.get_start_method(allow_none=True)
    torch.multiprocessing.set_start_method("spawn", force=True)
    yield
    torch.multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_spawned_workers_get_the_transform_and_no_model(compiled, spawning):
    backbone = tiny_backbone(compile=compiled)
    pixels = np.random.RandomState(0).randint(0, 256, (6, 3, 12, 10)).astype(np.uint8)
    dataset = LabelledImages(range(6), [0, 1] * 3, PixelArray(pixels).open)
    own, theirs = (images_of(dataset, backbone, workers=count, memory_gb=0) for count in (0, 2))
    chunks = [torch.tensor([4, 1, 0]), torch.tensor([5, 2])]
    expected = [made for _, made in own.read(chunks)]
    found = [made for _, made in theirs.read(chunks)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    handed = io.BytesIO()
    WithoutModel(handed).dump(theirs._decoded)
    assert len(handed.getvalue()) < 100_000


@pytest.mark.filterwarnings("ignore:Got pickle error")  # torch's own words
def test_a_data_set_that_cannot_be_handed_to_workers_is_named(spawning):
    images = images_of(made_images(2, 3), tiny_backbone(), workers=2)  # which has a lambda
    with pytest.raises(TypeError, match="this data set cannot be handed to worker processes: .*loading.workers to 0"):
        list(images.read(images.batches(2)))


def test_transform_is_clips_preprocessing():
    from PIL import Image

    backbone = tiny_backbone()
    image = Image.effect_noise((23, 17), 80).convert("RGB")
    expected = open_clip.image_transform(8, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(image)
    torch.testing.assert_close(backbone.transform(image).float() / 255, expected, rtol=0, atol=1e-6)


def test_refusals(backbone):
    with pytest.raises(ValueError, match="lora.rank must be at most 24"):
        backbone.adapt(LoraConfig(rank=25, encoders="vision"), seed=0)
    backbone.adapt(LoraConfig(rank=4), seed=0)
    with pytest.raises(ValueError, match="carries an adapter already"):
        backbone.adapt(LoraConfig(rank=4), seed=0)
    with pytest.raises(ValueError, match="no model named 'ViT-B-61'.*ViT-B-16"):
        load_clip("ViT-B-61")
    with pytest.raises(ValueError, match="ViT-B-32 has no weights 'opnai'.*openai"):
        load_clip("ViT-B-32", "opnai")
    with pytest.raises(
        FileNotFoundError, match="ViT.* with the weights file gone/weights.pt is not there. Looked for: /"
    ):
        load_clip("ViT-B-32", "gone/weights.pt")
    with pytest.raises(ValueError, match="cannot be used.*raw feature"):
        load_clip("RN50", None)


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("gpu", 0, r"model.device must be auto, cpu, cuda or cuda:<n>; got 'gpu'"),
        ("meta", 0, r"model.device must be auto, cpu, cuda or cuda:<n>; got 'meta'"),
        ("cuda", 0, r"model.device is 'cuda', but this torch \(.*\) sees no usable CUDA device"),
        ("cuda:3", 2, r"model.device is 'cuda:3', but only 2 CUDA device\(s\) are there"),
    ],
)
def test_devices_that_are_not_there_are_refused(device, count, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=message):
        load_clip("glyph", device=device)


def test_a_word_with_the_number_of_the_padding_counts():
    """CLIP's tokenizer pads with 0, which is "!" inside a word: cut as padding, the end of the text would go."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert tokenizer.encode("!?#!$").count(0) == 2
    torch.manual_seed(0)
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
    made = Backbone(open_clip.CLIP(16, vision, text), tokenizer, "made", None)
    for odd in ("!?#!$", "yahoo! !$!"):
        tokens = made.tokenize([odd])
        assert tokens[0, -1] == 49407 and tokens.shape[1] == len(tokenizer.encode(odd)) + 2
        whole = made.clip.encode_text(tokenizer([odd], context_length=20))
        torch.testing.assert_close(made.encode_text(tokens), whole, rtol=1e-5, atol=1e-5)
