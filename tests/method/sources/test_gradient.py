"""ADC's seeds and steps."""

import torch
from made import tiny_backbone

from segp_ext.config import (
    AnchorsConfig,
)
from segp_ext.method.sources import Adc, Teacher, select_seeds


def test_seeds_of_adc_are_the_nearest_to_the_prototype():
    draw = torch.Generator().manual_seed(0)
    feature, prototypes = torch.randn(30, 4, generator=draw), torch.randn(3, 4, generator=draw)
    batches = ((i, feature[i]) for i in torch.arange(30).split(8))
    found = select_seeds(batches, prototypes, 5, by_distance=True)
    assert torch.equal(found, torch.cdist(prototypes, feature).topk(5, largest=False).indices)


def test_steps_of_adc_approach_the_prototype():
    backbone = tiny_backbone()
    draw = torch.Generator().manual_seed(0)
    seed = torch.rand(6, 3, backbone.image_size, backbone.image_size, generator=draw)
    with torch.no_grad():
        goal = backbone.encode_image(torch.rand(seed[:2].shape, generator=draw))[1]
    target = torch.arange(6) % 2
    teacher = Teacher(backbone, torch.zeros(2, backbone.embed_dim), goal)
    source = Adc(AnchorsConfig(kind="adc", steps=3, step_size=0.01))
    moved = source.move(teacher, seed, target, None)
    with torch.no_grad():
        before, after = ((backbone.encode_image(x)[1] - goal[target]).norm(dim=1) for x in (seed, moved))
    assert (after < before).all() and moved.min() >= 0 and moved.max() <= 1
    small = AnchorsConfig(kind="adc", steps=1, step_size=1e-4)
    first = Adc(small).move(teacher, seed, target, None)
    torch.testing.assert_close(
        (first - seed).square().mean(dim=(1, 2, 3)).sqrt(), torch.full((6,), 1e-4), rtol=0.05, atol=0
    )
    alone = source.move(teacher, seed[:1], target[:1], None)
    torch.testing.assert_close(alone, moved[:1], rtol=1e-4, atol=1e-5)
