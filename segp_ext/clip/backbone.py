"""The CLIP backbone: raw and projected image features, text embeddings, LoRA, and the merged and reference views of it.

open_clip does the modelling (see `segp_ext.clip.towers` for what it must look like) and PEFT the adapters; this module joins them.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from segp_ext.clip.adapter_layout import NEEDS_ADAPTABLE, from_plain, packed_projections, plain_names, to_plain
from segp_ext.clip.compiled import Compiler, Passes
from segp_ext.clip.lora_targets import chosen_layers, shares_start
from segp_ext.clip.towers import Text, Vision, make_adaptable
from segp_ext.config import LoraConfig, Precision, ResizeMode
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.process_state import drawn_by, float32_by_default
from segp_ext.runtime.timing import Stopwatch

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": None}


class Preprocessing:
    """PIL image → uint8 `[3, S, S]`, resized and cropped by `steps`. Worker processes get a copy, so that it must stay small.

    Args:
        steps: from PIL image to PIL image.
        shorter_side: what they resize an image's shorter side to; None where both sides are squeezed.
    """

    def __init__(self, steps: Sequence[Callable[[Image.Image], Image.Image]], shorter_side: int | None) -> None:
        self.steps, self.shorter_side = steps, shorter_side

    def __call__(self, image: Image.Image) -> Tensor:
        """Raises ValueError for an image so narrow that it would have more pixels than PIL reads, once it is resized."""
        if self.shorter_side is not None and Image.MAX_IMAGE_PIXELS is not None:
            longer = self.shorter_side * max(image.size) // min(image.size)
            if self.shorter_side * longer > 2 * Image.MAX_IMAGE_PIXELS:
                raise ValueError(
                    f"{image.width} × {image.height} pixels are too narrow: resized they would be {self.shorter_side} × {longer:,}; crop it"
                )
        for step in self.steps:
            image = step(image)
        return torch.from_numpy(np.array(image.convert("RGB")).transpose(2, 0, 1).copy())


@contextmanager
def without_autocast() -> Iterator[None]:
    """Inside, or in a function so decorated, an autocast that the caller has switched on does nothing: precision is a setting here."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def out_of_inference_mode(state: Any) -> Any:
    """What was just copied or unpickled, with tensors that may change: those that came to be in inference mode never may."""
    if not torch.is_inference_mode_enabled():
        return state
    with torch.inference_mode(False):
        return copy.deepcopy(state)


class Backbone(nn.Module):
    """A CLIP model that gives raw and projected features and carries one LoRA adapter.

    Args:
        clip: an open_clip model; it is changed in place.
        tokenizer: texts → int64 `[N, L]`, as open_clip's are.
        name: the model's name, recorded in checkpoints.
        pretrained: weights tag or file it was loaded from, recorded likewise.
        resize_mode: "shortest" (short side to the input size, centre crop) or "squash" (both sides, ignoring aspect); the model's own
            way by default.
        precision: arithmetic of the encoders: fp32, bf16 and fp16 by autocast, or fp64. Weights, results and gradients are float64 with
            fp64, else float32.
        compile: compile the encoders with `torch.compile`.

    Attributes:
        passes: how many passes there were with `compile`, and how many of them ran eager all the same.
        image_size: side of the square input, in pixels.
        dtype: of weights, features and gradients.
        resize_mode, interpolation: how images get there.
        transform: the model's own preprocessing, which holds nothing of the model.
        projects: False for models without a projection (SigLIP), whose raw features are their embeddings.
        stopwatch: adds up the time of all passes.
        architecture: open_clip's configuration of a model that it does not know by name.
        quick_gelu: whether the activation is QuickGELU, of a model that open_clip knows by name.
        place: whole path of the local file or folder that the weights were read from; None for others.

    Raises:
        ValueError: for a model without a raw feature, naming the reason.
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
            ("precision", precision, tuple(_AUTOCAST)),
        ):
            if given not in choices:
                raise ValueError(f"model.{setting} must be one of {', '.join(map(str, choices))}; got {given!r}")
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self._vision = Vision(clip.to(self.dtype), name)
        make_adaptable(clip)
        self.projection = self._vision.projection
        self.clip: Any = clip.requires_grad_(False).eval()
        self._text = Text(clip, tokenizer, name)
        self._compilers = (Compiler(axes=1), Compiler(axes=2)) if compile else None  # of pixels and tokens
        self.passes = Passes()
        self.name, self.tokenizer = name, tokenizer
        self.pretrained = None if pretrained is None else os.fspath(pretrained)
        self.precision = precision
        self.image_size, self.projects = self._vision.image_size, self._vision.projects
        preprocessing = PreprocessCfg(**{**open_clip.get_model_preprocess_cfg(clip), "size": self.image_size})
        if resize_mode is not None:
            preprocessing.resize_mode = resize_mode
        self.resize_mode, self.interpolation = preprocessing.resize_mode, preprocessing.interpolation
        # Resizing and cropping; what follows in open_clip (conversion, tensor, normalisation) is done elsewhere here.
        steps = image_transform_v2(preprocessing, is_train=False).transforms
        self.transform = Preprocessing(
            [step for step in steps if type(step).__name__ not in ("MaybeConvertMode", "MaybeToTensor", "Normalize")],
            self.image_size if self.resize_mode == "shortest" else None,
        )
        for statistic in ("mean", "std"):
            value = torch.tensor(
                getattr(preprocessing, statistic), dtype=self.dtype, device=next(clip.parameters()).device
            )
            self.register_buffer(statistic, value.view(1, 3, 1, 1), persistent=False)
        self.stopwatch = Stopwatch()
        self._peft: Any = None
        self._adapter_is_off = False
        self._trained: list[nn.Parameter] = []
        self._parameters_of_clip = list(clip.parameters())  # kept, as finding them takes longer than a small prediction
        # Of the adapted layers, by name; the rank and alpha that were asked for.
        self._ranks: dict[str, int] = {}
        self._rank = self._alpha = 0
        # Adapted layers while merged: (LoRA, its base layer, base weight).
        self._merged: list[tuple[Any, Any, Tensor]] = []
        self._hash: tuple[list[int], str] | None = None  # with the checksums that it was computed at
        self.architecture: dict[str, Any] | None = None
        self.quick_gelu: bool | None = None
        self.place: str | None = None
        self._check_finite()
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise ValueError(
                f"the preprocessing of {name} is damaged: mean {self.mean.flatten().tolist()}, std {self.std.flatten().tolist()}"
            )
        self._ceiling = math.inf if getattr(clip, "logit_bias", None) is not None else 100.0
        self._told: list[int] | None = (
            self._checksums()
        )  # of the weights that name and pretrained tell; None for others

    # -- what it is ------------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def raw_dim(self) -> int:
        """Dr, the width of a raw feature."""
        return self._vision.raw_dim

    @property
    def embed_dim(self) -> int:
        """De, the width of the joint embedding."""
        return self._vision.embed_dim

    @property
    def logit_scale(self) -> float:
        """s, the exponential of CLIP's learned value, at most 100 as in CLIP's training (but for models with a bias).

        The bias that models trained with a sigmoid loss (SigLIP) add is the same for all classes, so that every softmax and every
        ranking here is the same without it; it is left out.
        """
        return min(math.exp(min(float(self.clip.logit_scale), 80.0)), self._ceiling)

    def weights_hash(self) -> str:
        """SHA-256 of the pre-trained weights (names, shapes and values), the adapter left out; part of a result's protocol."""
        present = self._checksums()
        if self._hash is None or self._hash[0] != present:
            digest = hashlib.sha256()
            if self.projection is not None:
                digest.update(self.projection.detach().cpu().float().numpy().tobytes())
            for name, parameter in self._own(self.clip.named_parameters()):
                digest.update(name.encode())
                digest.update(str(tuple(parameter.shape)).encode())
                digest.update(parameter.cpu().float().contiguous().numpy().tobytes())
            self._hash = present, digest.hexdigest()
        return self._hash[1]

    def has_other_weights(self) -> bool:
        """Whether the pre-trained weights are others than `name` and `pretrained` tell: changed since they were read, `.data` included."""
        return self._told is None or self._told != self._checksums()

    def _checksums(self) -> list[int]:
        """A checksum of every tensor that `weights_hash` is of: the same on every device, and far cheaper."""
        projection = [] if self.projection is None else [self.projection.detach()]
        return torch.stack(
            [_checksum(t) for t in (*projection, *(p for _, p in self._own(self.clip.named_parameters())))]
        ).tolist()

    def weights(self) -> dict[str, Tensor]:
        """The pre-trained weights and statistics by name, the adapter left out: what `load_weights` takes."""
        projection = {} if self.projection is None else {"projection": self.projection.detach()}
        return projection | dict(self._own(self.clip.state_dict(keep_vars=True).items()))

    def load_weights(self, weights: dict[str, Tensor], others: bool = True) -> None:
        """Takes over what `weights` gave, of a model of the same architecture.

        Args:
            weights: by name.
            others: whether they are others than `name` and `pretrained` tell, so that a learner is not saved without them.

        Raises:
            ValueError: naming the first tensor that is missing, is too many, or has another shape or dtype, or is not finite.
        """
        own = self.weights()
        if own.keys() != weights.keys():
            raise ValueError(
                f"the weights do not fit {self.name}; first difference: {sorted(own.keys() ^ weights.keys())[0]}"
            )
        for name, tensor in weights.items():
            expected, got = (f"{x.dtype} {list(x.shape)}" for x in (own[name], tensor))
            if expected != got:
                raise ValueError(f"the weights do not fit {self.name}: {name} must be {expected}; got {got}")
        for name, tensor in weights.items():
            own[name].copy_(tensor)
        self._check_finite()
        self._told = None if others else self._checksums()

    def _check_finite(self) -> None:
        for name, tensor in self.weights().items():
            if not tensor.isfinite().all():
                raise ValueError(f"the weights of {self.name} are damaged: their {name} has values that are not finite")

    def _own(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Those of the CLIP model's tensors that are not the adapter's, under their names without one and as they were before merging."""
        originals = {id(layer.weight): original for _, layer, original in self._merged}
        for name, tensor in tensors:
            if ".lora_" not in name:
                yield name.replace(".base_layer", ""), originals.get(id(tensor), tensor).detach()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(out_of_inference_mode(state))

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode, whatever is asked: the encoders never drop anything or change their statistics, nor while learning."""
        return super().train(False)

    # -- features --------------------------------------------------------------------------------------------------------------

    def to_unit(self, pixels: Tensor) -> Tensor:
        """uint8 pixels → `[B, 3, S, S]` in [0, 1] on the model's device; resized there if they have another size."""
        one_thread_if_forked()
        unit = pixels.to(self.device, non_blocking=True).to(self.dtype)
        size = self.image_size
        if unit.shape[-2:] != (size, size):
            unit = _resized(unit, size, self.resize_mode, self.interpolation)
            unit = unit.round_().clamp_(0, 255)  # PIL's results are 8-bit too
        return unit.div_(255)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            pixels: `[B, 3, S, S]` in [0, 1], float; normalised by the model's mean and standard deviation in here.

        Returns:
            The projected embedding v `[B, De]` and the raw feature z `[B, Dr]` it was projected from, in `dtype`, neither normalised.
        """
        one_thread_if_forked()
        with self.stopwatch.running(self.device), self._autocast():
            embedding, feature = self._pass(0, (pixels - self.mean) / self.std)
            return embedding.to(self.dtype), feature.to(self.dtype)

    def _autocast(self) -> torch.autocast:
        dtype = _AUTOCAST[self.precision]
        # Inside another autocast, the weights kept for this one would outlive the step that changes them.
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=False)

    def gradient(self, pixels: Tensor, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Gradient to `pixels` of what `encode_image` made of them, given the gradients of the outputs."""
        with self.stopwatch.running(self.device):
            return torch.autograd.grad(outputs, pixels, gradients)[0]

    def backward(self, output: Tensor, gradient: Tensor) -> None:
        """Adds to the adapter's gradients those of an output of `encode_image` or `encode_text`, given its gradient."""
        with self.stopwatch.running(self.device):
            output.backward(gradient)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts → token ids int64 `[N, L]` on the model's device, L the longest text's length where padding changes nothing.

        Raises:
            TypeError: for one string, which would be taken apart into letters.
            ValueError: naming the texts that do not fit the context.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(f"texts must be a list of texts; got the string {texts!r}: write [{texts!r}]")
        return self._text.tokenize(list(texts)).to(self.device)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encodes token ids `[C, L]` from `tokenize`; returns embeddings `[C, De]` in `dtype`, not normalised."""
        one_thread_if_forked()
        with self.stopwatch.running(self.device), self._autocast():
            return self._pass(1, tokens).to(self.dtype)

    def _pass(self, which: int, inputs: Tensor) -> Any:
        """Inputs through the vision tower (0) or the text tower (1)."""
        tower = (self._vision, self._text)[which]
        if self._compilers is None:
            return tower(inputs)
        view = (
            "plain"
            if self._peft is None
            else "merged"
            if self._merged
            else "reference"
            if self._adapter_is_off
            else "adapted"
        )
        return self._compilers[which].run(tower, self.passes, inputs, view)

    # -- adaptation ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)
    def adapt(self, config: LoraConfig, seed: int) -> None:
        """Puts a fresh LoRA adapter on the chosen encoders: A random orthonormal and frozen, B zero (PEFT's LoRA).

        Projections of one attention that read the same input have the same A. A layer that is narrower than the rank gets its width as
        rank, and the scale of the others.

        Raises:
            ValueError: if the settings do not fit the model (see `layers_to_adapt`), or an adapter is there already.
        """
        from peft import get_peft_model

        if self._peft is not None:
            raise ValueError("this backbone carries an adapter already; a learner needs a backbone of its own")
        names = self.layers_to_adapt(config)
        widths: dict[str, int] = {}
        for name in names:
            group = shares_start(name)
            widths[group] = min(self._width(name), config.rank, widths.get(group, config.rank))
        self._ranks = {name: widths[shares_start(name)] for name in names}
        self._rank, self._alpha = config.rank, config.rank if config.alpha is None else config.alpha
        starts: dict[str, Tensor] = {}
        with drawn_by(seed), torch.device("cpu"), float32_by_default(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT warns of target modules that its own registry does not know
            self._peft = get_peft_model(self.clip, self._settings(self._ranks))
            for name in names:
                matrix = self.clip.get_submodule(name).lora_A["default"].weight
                group = shares_start(name)
                if group not in starts:
                    starts[group] = nn.init.orthogonal_(torch.empty(matrix.shape, dtype=torch.float32, device="cpu"))
                matrix.data.copy_(starts[group])
        self._trained = [p for name, p in self.clip.named_parameters() if ".lora_B." in name]
        self._parameters_of_clip = list(self.clip.parameters())
        self._train_b_alone()
        self.clip.eval()

    def _settings(self, ranks: dict[str, int]) -> Any:
        """PEFT's settings for an adapter of these ranks, by module."""
        from peft import LoraConfig as PeftLoraConfig

        # Patterns, because PEFT matches a list by suffix, and the text tower's names are suffixes of the vision tower's.
        narrow = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank < self._rank}
        return PeftLoraConfig(
            r=self._rank,
            lora_alpha=self._alpha,
            target_modules="|".join(re.escape(name) for name in ranks),
            rank_pattern=narrow,
            alpha_pattern={name: self._alpha * rank / self._rank for name, rank in narrow.items()},
        )

    def _train_b_alone(self) -> None:
        """Lets gradients to the matrices B and to nothing else; PEFT switches A on too whenever it enables an adapter."""
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(".lora_B." in name)

    def layers_to_adapt(self, config: LoraConfig) -> list[str]:
        """Names of the layers that `adapt` adapts.

        Raises:
            ValueError: for targets that are not there (see `segp_ext.clip.lora_targets`) or that an adapter could not change, and for a
                rank above the width of every layer.
        """
        names = chosen_layers(self.clip, self.name, config)
        widest = max(names, key=self._width)
        if config.rank > self._width(widest):
            raise ValueError(
                f"lora.rank must be at most {self._width(widest)}, the width of {widest} in {self.name}; got {config.rank}"
            )
        self._check_called(names)
        return names

    def _width(self, name: str) -> int:
        """The highest rank that a change of a layer's weight can have."""
        weight = self.clip.get_submodule(name).weight
        return min(weight[0].numel(), len(weight))

    def _check_called(self, targets: list[str]) -> None:
        """Refuses layers on which an adapter would do nothing, because the model reads their weights past them, or shares them."""
        layers = {name: self.clip.get_submodule(name) for name in targets}
        called: set[nn.Module] = set()
        hooks = [layer.register_forward_pre_hook(lambda module, _: called.add(module)) for layer in layers.values()]
        try:
            with torch.no_grad():
                self._vision(torch.zeros(1, 3, self.image_size, self.image_size, device=self.device, dtype=self.dtype))
                self._text(self.tokenize(["a"]))
        finally:
            for hook in hooks:
                hook.remove()
        owners: dict[tuple[int, torch.Size], str] = {}
        for name, layer in layers.items():
            other = owners.setdefault((layer.weight.data_ptr(), layer.weight.shape), name)
            reason = (
                "is never called"
                if layer not in called
                else f"shares its weight with {other}"
                if other != name
                else None
            )
            if reason:
                raise ValueError(
                    f"lora.targets: {name} of {self.name} {reason}, so it cannot be adapted; name other layers"
                )

    def trained_parameters(self) -> list[nn.Parameter]:
        """The matrices B of the adapter."""
        return list(self._trained)

    def version(self) -> int:
        """Another number whenever a weight or the adapter was changed in place, but through `.data`; merging is no change."""
        return sum(parameter._version for parameter in self._parameters_of_clip)

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's tensors, named and packed as PEFT saves them for the plain open_clip model; empty without an adapter.

        See `segp_ext.clip.adapter_layout.packed_projections` for models that cannot carry an adapter in that way.
        """
        if self._peft is None:
            return {}
        from peft import get_peft_model_state_dict

        return to_plain(get_peft_model_state_dict(self._peft), packed_projections(self.clip, self._ranks) or [])

    def adapter_config(self) -> dict[str, Any] | None:
        """The adapter's settings as PEFT writes them beside the tensors of `adapter_state`."""
        if self._peft is None:
            return None
        packed = packed_projections(self.clip, self._ranks)
        plain = plain_names(self._ranks, packed or [])
        settings = self._settings({plain[name]: rank for name, rank in self._ranks.items()}).to_dict()
        if packed is None:
            settings[NEEDS_ADAPTABLE] = "call it on the open_clip model, then open the adapter"
        return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Loads tensors from `adapter_state` into the adapter.

        Raises:
            ValueError: if names or shapes differ, or a layer is changed that is not adapted here.
        """
        from peft import set_peft_model_state_dict

        self.unmerge()
        own = self.adapter_state()
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())[0]
            raise ValueError(f"adapter tensors do not match this backbone and lora settings; first difference: {odd}")
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise ValueError(f"adapter tensor {name} must be {list(own[name].shape)}; got {list(tensor.shape)}")
        if self._peft is not None:
            packed = packed_projections(self.clip, self._ranks) or []
            set_peft_model_state_dict(self._peft, from_plain(state, packed, self._ranks))
            self._train_b_alone()

    def merge(self) -> None:
        """Merges the adapter into the weights: the same function, with no adapter cost and no gradient but to the inputs.

        Stays so until `unmerge`; nothing is done if it is merged already. The base weights are kept aside meanwhile, as merging rounds.
        """
        from peft.tuners.lora import LoraLayer

        if self._merged:
            return
        try:
            for module in self.clip.modules():
                if isinstance(module, LoraLayer):
                    layer: Any = module.get_base_layer()
                    self._merged.append((module, layer, layer.weight.data))
                    layer.weight.data = layer.weight.data.clone()
                    with torch.no_grad():
                        module.merge()
            for parameter in self.trained_parameters():
                parameter.requires_grad_(False)
        except BaseException:
            self.unmerge()
            raise

    def unmerge(self) -> None:
        """Takes the adapter out of the weights again, which are then what they were, to the bit."""
        if not self._merged:
            return
        for module, layer, original in self._merged:
            if module.merged:
                module.unmerge()
            layer.weight.data = original
        self._merged.clear()
        self._train_b_alone()

    def copy(self) -> Backbone:
        """A backbone of its own in the present state. Values that no adapter changes are shared, the parameters that hold them are not."""
        return self._copied()

    def _copied(self, *shared: Any) -> Backbone:
        """A copy that shares some things more."""
        held: dict[int, Any] = {id(thing): thing for thing in (self._compilers, *shared)}
        merged = {id(layer.weight) for _, layer, _ in self._merged}
        for name, parameter in self.named_parameters():
            if ".lora_" not in name and id(parameter) not in merged:
                held[id(parameter)] = nn.Parameter(parameter.data, parameter.requires_grad)
        held |= {id(original): original for _, _, original in self._merged}
        return copy.deepcopy(self, held)

    def without_adapter(self) -> Backbone:
        """A backbone of its own as it was before `adapt`. Values of the weights are shared, and the tokenizer, which is slow to copy."""
        twin = self._copied(self.tokenizer)
        twin.unmerge()
        if twin._peft is not None:
            twin.clip = twin._peft.unload().requires_grad_(False)
            twin._peft, twin._trained, twin._ranks = None, [], {}
            twin._parameters_of_clip = list(twin.clip.parameters())
        return twin

    def to_predict(self) -> Backbone:
        """The present model with its adapter merged, which stays as it is; itself where it has none.

        Its passes are timed and counted here too. The tokenizer is shared.
        """
        if self._peft is None:
            return self
        twin = self._copied(self.tokenizer)
        twin.stopwatch, twin.passes = self.stopwatch, self.passes
        twin.merge()
        return twin

    @contextmanager
    def merged(self) -> Iterator[None]:
        """The current model with its adapter merged, as the teacher is used and for inference; afterwards as it was before."""
        before = bool(self._merged)
        self.merge()
        try:
            yield
        finally:
            if not before:
                self.unmerge()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The pre-trained model, adapter off: G⁰ of the text geometry; afterwards as it was before."""
        before = bool(self._merged)
        self.unmerge()
        if self._peft is None:
            yield
        else:
            try:
                with self._peft.disable_adapter():
                    self._adapter_is_off = True
                    yield
            finally:
                self._adapter_is_off = False
                self._train_b_alone()
                if before:
                    self.merge()


def _checksum(tensor: Tensor) -> Tensor:
    """Of the numbers and their order, int64 `[]`: their bits read as whole numbers, each times a weight of its place; overflow wraps.

    Numbers of 32 bits are read in pairs, where they come in pairs.
    """
    flat = tensor.contiguous().view(-1)
    if flat.element_size() < 8 and len(flat) % 2 == 0:
        flat = flat.clone() if flat.storage_offset() % 2 else flat
        flat = flat.view(torch.int64)
    else:
        flat = flat.view(torch.int64 if flat.element_size() == 8 else torch.int32)
    width = max(math.isqrt(len(flat)), 1)
    rows = flat[: len(flat) // width * width].view(-1, width)
    parts = rows.sum(dim=1, dtype=torch.int64), rows.sum(dim=0, dtype=torch.int64), flat[rows.numel() :].to(torch.int64)
    # Steps so large and odd that no two places have the same sum of weights.
    steps = 0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D, 1
    odd = (2 * torch.arange(1, len(part) + 1, device=flat.device) + 1 for part in parts)
    return torch.stack(
        [step * (numbers * part).sum() for step, numbers, part in zip(steps, odd, parts, strict=True)]
    ).sum()


def _resized(pixels: Tensor, size: int, resize_mode: str, interpolation: str) -> Tensor:
    """Resizes float `[B, 3, H, W]` to `[B, 3, size, size]`, filtered as PIL does."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as vision

    if resize_mode == "longest":
        raise ValueError("loading.resize device cannot pad images; use --loading.resize exact, or model.resize_mode")
    to = [size, size] if resize_mode == "squash" else [size]
    resized = vision.resize(pixels, to, InterpolationMode(interpolation), antialias=True)
    return vision.center_crop(resized, [size, size])
