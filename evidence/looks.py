"""Measures which looks leave something to learn: `python -m evidence.looks --data DIR --names FILE --model MODEL --out FILE.md`.

The looks of `evidence.scene` were chosen by this search. It draws classes from those that the model knows best, and changes all their
images by each look in turn. It then measures two accuracies: of the image tower with all weights trained (against the frozen text vectors),
and of a linear probe on the tower's frozen features. The first minus the second is what training can gain. A look without gain tells no
methods apart. All images are the scene's training images: three quarters train, the others are scored.
"""

from __future__ import annotations

import argparse
import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from tqdm import tqdm

import segp_ext
from evidence.pretrain import HELD_OUT, TEMPLATES, images
from evidence.tables import write_table
from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.method.heads import LinearProbe
from segp_ext.runtime.processes import Processes


def _sketch(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    down, right = np.gradient(grey)
    return Image.fromarray((255 - np.clip(3 * np.hypot(down, right), 0, 255)).astype(np.uint8)).convert("RGB")


def _thermal(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    steps = np.array([[0.0, 0, 0.4], [0.6, 0, 0.6], [1, 0.4, 0], [1, 1, 0.6]])
    place = grey * (len(steps) - 1)
    low = np.minimum(place.astype(int), len(steps) - 2)
    colour = steps[low[..., 0]] + (place - low) * (steps[low[..., 0] + 1] - steps[low[..., 0]])
    return Image.fromarray((255 * colour).astype(np.uint8))


def _quarters(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    half = len(pixels) // 2
    return Image.fromarray(np.roll(pixels, (half, half), axis=(0, 1)))


def _with_mask(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Inverts the colours where the mask, bool `[H, W]`, is true."""
    pixels = np.asarray(image)
    return Image.fromarray(np.where(mask[..., None], 255 - pixels, pixels))


def _striped(image: Image.Image) -> Image.Image:
    rows = np.arange(image.height)[:, None] // 2 % 2 == 1
    return _with_mask(image, np.broadcast_to(rows, (image.height, image.width)))


def _checked(image: Image.Image) -> Image.Image:
    rows, columns = np.indices((image.height, image.width)) // 2
    return _with_mask(image, (rows + columns) % 2 == 1)


def _draws(image: Image.Image) -> np.random.RandomState:
    """Makes a generator that is seeded by the image's pixels, so that an image looks the same every time."""
    return np.random.RandomState(zlib.crc32(image.tobytes()))


def _noisy(image: Image.Image) -> Image.Image:
    noise = _draws(image).normal(0, 60, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _peppered(image: Image.Image) -> Image.Image:
    draw = _draws(image).uniform(0, 1, (image.height, image.width, 1))
    return Image.fromarray(np.where(draw < 0.2, 0, np.where(draw > 0.8, 255, np.asarray(image))).astype(np.uint8))


def _washed(image: Image.Image, contrast: float, colour: tuple[int, int, int], noise: float = 0) -> Image.Image:
    pixels = contrast * np.asarray(image, dtype=np.float32) + np.array(colour)
    pixels += noise * _draws(image).normal(0, 1, (image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _wavy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    shifts = np.round(4 * np.sin(np.arange(len(pixels)) * 2 * np.pi / 8)).astype(int)
    return Image.fromarray(np.stack([np.roll(row, shift, axis=0) for row, shift in zip(pixels, shifts, strict=True)]))


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "thermal": _thermal,
    "checked": _checked,
    "noisy": _noisy,
    "peppered": _peppered,
    "faint": lambda image: Image.fromarray((np.asarray(image) // 10 + 200).astype(np.uint8)),
    "solarised": lambda image: _with_mask(image, np.asarray(image.convert("L")) > 100),
}
"""Looks of the scene, by name."""
OTHERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "inverted": lambda image: Image.fromarray(255 - np.asarray(image)),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "sketch": _sketch,
    "quarters exchanged": _quarters,
    "upside down and swapped": lambda image: Image.fromarray(np.asarray(image)[::-1, :, ::-1].copy()),
    "two tones": lambda image: Image.fromarray(np.where(np.asarray(image) < 110, 20, 235).astype(np.uint8)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "striped": _striped,
    "wavy": _wavy,
    "faint negative": lambda image: _washed(image, -0.1, (60, 60, 60)),
    "mist": lambda image: _washed(image, 0.12, (190, 60, 120)),
    "dusk": lambda image: _washed(image, 0.12, (5, 5, 25), noise=4),
}
"""Looks that were tried and not taken, by name."""


def known_classes(model: Path, wnids: list[str], known: int) -> list[int]:
    """Returns the labels, in order, of the `known` classes with the highest zero-shot accuracy on the scene's training images.

    Args:
        model: folder that `evidence.pretrain` wrote, with the accuracies.
        wnids: the classes, by label.
        known: how many classes to return.
    """
    accuracy = json.loads((model / "pretrain.json").read_text())["zero-shot by class, scene"]
    return sorted(sorted(range(len(wnids)), key=lambda label: -accuracy[wnids[label]])[:known])


class Trial:
    """Measures what a model can learn about images of one look.

    Args:
        backbone: the model; every call leaves it as it was.
        names: names of the classes, by label.
        options: options of the command line.
    """

    def __init__(self, backbone: Backbone, names: list[str], options: argparse.Namespace) -> None:
        self.backbone, self.options = backbone, options
        with torch.no_grad():
            tokens = backbone.tokenize([TEMPLATES[0].format(name) for name in names])
            self.text = F.normalize(backbone.encode_text(tokens), dim=-1)

    def _encoded(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            parts = [self.backbone.encode_image(self.backbone.to_unit(part)) for part in pixels.split(500)]
        return torch.cat([v for v, _ in parts]), torch.cat([z for _, z in parts])

    def _zero_shot(self, pixels: Tensor, label: Tensor) -> float:
        found = (F.normalize(self._encoded(pixels)[0], dim=-1) @ self.text.T).argmax(dim=1)
        return float((found == label).double().mean())

    def _train(self, pixels: Tensor, label: Tensor) -> None:
        visual = self.backbone.clip.visual.requires_grad_(True)
        generator = torch.Generator().manual_seed(self.options.seed)
        steps = -(-len(label) // self.options.batch_size) * self.options.epochs
        optimizer = torch.optim.AdamW(visual.parameters(), self.options.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(self.options.epochs):
            for chosen in torch.randperm(len(label), generator=generator).split(self.options.batch_size):
                embedding, _ = self.backbone.encode_image(self.backbone.to_unit(pixels[chosen]))
                score = self.backbone.logit_scale * F.normalize(embedding, dim=-1) @ self.text.T
                optimizer.zero_grad()
                F.cross_entropy(score, label[chosen]).backward()
                optimizer.step()
                schedule.step()
        visual.requires_grad_(False)

    def __call__(self, pixels: Tensor, label: Tensor, held: Tensor) -> dict[str, float]:
        """Computes accuracies on held-out images: "zero-shot", "probe", and "all weights", the last two after training on the others.

        Args:
            pixels: images of all classes, uint8 `[N, 3, H, W]`.
            label: their classes, int64 `[N]`.
            held: which images are held out, bool `[N]`.
        """
        label, held = label.to(self.backbone.device), held.to(self.backbone.device)
        pixels = pixels.to(self.backbone.device)
        start = copy.deepcopy(self.backbone.clip.visual.state_dict())
        zero_shot = self._zero_shot(pixels[held], label[held])
        _, feature = self._encoded(pixels)
        probe = LinearProbe(feature.shape[1], feature.device, MethodConfig())
        probe.begin(len(self.text))
        probe.add(feature[~held], label[~held], torch.arange(int((~held).sum())))
        probe.finish(Processes())
        found = probe.scores(feature[held], self.text, 1.0).argmax(dim=1)
        self._train(pixels[~held], label[~held])
        trained = self._zero_shot(pixels[held], label[held])
        self.backbone.clip.visual.load_state_dict(start)
        return {"zero-shot": zero_shot, "probe": float((found == label[held]).double().mean()), "all weights": trained}


def main() -> None:
    parser = argparse.ArgumentParser("python -m evidence.looks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet, as evidence.pretrain takes it")
    parser.add_argument("--names", type=Path, required=True, help="JSON: wnid to names, the commonest first")
    parser.add_argument("--model", type=Path, required=True, help="folder that evidence.pretrain wrote")
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    parser.add_argument(
        "--known", type=int, default=70, help="draw the classes from this many that the model knows best"
    )
    parser.add_argument("--classes", type=int, default=48, help="number of classes to draw")
    parser.add_argument("--seed", type=int, default=101, help="seed of the drawn classes and of training")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of training all weights, for each look")
    parser.add_argument("--batch_size", type=int, default=64, help="images per step of that training")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="its learning rate at the start")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", default="auto", help="torch device; auto takes CUDA where it is usable")
    options = parser.parse_args()
    if options.classes > options.known:
        parser.error(f"--classes must be at most --known, {options.known}; got {options.classes}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    names = json.loads(options.names.read_text())
    wnids = sorted(names)
    known = known_classes(options.model, wnids, options.known)
    chosen = [known[i] for i in np.random.RandomState(options.seed).permutation(len(known))[: options.classes]]
    pixels, labels = images(options.data, wnids, "scene")
    rows = torch.cat([(labels == label).nonzero().flatten() for label in chosen])
    label = torch.arange(len(chosen)).repeat_interleave(HELD_OUT)
    held = torch.arange(len(rows)) % 4 == 3
    clean = [Image.fromarray(row.permute(1, 2, 0).numpy()) for row in pixels[rows]]
    trial = Trial(
        segp_ext.load_clip(f"local-dir:{options.model}", device=options.device, precision="bf16"),
        [names[wnids[label]][0] for label in chosen],
        options,
    )
    found: dict[str, dict[str, float]] = {}
    for name, look in tqdm((LOOKS | OTHERS).items(), "looks"):
        made = np.stack([np.asarray(look(image)) for image in clean])
        found[name] = trial(torch.from_numpy(made).permute(0, 3, 1, 2).contiguous(), label, held)
    by_gain = sorted(found.items(), key=lambda item: item[1]["probe"] - item[1]["all weights"])
    table = [["look", "in the scene", "zero-shot", "probe", "all weights", "gain"]]
    for name, own in by_gain:
        gain = own["all weights"] - own["probe"]
        table.append([name, "yes" if name in LOOKS else "", *(f"{100 * value:.1f}" for value in (*own.values(), gain))])
    write_table(options.out, parser.prog, table)


if __name__ == "__main__":
    main()
