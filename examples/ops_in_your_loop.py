"""Uses the ops in a training loop of your own, without CLIP and without the learner.

    python examples/ops_in_your_loop.py

A small network learns the digits 0 to 4, then 5 to 9, by cosine to a fixed vector for each class. Twice: without help, and with ACGD
(`geometry_distill`) on anchors, which are new images moved towards old classes (`dual_target_loss`, `dpgd_step_`).
"""

import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from segp_ext import ops

SCALE = 20.0
"""Logit scale s: scores are s·cos."""
OLD, NEW = range(5), range(5, 10)


def network() -> nn.Module:
    """Makes a network: images `[B, 1, 8, 8]` → embeddings `[B, 32]`."""
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 32))


def anchors(teacher: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Moves new images towards old classes in ten signed gradient steps (DPGD), ten images to a class."""
    with torch.no_grad():
        likeness = F.normalize(teacher(images), dim=-1) @ classes[: len(OLD)].T
    seed = images[likeness.topk(10, dim=0).indices.T.flatten()]
    target = torch.arange(len(OLD)).repeat_interleave(10)
    x = seed.clone()
    for _ in range(10):
        pixels = x.clone().requires_grad_()
        embedding = teacher(pixels)
        # The network has one feature, so it stands for both: the projected embedding and the raw feature of CLIP.
        loss = ops.dual_target_loss(
            embedding, embedding, classes[: len(OLD)], classes[: len(OLD)], target, logit_scale=SCALE, visual_weight=0.5
        )
        (gradient,) = torch.autograd.grad(loss.sum(), pixels)
        ops.dpgd_step_(x, gradient, seed, step_size=0.05, epsilon=0.5)  # in place
    return x


def train(
    model: nn.Module, images: Tensor, labels: Tensor, classes: Tensor, teacher: nn.Module | None, steps: int = 150
) -> None:
    """Trains on images of some classes; with a teacher, also keeps its scores of the old classes on anchors."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    kept = None if teacher is None else anchors(teacher, images, classes)
    taught = labels.unique()
    for _ in range(steps):
        pick = torch.randint(len(images), (64,))
        embedding = F.normalize(model(images[pick]), dim=-1)
        loss = F.cross_entropy(SCALE * embedding @ classes[taught].T, torch.searchsorted(taught, labels[pick]))
        if kept is not None and teacher is not None:
            with torch.no_grad():
                before = teacher(kept)
            old = classes[: len(OLD)]
            loss = loss + 5 * ops.geometry_distill(model(kept), old, before, old, logit_scale=SCALE, temperature=2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, classes: Tensor) -> float:
    """Returns the percentage of images whose best class of `classes` is their own."""
    with torch.no_grad():
        return 100 * float((model(images) @ classes.T).argmax(1).eq(labels).float().mean())


def main() -> None:
    """Prints the accuracy on the old digits among themselves, before the new ones are learnt and after."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    classes = F.normalize(torch.randn(10, 32), dim=-1)
    old, new = (torch.isin(labels, torch.tensor(part)) for part in (OLD, NEW))

    teacher = network()
    train(teacher, images[old], labels[old], classes, None)
    before = accuracy(teacher, images[old], labels[old], classes[: len(OLD)])
    print(f"old digits before the new ones: {before:.1f} %")
    for name, guide in (("without help", None), ("with ACGD on anchors", teacher)):
        model = copy.deepcopy(teacher)
        train(model, images[new], labels[new], classes, guide)
        kept = accuracy(model, images[old], labels[old], classes[: len(OLD)])
        learnt = accuracy(model, images[new], labels[new], classes)
        print(f"{name}: old digits {kept:.1f} %, new ones among all ten {learnt:.1f} %")


if __name__ == "__main__":
    main()
