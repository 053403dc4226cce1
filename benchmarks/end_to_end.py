"""Times the phases of a real architecture against their floors: the backbone's own passes over the same images and prompts.

Weights and images are random; that changes no time. Each phase takes turns with its floor:

- anchors: the DPGD loop. Floor: the same number of passes, forward and backward to the pixels, of open_clip's own frozen model without
  adapter.
- training: optimiser steps of the full method. Floor: forward and backward passes of the adapted backbone over the same images, anchors
  and prompts.
- prediction: dual-path scores of a batch. Floor: open_clip's own `encode_image`.

The command also prints how far text embeddings move when prompts are cut to the longest one, and how far resizing on the device differs
from resizing with PIL.

    python -m benchmarks.end_to_end [--model ViT-B-32] [--device cuda --precision bf16 --batch 128] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import segp_ext
from segp_ext.clip import glyph
from segp_ext.config import AnchorsConfig, MethodConfig
from segp_ext.data.decoding import to_pil
from segp_ext.data.images import Images
from segp_ext.data.scenario import LabelledImages
from segp_ext.method.anchors import Anchors
from segp_ext.method.fit import fit
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.learner import SeGPCL
from segp_ext.method.sources import Dpgd, Teacher
from segp_ext.runtime.processes import Processes
from segp_ext.storage.class_records import older_records

from .harness import Candidate, Table, measure, print_setting

CLASSES, NEW = 100, 10
STEPS = 2  # steps of DPGD and of training; each further step costs the same


class Scene:
    """A learner of `CLASSES` classes, random pixels, and open_clip's own model with the same weights.

    Weights are random; the built-in glyph model has its own.

    Args:
        model: open_clip's model name, or "glyph".
        device: torch device.
        batch: images per batch.
        precision: arithmetic of the encoders: "fp32", "bf16" or "fp16".
    """

    def __init__(self, model: str, device: str, batch: int, precision: str) -> None:
        import open_clip

        self.batch = batch
        if model == "glyph":
            plain = glyph.build()[0]
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # load_clip makes its random weights from this seed too
                plain = open_clip.create_model(model, pretrained=None)
        self.plain = plain.to(device).requires_grad_(False).eval()
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.autocast = lambda: torch.autocast(device, dtype, enabled=dtype is not None)
        self.backbone = segp_ext.load_clip(model, "own" if model == "glyph" else None, device, precision=precision)
        self.config = MethodConfig()
        self.config.training.batch_size, self.config.training.epochs = batch, 1
        self.config.distillation.batch_size = batch // 2
        self.learner = SeGPCL(self.backbone, self.config)
        draw = torch.Generator().manual_seed(0)
        for parameter in self.backbone.trained_parameters():
            parameter.data.copy_(1e-3 * torch.randn(parameter.shape, generator=draw))
        size = self.backbone.image_size
        self.pixels = torch.rand(batch, 3, size, size, generator=draw).to(device)
        names = [f"{kind} number {i}" for i in range(CLASSES // 4) for kind in ("ship", "lamp", "tree", "fox")]
        self.tokens = self.backbone.tokenize([self.config.template.replace("{}", name) for name in names])
        self.prototypes = torch.randn(CLASSES, self.backbone.raw_dim, generator=draw).to(device)
        # Puts the learner in its state after ten tasks, with the adapter's weights set above.
        adapter = self.backbone.adapter_state()
        tasks = [NEW] * (CLASSES // NEW)
        self.learner.restore(older_records(names, tasks), tasks, {**adapter, "prototypes": self.prototypes})
        self.target = torch.arange(batch, device=device) % (CLASSES - NEW)
        raw = (np.random.RandomState(0).rand(STEPS * batch, 3, size, size) * 255).astype(np.uint8)
        data = LabelledImages(list(raw), [CLASSES - NEW + i % NEW for i in range(len(raw))], lambda image: image)
        self.images = Images(data, self.learner.reader)


def anchors(scene: Scene) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """Returns a call of the DPGD loop, and its floors by name."""
    source = Dpgd(AnchorsConfig(steps=STEPS))
    old = CLASSES - NEW
    with torch.no_grad():
        text = scene.backbone.encode_text(scene.tokens[:old])

    def ours() -> object:
        with scene.backbone.merged():
            return source.move(Teacher(scene.backbone, text, scene.prototypes[:old]), scene.pixels, scene.target, None)

    # A loss has a dense gradient, unlike a sum.
    with torch.no_grad(), scene.autocast():
        gradient = torch.randn_like(scene.plain.encode_image(scene.pixels))

    def floor() -> object:
        for _ in range(STEPS):
            x = scene.pixels.detach().requires_grad_()
            with scene.autocast():
                embedding = scene.plain.encode_image(x)
            grad = torch.autograd.grad(embedding, x, gradient)
        return grad

    return ours, {"open_clip's passes": floor}


def training(scene: Scene) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """Returns a call of `fit`, and its floors by name."""
    backbone, old = scene.backbone, CLASSES - NEW
    widths = backbone.embed_dim, backbone.raw_dim
    made = Anchors(4 * scene.batch, scene.pixels.shape[1:], widths, backbone.device, backbone.dtype, None, Processes())
    with torch.no_grad():
        text = backbone.encode_text(scene.tokens)
        for start in range(0, len(made), scene.batch):
            made.write(start, scene.pixels, *backbone.encode_image(scene.pixels))
        with backbone.reference():
            reference = backbone.encode_text(scene.tokens)
    list(scene.images.read(scene.images.batches(scene.batch)))  # decodes every image once, as a first epoch does

    def ours() -> object:
        task = TaskInputs(10, scene.images, scene.tokens, range(old, CLASSES), made, text[:old], reference)
        return fit(backbone, task, scene.config, torch.Generator().manual_seed(0), Processes())

    both = torch.cat([scene.pixels, scene.pixels[: scene.batch // 2]])
    image_gradient = torch.randn(len(both), backbone.embed_dim, device=backbone.device)
    text_gradient = torch.randn_like(reference)

    def adapted() -> object:
        for _ in range(STEPS):
            backbone.encode_image(both)[0].backward(image_gradient)
            backbone.encode_text(scene.tokens).backward(text_gradient)
        for parameter in backbone.trained_parameters():
            parameter.grad = None
        return None

    return ours, {"adapted passes": adapted}


def prediction(scene: Scene) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """Returns a call that scores a batch on the dual path, and its floors by name."""

    @torch.no_grad()
    def floor() -> object:
        with scene.autocast():
            return scene.plain.encode_image(scene.pixels)

    return lambda: scene.learner.logits(scene.pixels, "dual"), {"open_clip's encode_image": floor}


@torch.no_grad()
def check(scene: Scene) -> None:
    """Asserts that both models agree where the adapter is off, and prints what cutting prompts and resizing on the device change."""
    backbone, plain = scene.backbone, scene.plain
    normalised = (scene.pixels - backbone.mean) / backbone.std
    whole = F.pad(scene.tokens, (0, plain.context_length - scene.tokens.shape[1]))
    with backbone.reference(), scene.autocast():
        ours, theirs = backbone.encode_image(scene.pixels)[0], plain.encode_image(normalised).float()
        # Half types round at every layer, and the two models round at different places.
        tolerance = 1e-3 if backbone.precision == "fp32" else 3e-2 * float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=tolerance)
        cut, full = (backbone.encode_text(tokens) for tokens in (scene.tokens, whole))
    print(
        f"prompts cut from {whole.shape[1]} to {scene.tokens.shape[1]} tokens: embeddings move by {(cut - full).abs().max():.1e}"
    )
    small = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    smooth = (
        F.avg_pool2d(small.float(), 5, 1, 2).round().to(torch.uint8)
    )  # neighbouring pixels are alike, as in photographs
    for name, images in (("noise", small), ("smoothed noise", smooth)):
        exact = torch.stack([backbone.transform(to_pil(image)) for image in images]).to(backbone.device)
        apart = (backbone.to_unit(images) - backbone.to_unit(exact)).mul(255).abs()
        v, exact_v = (F.normalize(backbone.encode_image(backbone.to_unit(p))[0], dim=1) for p in (images, exact))
        print(
            f"resizing 32×32 {name} on the device against PIL: {(apart > 0.5).float().mean():.2%} of pixels differ, by at most "
            f"{apart.max():.0f} of 255; cosine of embeddings ≥ {(v * exact_v).sum(1).min():.6f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="open_clip model name")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument(
        "--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="arithmetic of the encoders"
    )
    parser.add_argument("--batch", type=int, default=16, help="images per batch")
    parser.add_argument("--seconds", type=float, default=90, help="seconds to spend on each phase")
    parser.add_argument(
        "--quick", action="store_true", help="measure the built-in model for one second per phase; write no CSV"
    )
    given = parser.parse_args()
    if given.quick:
        given.model, given.batch, given.seconds = "glyph", 4, 1
    if segp_ext.build_info()["ops_path"] != "native":
        sys.exit(f"there are no fused ops to measure: {segp_ext.build_info()['reason']}")

    print_setting(f"{given.model}, batch {given.batch}, {given.precision}: phases against their floors", given.device)
    scene = Scene(given.model, given.device, given.batch, given.precision)
    check(scene)
    columns = [("model", 10), ("batch", 5), ("precision", 9), ("phase", 10), ("floor", 35), ("phase s", 8), ("floor s", 8),
               ("ratio", 6), ("p20", 6), ("p80", 6)]  # fmt: skip
    table = Table("end_to_end", given.device, columns, keep=not given.quick)
    for phase in (anchors, training, prediction):
        ours, floors = phase(scene)
        timings = measure(
            [Candidate("phase", ours), *(Candidate(n, f) for n, f in floors.items())], given.device, given.seconds
        )
        for floor in floors:
            ratio = timings["phase"].over(timings[floor])
            table.add(given.model, given.batch, given.precision, phase.__name__, floor, timings["phase"].median,
                      timings[floor].median, ratio.median, ratio.p20, ratio.p80)  # fmt: skip
    if not given.quick:
        print(f"appended to {table.name}.csv")


if __name__ == "__main__":
    main()
