"""Trains a small CLIP from scratch on Tiny-ImageNet at 32 pixels: `python -m evidence.pretrain --data DIR --names FILE --out MODEL`.

The natural-image scene (`evidence.scene`) starts from this model, where no real CLIP can be had. The model knows 200 names in photographs,
and none of the looks of the scene's tasks. It never sees the last HELD_OUT training images of every class; the scene trains on them.

At first the image tower learns alone, against one free vector per class. In the last epochs both towers also learn from captions, which are
templates around a class's names; half the time around the commonest one. In the same time this gets further than captions from the start.

The command stops after `--minutes` and continues when called again, until `--epochs` are done. It writes MODEL/open_clip_config.json and
the weights; `--model.name local-dir:MODEL` loads both. It also writes MODEL/pretrain.json: the settings, the losses, and the zero-shot
accuracy on two sets of other images. "scene" are the images held out for the scene's training; "val" are the validation images.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from segp_ext.storage.sealed import write_atomically

HELD_OUT = 150
"""Number of training images per class that are kept for the scene: the last ones by name."""
CONFIG = {
    "embed_dim": 128,
    "custom_text": True,
    "vision_cfg": {
        "timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear", "image_size": 32,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}  # fmt: skip
TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "a small photo of a {}.", "a blurry photo of a {}.", "an image of a {}.", "a {}.",
    "a photo of the {}.", "a close-up of a {}.", "a photo of one {}.", "a cropped photo of a {}.",
)  # fmt: skip


def images(data: Path, wnids: list[str], part: str) -> tuple[Tensor, Tensor]:
    """Reads one part of Tiny-ImageNet.

    Args:
        data: its folder.
        wnids: the classes, by label.
        part: "train" (for pre-training), "scene" (held out of "train") or "val".

    Returns:
        Pixels uint8 `[N, 3, 32, 32]` and labels int64 `[N]`.
    """
    if part == "val":
        rows = [line.split("\t")[:2] for line in (data / "val/val_annotations.txt").read_text().splitlines()]
        listed = [(data / "val/images" / name, wnids.index(wnid)) for name, wnid in rows if wnid in wnids]
    else:
        listed = []
        for label, wnid in enumerate(wnids):
            found = sorted((data / "train" / wnid / "images").iterdir())
            listed += [(path, label) for path in (found[:-HELD_OUT] if part == "train" else found[-HELD_OUT:])]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in tqdm(listed, f"reading {part}")])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([label for _, label in listed])


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts, zooms and mirrors images at random, and changes their brightness and contrast.

    Takes uint8 `[B, 3, 32, 32]`, and returns floats in [0, 1] of the same shape.
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    zoom, mirror = uniform(0.65, 1.0, 1), (uniform(0, 1, 1) < 0.5).float() * 2 - 1
    shift = (1 - zoom) * uniform(-1, 1, 2) + uniform(-0.1, 0.1, 2)
    aspect = uniform(0.85, 1.18, 1).sqrt()
    zero = torch.zeros(count, 1)
    rows = torch.cat([zoom * mirror * aspect, zero, shift[:, :1], zero, zoom / aspect, shift[:, 1:]], dim=1).view(
        -1, 2, 3
    )
    grid = F.affine_grid(rows, [count, 3, 32, 32], align_corners=False)
    x = F.grid_sample(pixels.float() / 255, grid, padding_mode="reflection", align_corners=False)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * uniform(0.7, 1.3, 1, 1, 1) + mean + uniform(-0.15, 0.15, 1, 1, 1)).clamp(0, 1)


CAPTIONED = 0.5
"""Share of the epochs, the last ones, that learn from captions."""
EVERY = 2
"""Number of steps from one with captions to the next, as captions of 200 classes cost half as much time as 128 small images."""
MIXED = 0.3
"""Both parameters of the Beta distribution that draws the shares of two mixed images (mixup, arXiv 1710.09412)."""


class Captions:
    """Token ids of all captions of all classes.

    Args:
        names: names of each class, the commonest first.
        tokenizer: open_clip's tokenizer.
    """

    def __init__(self, names: list[list[str]], tokenizer: open_clip.tokenizer.SimpleTokenizer) -> None:
        self.tokens = [
            torch.stack([tokenizer([template.format(name) for template in TEMPLATES]) for name in own]) for own in names
        ]

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draws one caption for each class, int64 `[C, L]`: half the time with the commonest name, else with any of its names."""
        count = len(self.tokens)
        common = torch.rand(count, generator=generator) < 0.5
        which, template = torch.randint(2**31, (2, count), generator=generator)
        rows = []
        for c, tokens in enumerate(self.tokens):
            name = 0 if common[c] else int(which[c]) % len(tokens)
            rows.append(tokens[name, int(template[c]) % len(TEMPLATES)])
        return torch.stack(rows)


def build() -> torch.nn.Module:
    """Makes the model with random weights."""
    settings = {key: value for key, value in CONFIG.items() if key != "custom_text"}
    return open_clip.CustomTextCLIP(**settings, cast_dtype=torch.float32)


def tokenizer() -> open_clip.tokenizer.SimpleTokenizer:
    """Makes the model's tokenizer."""
    return open_clip.tokenizer.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])  # type: ignore[index]


class Pretraining:
    """The model in training, with everything that is needed to continue.

    Args:
        options: options of the command line.
        steps: number of optimiser steps in all epochs together.
    """

    def __init__(self, options: argparse.Namespace, steps: int) -> None:
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        self.model = build().to(self.device, memory_format=torch.channels_last)
        self.vectors = torch.nn.Parameter(torch.randn(200, CONFIG["embed_dim"], device=self.device))  # type: ignore[call-overload]
        plain = [*(p for p in self.model.parameters() if p.ndim < 2), self.vectors]
        embedding = self.model.text.token_embedding.weight
        decayed = [p for p in self.model.parameters() if p.ndim >= 2 and p is not embedding]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": [*plain, embedding], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, options.learning_rate, fused=True)
        warm_up = min(500, steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda s: min(1, (s + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(s / steps, 1)))
        )
        self.generator = torch.Generator().manual_seed(options.seed)
        self.options = {name: getattr(options, name) for name in ("epochs", "seed", "batch_size", "learning_rate")}
        self.options["names"] = hashlib.sha256(options.names.read_bytes()).hexdigest()
        self.epochs, self.epoch, self.seconds = options.epochs, 0, 0.0
        self.losses: list[float] = []

    def state(self) -> dict[str, object]:
        """Returns the state that `restore` takes."""
        parts = (self.model, self.optimizer, self.schedule)
        return {
            "options": self.options,
            "parts": [part.state_dict() for part in parts],
            "vectors": self.vectors.detach(),
            "generator": self.generator.get_state(), "epoch": self.epoch, "seconds": self.seconds, "losses": self.losses,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError: if an option differs from the one at that time; the message names it.
        """
        for name, value in self.options.items():
            if state["options"][name] != value:
                raise ValueError(f"it was begun with --{name} {state['options'][name]}; got {value}")
        for part, kept in zip((self.model, self.optimizer, self.schedule), state["parts"], strict=True):
            part.load_state_dict(kept)
        self.vectors.data.copy_(state["vectors"])
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds, self.losses = state["epoch"], state["seconds"], state["losses"]

    def encode(self, pixels: Tensor) -> Tensor:
        """Encodes images, float `[B, 3, 32, 32]` in [0, 1], as normalised embeddings `[B, 128]`."""
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in
                     (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))  # fmt: skip
        x = ((pixels.to(self.device) - mean) / std).contiguous(memory_format=torch.channels_last)
        return self.model.encode_image(x, normalize=True)

    def train(self, pixels: Tensor, labels: Tensor, captions: Captions, batch: int) -> None:
        """Trains one epoch.

        Args:
            pixels: all training images, uint8 `[N, 3, 32, 32]`.
            labels: their classes, int64 `[N]`.
            captions: captions of the classes.
            batch: images per step.
        """
        self.model.train()
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(pixels), generator=self.generator)
        draws = np.random.RandomState(int(order[0]))
        batches = order[: len(order) // batch * batch].view(-1, batch)
        for number, chosen in enumerate(bar := tqdm(batches, f"epoch {self.epoch + 1}", mininterval=5)):
            target = labels[chosen].to(self.device)
            share = float(draws.beta(MIXED, MIXED))
            captioned = self.epoch >= (1 - CAPTIONED) * self.epochs and number % EVERY == 0
            x = augmented(pixels[chosen], self.generator)
            x = share * x + (1 - share) * x.flip(0)
            with torch.autocast(self.device.type, torch.bfloat16):
                image = self.encode(x)
                if captioned:
                    text = self.model.encode_text(captions.draw(self.generator).to(self.device), normalize=True)
            scaled = self.model.logit_scale.exp() * image.float()

            of_two = ((share, target), (1 - share, target.flip(0)))
            scores = [scaled @ F.normalize(self.vectors, dim=-1).T, *([scaled @ text.float().T] if captioned else [])]
            loss = torch.stack([weight * F.cross_entropy(s, t) for s in scores for weight, t in of_two]).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, math.log(100))
            total += loss.item()
            bar.set_postfix(loss=f"{total / (number + 1):.3f}", refresh=False)
        self.epoch += 1
        self.seconds += time.perf_counter() - start
        self.losses.append(total / len(batches))

    @torch.no_grad()
    def accuracies(self, pixels: Tensor, labels: Tensor, names: list[str]) -> list[float]:
        """Computes the zero-shot accuracy of each class, over all classes, with the first template.

        Args:
            pixels: images, uint8 `[N, 3, 32, 32]`.
            labels: their classes, int64 `[N]`.
            names: one name for each class.
        """
        self.model.eval()
        tokens = tokenizer()([TEMPLATES[0].format(name) for name in names]).to(self.device)
        text = self.model.encode_text(tokens, normalize=True)
        found = torch.cat(
            [(self.encode(part.float() / 255) @ text.T).argmax(dim=1).cpu() for part in pixels.split(500)]
        )
        counts = torch.zeros(2, len(names)).index_add_(1, labels, torch.stack([found == labels, labels >= 0]).float())
        return (counts[0] / counts[1]).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="Tiny-ImageNet: train/<wnid>/images/, val/val_annotations.txt"
    )
    parser.add_argument("--names", type=Path, required=True, help="JSON: wnid to names, the commonest first")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument("--epochs", type=int, default=36, help="epochs in all, over all calls")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop at the end of the epoch in which this time is over"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--batch_size", type=int, default=128, help="images per step")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    begun = time.perf_counter()
    names = json.loads(options.names.read_text())
    wnids = sorted(names)
    pixels, labels = images(options.data, wnids, "train")
    captions = Captions([names[wnid] for wnid in wnids], tokenizer())
    training = Pretraining(options, len(pixels) // options.batch_size * options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "training.pt"
    if kept.is_file():
        try:
            training.restore(torch.load(kept, weights_only=True, map_location=options.device))
        except ValueError as error:
            parser.error(f"cannot continue from {kept}: {error}. Give the same value, or another --out")
    while training.epoch < options.epochs and time.perf_counter() - begun < 60 * options.minutes:
        training.train(pixels, labels, captions, options.batch_size)
        aside = kept.with_suffix(".new")
        torch.save(training.state(), aside)
        aside.replace(kept)
    common = [names[wnid][0] for wnid in wnids]
    known = {part: training.accuracies(*images(options.data, wnids, part), common) for part in ("scene", "val")}
    report = {
        "epochs": training.epoch, "of": options.epochs, "minutes": round(training.seconds / 60, 1), "device": options.device,
        "threads": options.threads, "seed": options.seed, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
        "losses": [round(loss, 3) for loss in training.losses],
        "logit_scale": round(float(training.model.logit_scale.detach().exp()), 2),
        "zero-shot over all classes": {part: round(statistics.fmean(values), 4) for part, values in known.items()},
        "zero-shot by class, scene": {wnid: round(value, 4) for wnid, value in zip(wnids, known["scene"], strict=True)},
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "open_clip_torch", "timm")},
    }  # fmt: skip
    weights = {name: tensor.contiguous().cpu() for name, tensor in training.model.state_dict().items()}
    facts = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    for name, content in (
        ("open_clip_model.safetensors", save(weights)),
        ("open_clip_config.json", json.dumps({"model_cfg": CONFIG, "preprocess_cfg": facts}, indent=1).encode()),
        ("pretrain.json", json.dumps(report, indent=1).encode()),
    ):
        write_atomically(options.out / name, content)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
