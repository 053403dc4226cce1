"""Trains the built-in "glyph" CLIP from scratch on rendered digits and letters: `python scripts/pretrain_glyph.py`.

Glyphs are rendered once from the fonts that matplotlib ships. In every batch they are bent, thickened, shrunk and blurred anew, so that
printed shapes look handwritten. The model trains on no handwriting. As a measure, the script prints the zero-shot accuracy on the
*training* part of scikit-learn's digits; it never reads their test part. It writes segp_ext/clip/assets/glyph.safetensors (fp16) and
glyph.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import time
from pathlib import Path

import matplotlib
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from segp_ext.clip import glyph
from segp_ext.clip.backbone import Backbone
from segp_ext.data.digits import digits
from segp_ext.storage.sealed import write_atomically

CANVAS = 48
TRAINING_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
)
UNSEEN_FONTS = ("cmtt10",)


def render(fonts: tuple[str, ...]) -> Tensor:
    """Renders masks of all glyphs, float `[glyphs, fonts, CANVAS, CANVAS]` in [0, 1].

    Each glyph is scaled to fill the canvas up to a margin of 5 pixels.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    masks = np.zeros((len(glyph.GLYPHS), len(fonts), CANVAS, CANVAS), np.uint8)
    for column, name in enumerate(fonts):
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), 72)
        for row, character in enumerate(glyph.GLYPHS):
            drawn = Image.new("L", (160, 160))
            ImageDraw.Draw(drawn).text((80, 80), character, fill=255, font=font, anchor="mm")
            drawn = drawn.crop(drawn.getbbox())
            scale = (CANVAS - 10) / max(drawn.size)
            drawn = drawn.resize([max(1, round(side * scale)) for side in drawn.size], Image.Resampling.LANCZOS)
            left, top = ((CANVAS - side) // 2 for side in drawn.size)
            masks[row, column, top : top + drawn.height, left : left + drawn.width] = np.asarray(drawn)
    return torch.from_numpy(masks).float() / 255


class Augmentation:
    """Turns masks `[B, CANVAS, CANVAS]` into random pictures `[B, 3, 16, 16]` in [0, 1].

    Args:
        generator: source of all random numbers.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """Draws `count` numbers from `low` to `high`, `[count, 1, 1, 1]`."""
        return torch.rand(count, 1, 1, 1, generator=self.generator) * (high - low) + low

    def chance(self, count: int, probability: float) -> Tensor:
        """Draws `count` numbers that are 1 with this probability, else 0, `[count, 1, 1, 1]`."""
        return (self.uniform(count, 0, 1) < probability).float()

    def pick(self, choices: list[int]) -> int:
        """Draws one of the choices."""
        return choices[int(torch.randint(len(choices), (1,), generator=self.generator))]

    def __call__(self, masks: Tensor) -> Tensor:
        count, x = len(masks), masks.unsqueeze(1)
        pen = self.pick([0, 1, 2, 3])
        if pen == 1:  # thin
            x = 0.4 * x - 0.6 * F.max_pool2d(-x, 3, 1, 1)
        elif pen > 1:  # thick, thicker
            x = F.max_pool2d(x, 2 * pen - 1, 1, pen - 1)
        x = F.grid_sample(x, self._bent_grid(count), align_corners=False)
        resolution = self.pick([8, 8, 8, 10, 12, 16])
        x = F.interpolate(x, (resolution, resolution), mode="area")
        x = x * (1 + self.chance(count, 0.5) * self.uniform(count, 0, 0.8))
        blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        x = torch.lerp(x, blurred, 0.5 * self.chance(count, 0.3)).clamp(0, 1)
        if resolution != 16:
            x = F.interpolate(x, (16, 16), mode="bicubic", align_corners=False).clamp(0, 1)
        ink, paper = self.uniform(count, 0.6, 1), self.uniform(count, 0, 0.3) * self.chance(count, 0.3)
        x = paper + (ink - paper) * x
        inverted = self.chance(count, 0.15)
        x = inverted * (1 - x) + (1 - inverted) * x
        x = x + torch.randn(x.shape, generator=self.generator) * self.uniform(count, 0, 0.08)
        return x.clamp(0, 1).expand(-1, 3, -1, -1)

    def _bent_grid(self, count: int) -> Tensor:
        """Makes sampling grids `[B, 32, 32, 2]`, each an affine map plus a smooth displacement, both random."""
        angle, shear = self.uniform(count, -0.35, 0.35), self.uniform(count, -0.35, 0.35)
        wide, high = self.uniform(count, 0.75, 1.45), self.uniform(count, 0.8, 1.25)
        right, down = self.uniform(count, -0.15, 0.15), self.uniform(count, -0.15, 0.15)
        cos, sin = angle.cos(), angle.sin()
        affine = torch.cat([cos * wide, shear - sin * high, right, sin * wide, cos * high, down], dim=2).view(
            count, 2, 3
        )
        grid = F.affine_grid(affine, [count, 1, 32, 32], align_corners=False)
        coarse = torch.randn(count, 2, 4, 4, generator=self.generator) * self.uniform(count, 0, 0.16)
        bend = F.interpolate(coarse, (32, 32), mode="bicubic", align_corners=False)
        return grid + bend.permute(0, 2, 3, 1)


def contrastive_loss(image: Tensor, text: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Computes the cross-entropy from images to captions over all classes, plus 0.15 times the one from captions to images.

    In the second term a caption has all images of its class as positives.

    Args:
        image: normalised embeddings of the images, `[B, De]`.
        text: normalised embeddings of the captions, one for each class, `[C, De]`.
        target: class of each image, int64 `[B]`.
        scale: factor of the similarities, `[]`.
    """
    logits = scale * image @ text.T
    positive = F.one_hot(target, len(text)).T.float()  # [C, B]
    count = positive.sum(dim=1)
    per_caption = -(logits.T.log_softmax(dim=1) * positive).sum(dim=1) / count.clamp(min=1)
    return F.cross_entropy(logits, target) + 0.15 * per_caption[count > 0].mean()


@torch.no_grad()
def accuracy(backbone: Backbone, pixels: Tensor, target: Tensor, names: tuple[str, ...], template: str) -> float:
    """Computes the zero-shot accuracy on pixels `[N, 3, 16, 16]` in [0, 1] over the classes `names`.

    Args:
        backbone: the model.
        pixels: the images.
        target: index in `names` of each image's class, int64 `[N]`.
        names: the classes' glyphs.
        template: the prompt, with `{}` for the name.
    """
    text = backbone.encode_text(backbone.tokenize([template.format(glyph.caption_name(name)) for name in names]))
    embedding, _ = backbone.encode_image(pixels)
    predicted = (F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T).argmax(dim=1)
    return float((predicted == target).float().mean())


def scores(masks: Tensor) -> dict[str, float]:
    """Computes the saved model's zero-shot accuracies on real digits (training part) and on each group of rendered glyphs.

    Args:
        masks: result of `render` for a font that the model was not trained on.
    """
    clip, tokenizer = glyph.build()
    backbone = Backbone(clip, tokenizer, "glyph", None)
    collection = digits()
    index = [(i, c) for c in range(10) for i in collection.train[c]]
    real = torch.stack([backbone.transform(Image.fromarray(collection.opener(i)[0]).convert("RGB")) for i, _ in index])
    target = torch.tensor([c for _, c in index])
    result = {
        f"digits, training part, '{template}'": accuracy(backbone, real / 255, target, glyph.DIGITS, template)
        for template in ("a photo of the digit {}.", "a good photo of a {}.", "a photo of a {}.")
    }
    augment = Augmentation(torch.Generator().manual_seed(1))
    for group, names in (("digits", glyph.DIGITS), ("capitals", glyph.CAPITALS), ("small letters", glyph.SMALL)):
        rows = torch.tensor([glyph.GLYPHS.index(name) for name in names]).repeat(40)
        pictures = torch.cat([augment(masks[part, 0]) for part in rows.split(64)])
        target = torch.arange(len(names)).repeat(40)
        result[f"{group} in a font not trained on"] = accuracy(backbone, pictures, target, names, "a photo of a {}.")
    return {name: round(value, 4) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps")
    parser.add_argument("--batch_size", type=int, default=128, help="images per step")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)

    masks, augment = render(TRAINING_FONTS), Augmentation(generator)
    model, tokenizer = glyph.build(pretrained=False)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    captions = [
        tokenizer([template.format(glyph.caption_name(g)) for g in glyph.GLYPHS]) for template in glyph.TEMPLATES
    ]
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, weight_decay=0.05)
    warm_up = min(100, options.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * s / options.steps))
    )
    start = time.perf_counter()
    bar = tqdm(range(options.steps), "pre-training")
    for step in bar:
        target = torch.randint(len(glyph.GLYPHS), (options.batch_size,), generator=generator)
        font = torch.randint(len(TRAINING_FONTS), (options.batch_size,), generator=generator)
        pictures = augment(masks[target, font])
        image = model.encode_image((pictures - mean) / std, normalize=True)
        text = model.encode_text(captions[step % len(captions)], normalize=True)
        loss = contrastive_loss(image, text, target, model.logit_scale.exp())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.2f}", scale=f"{model.logit_scale.exp().item():.1f}", refresh=False)
    minutes = (time.perf_counter() - start) / 60

    state = model.state_dict()
    state[glyph.EMBEDDING] = glyph.without_unknown_words(state[glyph.EMBEDDING], tokenizer)
    glyph.WEIGHTS.parent.mkdir(exist_ok=True)
    write_atomically(glyph.WEIGHTS, save({name: tensor.half().contiguous() for name, tensor in state.items()}))
    report = {
        "command": f"python scripts/pretrain_glyph.py --seed {options.seed} --steps {options.steps}",
        "seed": options.seed,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "minutes": round(minutes, 1),
        "threads": options.threads,
        "logit_scale": round(model.logit_scale.exp().item(), 2),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "zero_shot_accuracy": scores(render(UNSEEN_FONTS)),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "open_clip_torch", "matplotlib")},
    }
    glyph.WEIGHTS.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
