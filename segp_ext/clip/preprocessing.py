"""From an image to the square of pixels that a CLIP model reads: in worker processes with PIL, or on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from segp_ext.config import ResizeMode

_DONE_LATER = ("MaybeConvertMode", "MaybeToTensor", "Normalize")
"""Steps of open_clip's preprocessing that `Transform` and the backbone do themselves."""


class Transform:
    """Turns a PIL image into uint8 pixels `[3, S, S]`. Worker processes get a copy of it, so it holds nothing of the model.

    Args:
        steps: functions from PIL image to PIL image that resize and crop.
        shorter_side: the length in pixels to which `steps` resize the shorter side; None where they squeeze both sides.
    """

    def __init__(self, steps: Sequence[Callable[[Image.Image], Image.Image]], shorter_side: int | None) -> None:
        self.steps, self.shorter_side = steps, shorter_side

    def __call__(self, image: Image.Image) -> Tensor:
        """Resizes and crops an image.

        Raises:
            ValueError: if the image is so narrow that it would have more pixels than PIL reads, once it is resized.
        """
        if self.shorter_side is not None and Image.MAX_IMAGE_PIXELS is not None:
            longer = self.shorter_side * max(image.size) // min(image.size)
            if self.shorter_side * longer > 2 * Image.MAX_IMAGE_PIXELS:
                raise ValueError(
                    f"{image.width} × {image.height} pixels are too narrow: resized they would be {self.shorter_side} × {longer:,}; crop it"
                )
        for step in self.steps:
            image = step(image)
        return torch.from_numpy(np.array(image.convert("RGB")).transpose(2, 0, 1).copy())


class Preprocessing:
    """How images become a model's input: the model's own way, in which `resize_mode` may be set.

    Args:
        clip: an open_clip model.
        image_size: S, the side of the model's square input in pixels.
        resize_mode: how an image becomes square; None for the model's own way.

    Attributes:
        transform: resizes and crops PIL images.
        resize_mode, interpolation: how `transform` and `resized` resize.
        mean, std: the model's pixel statistics, three numbers each.
    """

    def __init__(self, clip: nn.Module, image_size: int, resize_mode: ResizeMode | None) -> None:
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(**{**open_clip.get_model_preprocess_cfg(clip), "size": image_size})
        if resize_mode is not None:
            config.resize_mode = resize_mode
        self.image_size = image_size
        self.resize_mode, self.interpolation = config.resize_mode, config.interpolation
        self.mean, self.std = config.mean, config.std
        steps = image_transform_v2(config, is_train=False).transforms
        self.transform = Transform(
            [step for step in steps if type(step).__name__ not in _DONE_LATER],
            image_size if self.resize_mode == "shortest" else None,
        )

    def resized(self, pixels: Tensor) -> Tensor:
        """Resizes pixels `[B, 3, H, W]` of values from 0 to 255 to `[B, 3, S, S]`, filtered and rounded as PIL does it.

        Pixels of that size are returned as they are.

        Raises:
            ValueError: if `resize_mode` is "longest", which would need padding.
        """
        size = self.image_size
        if pixels.shape[-2:] == (size, size):
            return pixels
        if self.resize_mode == "longest":
            raise ValueError(
                "loading.resize device cannot pad images; use --loading.resize exact, or model.resize_mode"
            )
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as vision

        to = [size, size] if self.resize_mode == "squash" else [size]
        resized = vision.resize(pixels, to, InterpolationMode(self.interpolation), antialias=True)
        return vision.center_crop(resized, [size, size]).round_().clamp_(0, 255)


def published_preprocessing(name: str) -> dict[str, Any]:
    """Returns the preprocessing settings that all published weights of a model share; other weights of it are taken to want the same.

    A local file does not tell how its images were prepared. open_clip would take CLIP's own way, which is wrong for SigLIP, say.

    Args:
        name: a model name that open_clip knows.
    """
    import open_clip

    found = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {
        key: found[0][key]
        for key in keys
        if found and all(key in config and config[key] == found[0].get(key) for config in found)
    }
