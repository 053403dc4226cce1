"""The CLIP backbone: raw and projected image features, text embeddings, LoRA, and the teacher and reference views of it.

Any open_clip model with open_clip's own vision transformer works, and "glyph", the small model inside this package. open_clip does
the modelling and PEFT the adapters; this module joins them: attention is re-expressed with plain linear layers that LoRA can wrap,
and the vision tower stops before its projection, because prototypes live there.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from segp_ext.config import LoraConfig
from segp_ext.timing import Stopwatch

ADAPTED = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
"""Linear layers of every transformer block that LoRA wraps: packed q, k, v and output projections, and both FFN linears."""


class LinearAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention`, as two linear layers around fused attention.

    `nn.MultiheadAttention` keeps its input projection as a bare parameter, which an adapter cannot wrap.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        width = source.embed_dim
        self.heads = source.num_heads
        self.in_proj = nn.Linear(width, 3 * width, bias=source.in_proj_bias is not None, device="meta")
        self.in_proj.weight = source.in_proj_weight
        self.in_proj.bias = source.in_proj_bias
        self.out_proj = source.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """`query` is `[B, L, E]`; `key` and `value` are the same tensor, as in every CLIP encoder block."""
        batch, length, width = query.shape
        packed = self.in_proj(query).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width)), None


class Backbone(nn.Module):
    """A CLIP model that gives raw and projected features and carries one LoRA adapter.

    Args:
        clip: an open_clip model with open_clip's vision transformer; it is changed in place.
        tokenizer: texts → int64 `[N, L]`, zero-padded, end-of-text token with the highest id.
        name: the model's name, recorded in checkpoints.
        pretrained: weights tag or file it was loaded from, recorded likewise.

    Raises:
        ValueError: for a vision tower without a linear projection, which has no raw feature.
    """

    mean: Tensor  # [1, 3, 1, 1], CLIP's pixel statistics
    std: Tensor

    def __init__(self, clip: nn.Module, tokenizer: Any, name: str, pretrained: str | None) -> None:
        super().__init__()
        import open_clip
        from open_clip.transformer import VisionTransformer

        visual = getattr(clip, "visual", None)
        if not isinstance(clip, open_clip.CLIP) or not isinstance(visual, VisionTransformer) or visual.proj is None:
            raise ValueError(
                f"model {name!r} cannot be used: open_clip's own vision transformer with a linear projection is needed, whose input "
                f"is the raw feature; got {type(clip).__name__} with {type(visual).__name__}"
            )
        for module in clip.modules():
            if isinstance(getattr(module, "attn", None), nn.MultiheadAttention):
                module.attn = LinearAttention(module.attn)
        self.projection = nn.Parameter(visual.proj.detach(), requires_grad=False)  # [Dr, De]
        visual.proj = None
        self.clip: Any = clip.requires_grad_(False).eval()
        self.name, self.pretrained = name, pretrained
        self.tokenizer = tokenizer
        self.image_size = int(visual.image_size[0])
        preprocessing = open_clip.get_model_preprocess_cfg(clip)
        for statistic, default in (("mean", open_clip.OPENAI_DATASET_MEAN), ("std", open_clip.OPENAI_DATASET_STD)):
            value = torch.tensor(preprocessing.get(statistic, default)).view(1, 3, 1, 1)
            self.register_buffer(statistic, value, persistent=False)
        self.stopwatch = Stopwatch()
        self._peft: Any = None
        self._merged: list[
            tuple[Any, Any, Tensor]
        ] = []  # adapted layers while merged: (LoRA, its base layer, base weight)
        self._hash: str | None = None

    # -- what it is ------------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.projection.device

    @property
    def raw_dim(self) -> int:
        """Dr, the width of a raw feature."""
        return self.projection.shape[0]

    @property
    def embed_dim(self) -> int:
        """De, the width of the joint embedding."""
        return self.projection.shape[1]

    @property
    def logit_scale(self) -> float:
        """s, the exponential of CLIP's learned value."""
        return math.exp(float(self.clip.logit_scale))

    def weights_hash(self) -> str:
        """SHA-256 of the pre-trained weights (names, shapes and values), the adapter left out; part of a result's protocol."""
        if self._hash is None:  # they never change
            self.unmerge()
            digest = hashlib.sha256(self.projection.detach().cpu().float().numpy().tobytes())
            for name, parameter in self.clip.named_parameters():
                if ".lora_" not in name:
                    digest.update(name.replace(".base_layer", "").encode())
                    digest.update(str(tuple(parameter.shape)).encode())
                    digest.update(parameter.detach().cpu().float().contiguous().numpy().tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def transform(self, image: Image.Image) -> Tensor:
        """CLIP's own preprocessing up to 8-bit pixels: short side to the input size (bicubic), centre crop; uint8 `[3, S, S]`."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as vision

        resized = vision.resize(image, self.image_size, InterpolationMode.BICUBIC)
        return vision.pil_to_tensor(vision.center_crop(resized, self.image_size))

    # -- features --------------------------------------------------------------------------------------------------------------

    def to_unit(self, pixels: Tensor) -> Tensor:
        """uint8 pixels → float32 `[B, 3, S, S]` in [0, 1] on the model's device; resized there if they have another size."""
        unit = pixels.to(self.device, non_blocking=True).to(torch.float32)
        size = self.image_size
        if unit.shape[-2:] != (size, size):
            unit = _resized(unit, size).round_().clamp_(0, 255)  # PIL's results are 8-bit too
        return unit.div_(255)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            pixels: `[B, 3, S, S]` in [0, 1], float; normalised by CLIP's mean and standard deviation in here.

        Returns:
            The projected embedding v `[B, De]` and the raw feature z `[B, Dr]` it was projected from, neither normalised.
        """
        with self.stopwatch.running(self.device):
            feature = self.clip.visual((pixels - self.mean) / self.std)
            return feature @ self.projection, feature

    def gradient(self, pixels: Tensor, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Gradient to `pixels` of what `encode_image` made of them, given the gradients of the outputs."""
        with self.stopwatch.running(self.device):
            return torch.autograd.grad(outputs, pixels, gradients)[0]

    def backward(self, output: Tensor, gradient: Tensor) -> None:
        """Adds to the adapter's gradients those of an output of `encode_image` or `encode_text`, given its gradient."""
        with self.stopwatch.running(self.device):
            output.backward(gradient)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts → token ids int64 `[N, L]` on the model's device, L the longest text's length.

        Cutting the padding leaves embeddings as they are: the text tower is causal and pools at the end-of-text token.

        Raises:
            ValueError: naming the first text that does not fit the context.
        """
        context = self.clip.context_length
        # Tokenizers truncate silently; one place more than the model has shows which texts would lose words.
        tokens = self.tokenizer(list(texts), context_length=context + 1)
        lengths = (tokens != 0).sum(dim=1)
        for index in (lengths > context).nonzero().flatten().tolist():
            raise ValueError(
                f"prompt does not fit the {context} tokens of {self.name}'s text context: {texts[index]!r}"
            )
        length = int(lengths.max()) if len(texts) else 1
        return tokens[:, :length].to(self.device)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encodes token ids `[C, L]` from `tokenize`; returns embeddings `[C, De]`, not normalised."""
        with self.stopwatch.running(self.device):
            return self._encode_text(tokens)

    def _encode_text(self, tokens: Tensor) -> Tensor:
        from open_clip.transformer import text_global_pool

        clip, length = self.clip, tokens.shape[1]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        x = clip.transformer(x, attn_mask=None if clip.attn_mask is None else clip.attn_mask[:length, :length])
        pooled = text_global_pool(
            clip.ln_final(x), tokens, clip.text_pool_type, eos_token_id=getattr(clip, "text_eos_id", None)
        )
        projection = clip.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection

    # -- adaptation ------------------------------------------------------------------------------------------------------------

    def adapt(self, config: LoraConfig, seed: int) -> None:
        """Puts a fresh LoRA adapter on the chosen encoders: A random orthonormal and frozen, B zero (PEFT's LoRA).

        Raises:
            ValueError: if the rank exceeds a layer's width, or an adapter is there already.
        """
        from peft import LoraConfig as PeftLoraConfig
        from peft import get_peft_model

        if self._peft is not None:
            raise ValueError("this backbone carries an adapter already; a learner needs a backbone of its own")
        towers = {"vision": "visual.transformer.", "text": "transformer."}
        prefixes = tuple(towers.values()) if config.encoders == "both" else (towers[config.encoders],)
        targets = [
            name
            for name, module in self.clip.named_modules()
            if isinstance(module, nn.Linear) and name.startswith(prefixes) and name.endswith(ADAPTED)
        ]
        for name in targets:
            width = self.clip.get_submodule(name).in_features
            if config.rank > width:
                raise ValueError(
                    f"lora.rank must be at most {width}, the width of {name} in {self.name}; got {config.rank}"
                )
        scale_numerator = config.rank if config.alpha is None else config.alpha
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT warns of target modules that its own registry does not know
            torch.manual_seed(seed)
            # A pattern, because PEFT matches a list by suffix, and the text tower's names are suffixes of the vision tower's.
            pattern = "|".join(re.escape(name) for name in targets)
            settings = PeftLoraConfig(r=config.rank, lora_alpha=scale_numerator, target_modules=pattern)
            self._peft = get_peft_model(self.clip, settings)
            for name, parameter in self.clip.named_parameters():
                if ".lora_A." in name:
                    start = torch.empty(parameter.shape, dtype=torch.float32)
                    parameter.data.copy_(nn.init.orthogonal_(start))
                    parameter.requires_grad_(False)
        self.clip.eval()

    def trained_parameters(self) -> list[nn.Parameter]:
        """The matrices B of the adapter."""
        return [p for name, p in self.clip.named_parameters() if ".lora_B." in name]

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's tensors, named as PEFT saves them; empty without an adapter."""
        if self._peft is None:
            return {}
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(self._peft)

    def adapter_config(self) -> dict[str, Any] | None:
        """The adapter's settings as PEFT writes them beside its tensors."""
        if self._peft is None:
            return None
        settings = self._peft.peft_config["default"].to_dict()
        return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Loads tensors from `adapter_state` into the adapter.

        Raises:
            ValueError: if names or shapes differ.
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
        set_peft_model_state_dict(self._peft, state)

    def merge(self) -> None:
        """Merges the adapter into the weights: the same function, with no adapter cost and no gradient but to the inputs.

        Stays so until `unmerge`; nothing is done if it is merged already. The base weights are kept aside meanwhile, as merging rounds.
        """
        from peft.tuners.lora import Linear as LoraLinear

        if self._merged:
            return
        for parameter in self.trained_parameters():
            parameter.requires_grad_(False)
        for module in self.clip.modules():
            if isinstance(module, LoraLinear):
                layer: Any = module.get_base_layer()
                self._merged.append((module, layer, layer.weight.data))
                layer.weight.data = layer.weight.data.clone()
                module.merge()

    def unmerge(self) -> None:
        """Takes the adapter out of the weights again, which are then what they were, to the bit."""
        if not self._merged:
            return
        for module, layer, original in self._merged:
            module.unmerge()
            layer.weight.data = original
        self._merged.clear()
        for parameter in self.trained_parameters():
            parameter.requires_grad_(True)

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
        """The pre-trained model, adapter off: G⁰ of the text geometry."""
        self.unmerge()
        if self._peft is None:
            yield
        else:
            with self._peft.disable_adapter():
                yield


def _resized(pixels: Tensor, size: int) -> Tensor:
    """Short side to `size` (bicubic, as PIL filters), centre crop; float `[B, 3, H, W]` → `[B, 3, size, size]`."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as vision

    resized = vision.resize(pixels, [size], InterpolationMode.BICUBIC, antialias=True)
    return vision.center_crop(resized, [size, size])


def load_clip(name: str = "ViT-B-16-quickgelu", pretrained: str | None = "openai", device: str = "auto") -> Backbone:
    """Loads a CLIP model.

    Args:
        name: an open_clip model name (`open_clip.list_models()`), or "glyph", the small model in this package.
        pretrained: open_clip weights tag, or a local checkpoint file (loaded with `weights_only=True`); None for random weights.
            Ignored by "glyph", whose weights come with the package.
        device: a torch device; "auto" takes CUDA where it is usable.

    Raises:
        ValueError: for an unknown model, weights tag or device, weights that cannot be had, or a model without a raw feature.
        FileNotFoundError: if `pretrained` looks like a file and is none.
    """
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"model.device must be auto, cpu, cuda or cuda:<n>; got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"model.device is {device!r}, but this torch ({torch.__version__}) sees no usable CUDA device")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"model.device is {device!r}, but only {torch.cuda.device_count()} CUDA device(s) are there")
    if name == "glyph":
        from segp_ext import glyph

        clip, tokenizer = glyph.build()
        return Backbone(clip, tokenizer, name, None).to(chosen)

    import open_clip

    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, [*open_clip.list_models(), "glyph"], n=3, cutoff=0.4)
        raise ValueError(
            f"no model named {name!r}; close names: {', '.join(close) or 'none'}; all: open_clip.list_models(), and glyph"
        )
    if pretrained is not None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not Path(pretrained).is_file() and pretrained.lower() not in tags:
            if "/" in pretrained or Path(pretrained).suffix:
                raise FileNotFoundError(f"model.pretrained: no weights file {pretrained!r}")
            raise ValueError(
                f"model.pretrained: {name} has no weights {pretrained!r}; tags: {', '.join(tags)}; or a local file"
            )
    # Weights trained with QuickGELU need it; their tag says so, the model's name does not always.
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained is not None else {}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights are always the same ones, so that a checkpoint can be loaded again
            clip = open_clip.create_model(
                name, pretrained=pretrained, precision="fp32", force_quick_gelu=bool(tag.get("quick_gelu", False))
            )
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"could not load weights {pretrained!r} of {name}: {error}\n"
            "Without a network, give a local checkpoint file as model.pretrained, or use --model.name glyph."
        ) from error
    return Backbone(clip, open_clip.get_tokenizer(name), name, pretrained).to(chosen)
