"""The optimiser's path, and the scale of the loss in half precision."""

import math

import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST

from segp_ext.config import MethodConfig, TrainingConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.method.loss_record import LossRecord


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_optimisers_path_is_the_textbooks(optimizer, monkeypatch):
    """Momentum 0.9 or AdamW, a cosine to zero over the task's steps, weight decay: computed anew from the gradients it saw."""
    rate, decay, steps = 0.02, 0.1, 6  # 6 images in batches of 2, two epochs
    config = small_config(
        method="lora", training__optimizer=optimizer, training__learning_rate=rate, training__weight_decay=decay,
        training__epochs=2, training__batch_size=2,
    )  # fmt: skip
    learner = SeGPCL(tiny_backbone(), config)
    seen, add = [], LossRecord.add

    def noted(self, step, terms, gradients, indices):
        seen.append(gradients.clone())
        add(self, step, terms, gradients, indices)

    monkeypatch.setattr(LossRecord, "add", noted)
    learner.learn_task(made_images(3, 2), FIRST)
    assert len(seen) == steps
    weights = torch.zeros_like(seen[0], dtype=torch.float64)  # B starts at zero
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(seen):
        now = rate * (1 + math.cos(math.pi * step / steps)) / 2
        gradient = gradient.double()
        if optimizer == "sgd":
            first = 0.9 * first + gradient + decay * weights
            weights = weights - now * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            unbiased = first / (1 - 0.9 ** (step + 1)), (second / (1 - 0.999 ** (step + 1))).sqrt()
            weights = weights - now * decay * weights - now * unbiased[0] / (unbiased[1] + 1e-8)
    found = torch.cat([p.detach().flatten() for p in learner.backbone.trained_parameters()])
    torch.testing.assert_close(found.double(), weights, rtol=1e-3, atol=1e-6)


def test_half_precision_that_never_takes_a_step_is_an_error(monkeypatch):
    from segp_ext.clip.pretrained import load_clip

    backbone = load_clip("glyph", precision="fp16")
    usual = backbone.backward
    learner = SeGPCL(backbone, MethodConfig(training=TrainingConfig(epochs=2, batch_size=4)))
    images = [(torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8), n % 2) for n in range(8)]
    monkeypatch.setattr(
        "segp_ext.method.losses.classification.classification_loss",
        lambda *_: torch.tensor(torch.nan, requires_grad=True),
    )
    with pytest.raises(FloatingPointError, match="the loss is not finite in task 1, epoch 1, step 1"):
        learner.learn_task(images, ["a", "b"])
    monkeypatch.undo()
    monkeypatch.setattr(backbone, "backward", lambda output, gradient: usual(output, gradient * torch.nan))
    with pytest.raises(
        FloatingPointError, match="overflow half precision at every loss scale down to 256 in task 1, epoch 1"
    ):
        learner.learn_task(images, ["a", "b"])
    assert list(learner.class_names) == []
