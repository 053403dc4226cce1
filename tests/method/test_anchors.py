"""Seed selection and anchors."""

import pytest
import torch
import torch.nn.functional as F
from made import images_of, made_images, pixels_of

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import AnchorsConfig
from segp_ext.method.anchors import Anchors, check_folder, make_anchors
from segp_ext.method.sources import Dpgd, Teacher, VisualPgd, find_source, select_seeds
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.timing import Timer


def unit_rows(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_file_that_finds_no_room_is_named_and_leaves_nothing(tmp_path):
    shape = torch.Size((3, 224, 224))
    with pytest.raises(
        OSError, match=r"no room for 61\d{4}\.\d\d GB of anchors in .*name another folder as anchors.folder"
    ):
        Anchors(10**9, shape, (512, 768), torch.device("cpu"), torch.float32, tmp_path / "anchors", Processes())
    assert not list(tmp_path.iterdir())
    made = Anchors(10, shape, (512, 768), torch.device("cpu"), torch.float32, tmp_path / "anchors", Processes())
    assert made.mapped and made.after.shape == (10, 768) and not list(tmp_path.iterdir())


def test_a_folder_for_anchors_is_looked_at_before_anything_is_learnt(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(NotADirectoryError, match=f"anchors.folder must be a folder .*got '{folder}'"):
            check_folder(AnchorsConfig(folder=str(folder)))


@pytest.mark.parametrize("batch", [1, 7, 50])
@pytest.mark.parametrize("count", [1, 5, 60])
def test_streamed_seeds_are_those_of_the_whole_matrix(batch, count):
    embedding, text = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), unit_rows(6, 8, seed=1)
    batches = ((i, embedding[i]) for i in torch.arange(50).split(batch))
    expected = (text @ F.normalize(embedding, dim=-1).T).topk(min(count, 50), dim=1).indices
    assert torch.equal(select_seeds(batches, text, count), expected)


@pytest.fixture
def scene(backbone):
    images = images_of(made_images(3, 6), backbone)
    with torch.no_grad():
        text = backbone.encode_text(backbone.tokenize(["red", "green"]))
        prototypes = backbone.encode_image(backbone.to_unit(pixels_of(images, [0, 10])))[1]
    return backbone, images, text, prototypes


def anchors_of(scene, **settings):
    backbone, images, text, prototypes = scene
    config = AnchorsConfig(**{"step_size": 0.02, "epsilon": 0.07, "seeds_per_class": 4, "steps": 4, **settings})
    with backbone.merged():
        generator, timer = torch.Generator().manual_seed(0), Timer(backbone.stopwatch, backbone.device)
        source, teacher = find_source(config.kind)(config), Teacher(backbone, text, prototypes)
        return make_anchors(source, teacher, images, 8, generator, Processes(), timer)


@pytest.mark.parametrize("kind", ["dpgd", "text", "visual", "seeds", "noise"])
def test_anchors_stay_within_their_bounds(scene, kind):
    backbone, images, text, _ = scene
    anchors = anchors_of(scene, kind=kind)
    assert len(anchors) == 2 * 4 and anchors.pixels.dtype == torch.float32
    with torch.no_grad(), backbone.merged():
        scored = ((i, backbone.encode_image(backbone.to_unit(p))[0]) for i, p in images.read(images.batches(8)))
        seeds = backbone.to_unit(pixels_of(images, select_seeds(scored, text, 4).flatten()))
        assert torch.equal(backbone.encode_image(anchors.pixels)[1], anchors.feature)
    moved = (anchors.pixels - seeds).abs().max().item()
    assert moved <= 0.07 + 1e-6 and anchors.pixels.min() >= 0 and anchors.pixels.max() <= 1
    assert moved == 0 if kind == "seeds" else moved > 0.02


def losses(scene, anchors):
    backbone, _, text, prototypes = scene
    target = torch.arange(2).repeat_interleave(4)
    logits = backbone.logit_scale * F.normalize(anchors.embedding, dim=-1) @ F.normalize(text, dim=-1).T
    visual = 1 - F.cosine_similarity(anchors.feature, prototypes[target], dim=-1)
    return F.cross_entropy(logits, target).item(), visual.mean().item()


def test_each_kind_lowers_the_loss_it_is_named_after(scene):
    seeds, both, text, visual = (losses(scene, anchors_of(scene, kind=k)) for k in ("seeds", "dpgd", "text", "visual"))
    assert text[0] < seeds[0] and visual[1] < seeds[1]
    assert sum(both) < sum(seeds)
    assert text[0] <= both[0] and visual[1] <= both[1]


def test_a_path_does_not_depend_on_its_batch(scene):
    whole, split = anchors_of(scene, batch_size=8), anchors_of(scene, batch_size=3)
    # sign steps can flip where a gradient is zero to rounding; none may do more than that
    different = ((whole.pixels - split.pixels).abs() > 1e-6).float().mean().item()
    assert different < 1e-3


def test_no_gradient_reaches_the_teacher(scene):
    backbone = scene[0]
    anchors_of(scene)
    assert all(p.grad is None for p in backbone.parameters())


def test_new_images(scene):
    anchors = anchors_of(scene, kind="new-images")
    assert anchors.pixels is None and len(anchors) == 18


def test_zero_steps_leave_the_seeds(scene):
    backbone, images, text, prototypes = scene
    seed = backbone.to_unit(pixels_of(images, range(3)))
    source = Dpgd(AnchorsConfig(steps=0))
    assert torch.equal(
        source.move(Teacher(backbone, text, prototypes), seed, torch.zeros(3, dtype=torch.int64), None), seed
    )


def test_small_gradients_do_not_vanish_in_half_precision():
    """Near their prototypes, images have gradients below float16's smallest number unless the loss is scaled up before it goes back."""
    backbone = load_clip("glyph", precision="fp16")
    draw = torch.Generator().manual_seed(1)
    seed = torch.rand(16, 3, 16, 16, generator=draw)
    with torch.no_grad():
        near = backbone.encode_image(seed + 0.001 * torch.randn(seed.shape, generator=draw))[1]
        text = backbone.encode_text(backbone.tokenize(["0"])).expand(16, -1)
    source = VisualPgd(AnchorsConfig(kind="visual", steps=1, step_size=0.01, epsilon=0.05))
    moved = source.move(Teacher(backbone, text, near), seed, torch.arange(16), None) != seed
    assert moved.all()
