"""TSGR: worked numbers, gradients, invariances."""

import math

import pytest
import torch

from segp_ext.method.losses import text_geometry_loss, text_neighbours


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_neighbours_are_nearest_first_and_never_the_class_itself():
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0, 90.0], dtype=torch.float64))
    reference = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [3.0], [0.5], [2.0]])
    assert text_neighbours(reference, range(2, 4), 2).tolist() == [[1, 0], [2, 1]]
    assert text_neighbours(reference, range(0, 4), 10).shape == (4, 3)


def test_one_neighbour_gives_zero():
    reference = draw(3, 5)
    neighbours = text_neighbours(reference, range(1, 3), 1)
    assert text_geometry_loss(draw(3, 5, seed=1), reference, range(1, 3), neighbours, 0.05).item() == 0


def test_no_neighbour_gives_zero():
    reference = draw(1, 5)
    assert (
        text_geometry_loss(
            draw(1, 5, seed=1), reference, range(0, 1), text_neighbours(reference, range(0, 1), 10), 0.05
        )
        == 0
    )


def test_two_neighbours_by_hand():
    # One new class (index 2) with orthogonal neighbours. Reference cosines 1/sqrt2 each: (1/2, 1/2). Model: cosines .8 and .6 at
    # temperature .2 / ln 2: logits differ by ln 2, so (2/3, 1/3).
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 3.0]], dtype=torch.float64)
    loss = text_geometry_loss(text, reference, range(2, 3), torch.tensor([[0, 1]]), 0.2 / math.log(2))
    assert loss.item() == pytest.approx(0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3)))


def test_text_geometry_is_zero_at_the_reference_and_ignores_norms():
    reference = draw(7, 6)
    neighbours = text_neighbours(reference, range(3, 7), 4)
    scaled = reference * torch.rand(7, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64).add(0.5)
    assert text_geometry_loss(scaled, reference, range(3, 7), neighbours, 0.05).item() == pytest.approx(0, abs=1e-12)


def test_gradients():
    reference, text = draw(5, 4), draw(5, 4, seed=1).requires_grad_()
    neighbours = text_neighbours(reference, range(2, 5), 3)
    assert torch.autograd.gradcheck(lambda t: text_geometry_loss(t, reference, range(2, 5), neighbours, 0.5), (text,))
