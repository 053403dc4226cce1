"""The format open_clip: merged weights as open_clip's own model, for the text path, and prototypes beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from segp_ext.clip.model_names import LOCAL
from segp_ext.clip.open_clip_folder import open_clip_files
from segp_ext.runtime.process_state import float32_by_default, seeded, without_autocast
from segp_ext.runtime.progress import first_line
from segp_ext.serving.facts import CLASSES
from segp_ext.serving.subject import Subject

PROTOTYPES = "prototypes.safetensors"
"""Name of the file of prototypes μ `[C, Dr]`, a row for each class in the order of `CLASSES`."""


def merged_files(subject: Subject, metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Writes a learner's merged weights and prototypes; returns the files' contents by name. The prototypes' file holds `metadata`."""
    prototypes = {"prototypes": subject.plain.prototypes.contiguous()}
    return {**open_clip_files(subject.plain.backbone), PROTOTYPES: save(prototypes, dict(metadata))}


@torch.no_grad()
def merged_scores(folder: Path, subject: Subject, images: Sequence[Image.Image]) -> Tensor:
    """Scores images as a user of open_clip does who knows nothing of this package.

    Args:
        folder: the export.
        subject: its batch size is used, and nothing else.
        images: PIL RGB images of any size.

    Returns:
        Logits s·v̂·û `[N, C]`.

    Raises:
        ValueError: if open_clip does not load the folder.
    """
    import open_clip

    try:
        with seeded(0), float32_by_default(), torch.device("cpu"):
            model, _, preprocess = open_clip.create_model_and_transforms(f"{LOCAL}{folder}")
            tokenizer = open_clip.get_tokenizer(f"{LOCAL}{folder}")
    except Exception as error:  # its kind depends on what is wrong
        raise ValueError(f"open_clip does not load the export: {first_line(error)}; nothing was written") from error
    classes = json.loads((folder / CLASSES).read_text(encoding="utf-8"))["classes"]
    size = subject.learner.config.inference.batch_size
    model.eval()
    with without_autocast():
        tokens = tokenizer([prompt for entry in classes for prompt in entry["prompts"]])
        found = torch.cat([model.encode_text(part, normalize=True) for part in tokens.split(size)])
        counts = [len(entry["prompts"]) for entry in classes]
        text = F.normalize(torch.stack([part.mean(dim=0) for part in found.split(counts)]), dim=-1)
        pixels = torch.stack([preprocess(image) for image in images])
        found = torch.cat([model.encode_image(part, normalize=True) for part in pixels.split(size)])
        return model.logit_scale.exp() * found @ text.T
