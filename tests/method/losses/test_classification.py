"""Classification: worked numbers, gradients, and its classes."""

import math

import pytest
import torch
from made import encoded, images_of, made_images
from method.learners import learnt

from segp_ext.method.losses import classification_loss


def test_classification_by_hand():
    # cosines 1 and 0, scale ln 3: softmax (3/4, 1/4)
    loss = classification_loss(
        torch.tensor([[5.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 7.0]]), torch.tensor([0]), math.log(3)
    )
    assert loss.item() == pytest.approx(-math.log(0.75))


def test_gradients():
    draw = torch.Generator().manual_seed(2)
    embedding, text = (torch.randn(n, 4, generator=draw, dtype=torch.float64).requires_grad_() for n in (3, 5))
    target = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda v, t: classification_loss(v, t, target, 3.0), (embedding, text))


def test_new_classes_only_leaves_old_classes_out_of_the_cross_entropy():
    seen, new = (learnt(method="lora", training__classes=c, training__epochs=6)[0] for c in ("seen", "new"))
    images = images_of(made_images(3, 10), seen.backbone)
    old = [float((m.scores(*encoded(m, images), "text").argmax(1) < 3).float().mean()) for m in (seen, new)]
    assert old[0] < old[1]  # old images are pushed out of old classes only where those stand in the denominator
