"""The CLIP backbone that the method works with: preprocessing, encoders, base weights and one LoRA adapter, held together.

open_clip does the modelling (`segp_ext.clip.towers` says what a model must look like), and PEFT the adapters.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segp_ext.clip.adapter import Adapter, widest_rank
from segp_ext.clip.base_weights import BaseWeights
from segp_ext.clip.compiled import Passes
from segp_ext.clip.encoders import AUTOCAST, Encoders
from segp_ext.clip.lora_targets import check_adaptable, chosen_layers
from segp_ext.clip.preprocessing import Preprocessing
from segp_ext.config import LoraConfig, Precision, ResizeMode
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.process_state import out_of_inference_mode
from segp_ext.runtime.timing import Stopwatch


class Backbone(nn.Module):
    """A CLIP model that gives raw and projected features and carries one LoRA adapter.

    Args:
        clip: an open_clip model; it is changed in place.
        tokenizer: maps a list of strings to token ids, int64 `[N, L]`, as open_clip's tokenizers do.
        name: the model's name, recorded in checkpoints.
        pretrained: tag or file of the weights that it was loaded from, recorded likewise.
        resize_mode: way to fit an image to the square input; the model's own by default. "shortest" scales the short side and crops
            the centre. "squash" scales both sides and ignores the aspect. "longest" scales the long side and pads.
        precision: arithmetic of the encoders: fp32, bf16 and fp16 by autocast, or fp64. Weights, results and gradients are float64 with
            fp64, else float32.
        compile: compile the encoders with `torch.compile`.

    Attributes:
        clip: the open_clip model, with the adapter in its layers.
        image_size: side of the square input, in pixels.
        dtype: dtype of weights, features and gradients.
        resize_mode, interpolation: how images are resized to the input.
        transform: the preprocessing of PIL images, which holds nothing of the model.
        projection: the projection `[Dr, De]` into the joint space where it was taken out of the vision tower, else None.
        projects: False for models without a projection (SigLIP), whose raw features are their embeddings.
        architecture: open_clip's configuration of a model that open_clip does not know by name.
        quick_gelu: whether the activation is QuickGELU, for a model that open_clip knows by name.
        place: absolute path of the local file or folder that the weights were read from; None for other weights.

    Raises:
        ValueError: for a setting that does not exist, damaged weights, or a model without a raw feature, naming the reason.
    """

    mean: Tensor  # [1, 3, 1, 1], the model's pixel statistics
    std: Tensor

    @torch.inference_mode(False)
    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Any,
        name: str,
        pretrained: str | os.PathLike[str] | None,
        *,
        resize_mode: ResizeMode | None = None,
        precision: Precision = "fp32",
        compile: bool = False,
    ) -> None:
        super().__init__()
        for setting, given, choices in (
            ("resize_mode", resize_mode, (None, "shortest", "squash", "longest")),
            ("precision", precision, tuple(AUTOCAST)),
        ):
            if given not in choices:
                raise ValueError(f"model.{setting} must be one of {', '.join(map(str, choices))}; got {given!r}")
        self.name, self.tokenizer = name, tokenizer
        self.pretrained = None if pretrained is None else os.fspath(pretrained)
        self.precision = precision
        self._encoders = Encoders(clip, tokenizer, name, precision, compile)
        vision = self._encoders.vision
        self.projection, self.projects = vision.projection, vision.projects
        self.clip: Any = clip
        self.dtype, self.image_size = self._encoders.dtype, vision.image_size
        self._preprocessing = Preprocessing(clip, self.image_size, resize_mode)
        self.transform = self._preprocessing.transform
        self.resize_mode, self.interpolation = self._preprocessing.resize_mode, self._preprocessing.interpolation
        device = next(clip.parameters()).device
        for statistic in ("mean", "std"):
            value = torch.tensor(getattr(self._preprocessing, statistic), dtype=self.dtype, device=device)
            self.register_buffer(statistic, value.view(1, 3, 1, 1), persistent=False)
        self._adapter = Adapter(clip)
        self._base = BaseWeights(clip, self.projection, self._adapter, name)
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise ValueError(
                f"the preprocessing of {name} is damaged: mean {self.mean.flatten().tolist()}, std {self.std.flatten().tolist()}"
            )
        self._parameters_of_clip = list(clip.parameters())  # kept, as finding them takes longer than a small prediction
        self._ceiling = math.inf if getattr(clip, "logit_bias", None) is not None else 100.0
        self.architecture: dict[str, Any] | None = None
        self.quick_gelu: bool | None = None
        self.place: str | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(out_of_inference_mode(state))

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode, whatever is asked: the encoders drop nothing and keep their statistics, also while learning."""
        return super().train(False)

    # -- what it is ------------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mean.device

    @property
    def raw_dim(self) -> int:
        """Dr, the width of a raw feature."""
        return self._encoders.vision.raw_dim

    @property
    def embed_dim(self) -> int:
        """De, the width of the joint embedding."""
        return self._encoders.vision.embed_dim

    @property
    def logit_scale(self) -> float:
        """s, the exponential of CLIP's learned value, at most 100 as in CLIP's training; models with a bias have no such limit.

        Models trained with a sigmoid loss (SigLIP) add a bias to their logits. It is the same for all classes, so no softmax and no
        ranking here depends on it, and it is left out.
        """
        return min(math.exp(min(float(self.clip.logit_scale), 80.0)), self._ceiling)

    @property
    def passes(self) -> Passes:
        """How many passes there were with `compile`, and how many of them ran eager all the same."""
        return self._encoders.passes

    @property
    def stopwatch(self) -> Stopwatch:
        """The stopwatch that adds up the time of all passes; a copy may be given the original's."""
        return self._encoders.stopwatch

    @stopwatch.setter
    def stopwatch(self, stopwatch: Stopwatch) -> None:
        self._encoders.stopwatch = stopwatch

    def weights_hash(self) -> str:
        """SHA-256 of the pre-trained weights (names, shapes and values) without the adapter; part of a result's protocol."""
        return self._base.hash()

    def has_other_weights(self) -> bool:
        """Tells whether the pre-trained weights differ from the weights that `name` and `pretrained` name.

        They differ once they were changed, also through `.data`, or once `load_weights` loaded others.
        """
        return self._base.are_others()

    def weights(self) -> dict[str, Tensor]:
        """The pre-trained weights and statistics by name, without the adapter: what `load_weights` takes."""
        return self._base.tensors()

    def load_weights(self, weights: dict[str, Tensor], others: bool = True) -> None:
        """Copies `weights`, which another model of the same architecture gave, into this one.

        Args:
            weights: tensors by name.
            others: whether they are not the weights that `name` and `pretrained` tell; a learner is then not saved without them.

        Raises:
            ValueError: naming the first tensor that is missing, is too many, has another shape or dtype, or is not finite.
        """
        self._base.load(weights, others)

    # -- features --------------------------------------------------------------------------------------------------------------

    def to_unit(self, pixels: Tensor) -> Tensor:
        """Turns uint8 pixels into `[B, 3, S, S]` in [0, 1] on the model's device, where pixels of another size are resized."""
        one_thread_if_forked()
        unit = pixels.to(self.device, non_blocking=True).to(self.dtype)
        return self._preprocessing.resized(unit).div_(255)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            pixels: `[B, 3, S, S]` in [0, 1], float; the model's mean and standard deviation normalise them here.

        Returns:
            The projected embedding v `[B, De]` and the raw feature z `[B, Dr]` that it was projected from, in `dtype`, neither normalised.
        """
        one_thread_if_forked()
        return self._encoders.encode_image(pixels, self.mean, self.std, self._adapter.view)

    def project(self, feature: Tensor) -> Tensor:
        """Projects raw features z `[B, Dr]`; returns the embeddings v `[B, De]` that `encode_image` gives with them."""
        return self._encoders.project(feature)

    def gradient(self, pixels: Tensor, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Computes the gradient to `pixels`, given the gradients of what `encode_image` made of them."""
        return self._encoders.gradient(pixels, outputs, gradients)

    def backward(self, output: Tensor, gradient: Tensor) -> None:
        """Adds gradients to the adapter's, given the gradient of one output of `encode_image` or `encode_text`."""
        self._encoders.backward(output, gradient)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Maps strings to token ids, int64 `[N, L]` on the model's device; L is the longest one's length where padding changes nothing.

        Raises:
            TypeError: for one string, which would be taken apart into letters.
            ValueError: naming the strings that do not fit the context.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(f"texts must be a list of strings; got the string {texts!r}: write [{texts!r}]")
        return self._encoders.text.tokenize(list(texts)).to(self.device)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encodes token ids `[C, L]` from `tokenize`; returns embeddings `[C, De]` in `dtype`, not normalised."""
        one_thread_if_forked()
        return self._encoders.encode_text(tokens, self._adapter.view)

    # -- adaptation ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)
    def adapt(self, config: LoraConfig, seed: int) -> None:
        """Puts a fresh LoRA adapter on the chosen encoders: A random orthonormal and frozen, B zero (PEFT's LoRA).

        Projections of one attention that read the same input have the same A. A layer that is narrower than the rank gets its width as
        rank, and the scale of the others.

        Raises:
            ValueError: if the settings do not fit the model (see `layers_to_adapt`), or an adapter is there already.
        """
        self._adapter.check_none()
        self._adapter.put_on(self.layers_to_adapt(config), config, seed)
        self._parameters_of_clip = list(self.clip.parameters())

    def layers_to_adapt(self, config: LoraConfig) -> list[str]:
        """Names of the layers that `adapt` adapts.

        Raises:
            ValueError: if a target does not exist, or an adapter could not change it (see `segp_ext.clip.lora_targets`).
            ValueError: if the rank is above the width of every layer.
        """
        layers = {name: self.clip.get_submodule(name) for name in chosen_layers(self.clip, self.name, config)}
        widest = max(layers, key=lambda name: widest_rank(layers[name]))
        if config.rank > widest_rank(layers[widest]):
            raise ValueError(
                f"lora.rank must be at most {widest_rank(layers[widest])}, the width of {widest} in {self.name}; got {config.rank}"
            )
        check_adaptable(layers, self.name, self._try_out)
        return list(layers)

    def _try_out(self) -> None:
        """Passes one image and one string through the towers as they are, uncompiled."""
        size = self.image_size
        self._encoders.vision(torch.zeros(1, 3, size, size, device=self.device, dtype=self.dtype))
        self._encoders.text(self.tokenize(["a"]))

    def trained_parameters(self) -> list[nn.Parameter]:
        """The matrices B of the adapter."""
        return list(self._adapter.trained)

    def version(self) -> int:
        """Another number whenever a weight or the adapter was changed in place, except through `.data`; merging is no change."""
        return sum(parameter._version for parameter in self._parameters_of_clip)

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's tensors, named and packed as PEFT saves them for the plain open_clip model; empty without an adapter.

        Some models cannot carry an adapter in that way; see `segp_ext.clip.adapter_layout.packed_projections`.
        """
        return self._adapter.state()

    def adapter_config(self) -> dict[str, Any] | None:
        """The adapter's settings as PEFT writes them beside the tensors of `adapter_state`; None without an adapter."""
        return self._adapter.config()

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Loads tensors from `adapter_state` into the adapter.

        Raises:
            ValueError: if names or shapes differ, or the tensors change a layer that is not adapted here.
        """
        self._adapter.load(state)

    def merge(self) -> None:
        """Merges the adapter into the weights: the same function, without the adapter's cost, and with gradients to the inputs alone.

        Does nothing if it is merged already. The base weights are kept aside until `unmerge`, as merging rounds.
        """
        self._adapter.merge()

    def unmerge(self) -> None:
        """Takes the adapter out of the weights again, which are then the same as before to the bit."""
        self._adapter.unmerge()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merges the adapter inside the block, as for the teacher and for inference. Restores it afterwards."""
        with self._adapter.merged():
            yield

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Switches the adapter off inside the block: the pre-trained model remains, G⁰ of the text geometry."""
        with self._adapter.off():
            yield

    # -- copies ----------------------------------------------------------------------------------------------------------------

    def copy(self) -> Backbone:
        """Returns a separate backbone in the present state. It shares values that no adapter changes, in parameters of its own."""
        return self._copied()

    def without_adapter(self) -> Backbone:
        """Returns a separate backbone as it was before `adapt`. It shares the weights' values and the tokenizer, which is slow to copy."""
        twin = self._copied(self.tokenizer)
        twin._adapter.take_off()
        twin._parameters_of_clip = list(twin.clip.parameters())
        return twin

    def to_predict(self) -> Backbone:
        """Returns a separate backbone in the present state, with the adapter merged; this backbone itself where it has no adapter.

        Its passes are timed and counted here too. The tokenizer is shared.
        """
        if self._adapter.view == "plain":
            return self
        twin = self._copied(self.tokenizer)
        twin._encoders.stopwatch, twin._encoders.passes = self.stopwatch, self.passes
        twin.merge()
        return twin

    def to_export(self) -> Backbone:
        """Returns a separate backbone in the present state that computes in float32, without autocast or compiling.

        Its adapter is merged, and each of its weights has memory of its own.
        """
        twin = self._copied(self.tokenizer)
        twin.merge()
        twin.float()
        for parameter in twin.parameters():
            parameter.data = parameter.data.clone()  # queries, keys and values share memory
        twin.dtype, twin.precision = torch.float32, "fp32"
        twin._encoders.compute_in_float32()
        return twin

    def _copied(self, *shared: Any) -> Backbone:
        """Returns a copy that shares the compiled code and some more things."""
        held: dict[int, Any] = {id(thing): thing for thing in (self._encoders.compilers, *shared)}
        merged = {id(layer.weight) for _, layer, _ in self._adapter.merged_layers}
        for name, parameter in self.named_parameters():
            if ".lora_" not in name and id(parameter) not in merged:
                held[id(parameter)] = nn.Parameter(parameter.data, parameter.requires_grad)
        held |= {id(original): original for _, _, original in self._adapter.merged_layers}
        return copy.deepcopy(self, held)
