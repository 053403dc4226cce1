"""The two encoders of a CLIP model: their passes in one precision, compiled where asked for, and the time that they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from segp_ext.clip.compiled import Compiler, Passes
from segp_ext.clip.towers import Text, Vision, make_adaptable
from segp_ext.config import Precision
from segp_ext.runtime.timing import Stopwatch

AUTOCAST: dict[Precision, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": None,
}
"""The dtype of autocast in each precision; None where there is no autocast."""
View = Literal["plain", "adapted", "merged", "reference"]
"""The state of a model's adapter: there is none, it is on, it is merged into the weights, or it is off."""


class Encoders:
    """Both encoders of a CLIP model, which is changed in place: its dtype, no gradients, and layers that an adapter can wrap.

    Args:
        clip: an open_clip model.
        tokenizer: maps a list of strings to token ids, int64 `[N, L]`, as open_clip's tokenizers do.
        name: the model's name, for messages.
        precision: arithmetic of the passes; fp64 makes weights, results and gradients float64, the others float32.
        compile: compile the encoders with `torch.compile`.

    Attributes:
        vision, text: the towers.
        dtype: dtype of weights, results and gradients.
        passes: how many passes there were with `compile`.
        compilers: what compiles the passes of each tower; None without `compile`.
        stopwatch: adds up the time of all passes, and of gradients through them.

    Raises:
        ValueError: for a model without a raw feature, naming the reason.
    """

    def __init__(self, clip: Any, tokenizer: Any, name: str, precision: Precision, compile: bool) -> None:
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.vision = Vision(clip.to(self.dtype), name)
        make_adaptable(clip)
        clip.requires_grad_(False).eval()
        self.text = Text(clip, tokenizer, name)
        self.passes, self.stopwatch = Passes(), Stopwatch()
        # The number of images changes from pass to pass; of texts, their length changes too.
        self.compilers = {"vision": Compiler(axes=1), "text": Compiler(axes=2)} if compile else None
        self._autocast_dtype = AUTOCAST[precision]

    def encode_image(self, pixels: Tensor, mean: Tensor, std: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """Encodes images; the stopwatch runs meanwhile.

        Args:
            pixels: `[B, 3, S, S]` in [0, 1].
            mean, std: `[1, 3, 1, 1]`, the statistics that normalise the pixels.
            view: the state of the model's adapter.

        Returns:
            The projected embedding v `[B, De]` and the raw feature z `[B, Dr]` in `dtype`, neither normalised.
        """
        with self.stopwatch.running(mean.device), self._autocast(mean.device):
            embedding, feature = self._pass("vision", (pixels - mean) / std, view)
            return embedding.to(self.dtype), feature.to(self.dtype)

    def project(self, feature: Tensor) -> Tensor:
        """Projects raw features z `[B, Dr]` to embeddings v `[B, De]`, both in `dtype`."""
        with self._autocast(feature.device):
            return self.vision.project(feature).to(self.dtype)

    def encode_text(self, tokens: Tensor, view: View) -> Tensor:
        """Encodes token ids `[C, L]` to embeddings u `[C, De]` in `dtype`, not normalised; the stopwatch runs meanwhile."""
        with self.stopwatch.running(tokens.device), self._autocast(tokens.device):
            return self._pass("text", tokens, view).to(self.dtype)

    def gradient(self, pixels: Tensor, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Computes the gradient to `pixels`, given the gradients of what `encode_image` made of them."""
        with self.stopwatch.running(pixels.device):
            return torch.autograd.grad(outputs, pixels, gradients)[0]

    def backward(self, output: Tensor, gradient: Tensor) -> None:
        """Adds gradients to the adapter's, given the gradient of one output of `encode_image` or `encode_text`."""
        with self.stopwatch.running(output.device):
            output.backward(gradient)

    def compute_in_float32(self) -> None:
        """Makes all passes from here on eager and float32; the model's weights must be float32 already."""
        self.dtype, self.compilers, self._autocast_dtype = torch.float32, None, None

    def _autocast(self, device: torch.device) -> torch.autocast:
        dtype = self._autocast_dtype
        # Inside another autocast, the weights that are cast and kept for this one would outlive the step that changes them.
        return torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)

    def _pass(self, which: Literal["vision", "text"], inputs: Tensor, view: View) -> Any:
        tower = self.vision if which == "vision" else self.text
        if self.compilers is None:
            return tower(inputs)
        return self.compilers[which].run(tower, self.passes, inputs, view)
