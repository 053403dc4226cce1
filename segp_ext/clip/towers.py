"""The towers of open_clip's models behind one interface: a vision tower that gives raw feature and embedding, and a text tower.

A vision tower is open_clip's own transformer or one of timm. The raw feature is the input of the projection into the joint space. It
exists where a tower pools first and projects last. Towers that do both at once have no raw feature, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORKS = "what works are vision towers that pool first and project last, open_clip's ViT or timm's: ViT-*, *SigLIP*, EVA*, convnext_* ..."
"""The end of the error for a model that cannot be used."""


class LinearAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention`, as linear layers around fused attention.

    `nn.MultiheadAttention` keeps its input projection as a bare parameter, which an adapter cannot wrap. Here queries have a layer of their
    own, so that an adapter can leave them out.

    Args:
        source: the `nn.MultiheadAttention`; its weights are shared, not copied.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.heads = source.num_heads
        self.q_proj, self.kv_proj = split_projection(source.in_proj_weight, source.in_proj_bias)
        self.out_proj = source.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attends within `query` `[B, L, E]`; `key` and `value` must be the same tensor, as in every block of a CLIP encoder."""
        q, k, v = self.split(query)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(query.shape)), None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projects x `[B, L, E]` to queries, keys and values, each `[B, heads, L, E / heads]`."""
        batch, length, width = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        k, v = self.kv_proj(x).view(batch, length, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v


class NormedLinearAttention(LinearAttention):
    """`LinearAttention` for open_clip's custom blocks, with norms on queries, keys and mixed values, and a scale per head.

    Args:
        source: open_clip's `Attention`; its weights are shared, not copied.
    """

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self.ln_q, self.ln_k, self.ln_inner = source.ln_q, source.ln_k, source.ln_inner
        self.head_scale = source.head_scale

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Attends within `x` `[B, L, E]`."""
        q, k, v = self.split(x)
        mixed = F.scaled_dot_product_attention(self.ln_q(q), self.ln_k(k), v, attn_mask=attn_mask)
        if self.head_scale is not None:
            mixed = mixed * self.head_scale
        return self.out_proj(self.ln_inner(mixed.transpose(1, 2).reshape(x.shape)))


class SplitLinear(nn.Module):
    """Splits timm's linear layer `qkv`, whose rows are queries, keys and values, into one layer of queries and one of keys and values.

    Args:
        source: the layer; its weights are shared, not copied.
        plain_carries: whether timm calls `source`, so that an adapter on it does something.
    """

    def __init__(self, source: nn.Linear, plain_carries: bool) -> None:
        super().__init__()
        self.q_proj, self.kv_proj = split_projection(source.weight, source.bias)
        self.plain_carries = plain_carries

    def forward(self, x: Tensor) -> Tensor:
        """Projects x `[..., D]` to `[..., 3E]`: queries, keys, values."""
        return torch.cat([self.q_proj(x), self.kv_proj(x)], dim=-1)


def split_projection(weight: Tensor, bias: Tensor | None) -> tuple[nn.Linear, nn.Linear]:
    """Splits a packed projection into a layer of its first E rows and a layer of the other 2E rows.

    Args:
        weight: `[3E, D]`; the layers' weights are views of it.
        bias: `[3E]` or None; likewise.
    """
    rows = len(weight) // 3
    layers = []
    for part in (slice(None, rows), slice(rows, None)):
        layer = nn.Linear(weight.shape[1], len(weight[part]), bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.detach()[part], requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach()[part], requires_grad=False)
        layers.append(layer)
    return layers[0], layers[1]


_QUERIES_FIRST = {
    "timm.layers.attention", "timm.models.beit", "timm.models.eva", "timm.models.fastvit", "timm.models.swin_transformer",
    "timm.models.vision_transformer", "timm.models.vision_transformer_relpos",
}  # fmt: skip
"""Modules of timm whose `qkv` has the rows of all queries, then of all keys, then of all values; elsewhere heads may come first."""


def make_adaptable(clip: nn.Module) -> None:
    """Rewrites an open_clip model in place, so that every layer of its blocks can carry an adapter, and keys and values without queries.

    Packed projections of queries, keys and values become two layers. Layers whose weights were read without calling them are called.
    Outputs stay the same up to rounding, and no weight is copied.
    """
    from open_clip.transformer import Attention, CustomResidualAttentionBlock, ResidualAttentionBlock

    for module in list(clip.modules()):
        block: Any = module
        if isinstance(module, ResidualAttentionBlock) and isinstance(block.attn, nn.MultiheadAttention):
            block.attn = LinearAttention(block.attn)
        elif isinstance(module, CustomResidualAttentionBlock) and isinstance(block.attn, Attention):
            block.attn = NormedLinearAttention(block.attn)
        elif type(module).__module__ in _QUERIES_FIRST and isinstance(getattr(module, "qkv", None), nn.Linear):
            # EVA reads the layer's weight without calling it, and keeps the bias elsewhere. With this flag it calls the layer, then adds
            # the bias.
            passed_by = hasattr(module, "qkv_bias_separate") and block.q_bias is not None
            if hasattr(module, "qkv_bias_separate"):
                block.qkv_bias_separate = True
            block.qkv = SplitLinear(block.qkv, plain_carries=not passed_by)


class Vision:
    """A vision tower, which maps pixels to an embedding v and a raw feature z.

    Args:
        clip: an open_clip model; the projection is taken out of its tower where that hides the raw feature.
        name: the model's name, for messages.

    Attributes:
        projection: W `[Dr, De]` where it was taken out, else None.
        raw_dim, embed_dim: Dr and De.
        projects: False for towers without a projection (SigLIP), whose raw feature is the embedding.
        image_size: side of the square input, in pixels.

    Raises:
        ValueError: for a tower without a raw feature, or with an input that is not square.
    """

    def __init__(self, clip: Any, name: str) -> None:
        from open_clip.coca_model import CoCa
        from open_clip.timm_model import TimmModel
        from open_clip.transformer import Attention, VisionTransformer

        def refused(reason: str) -> ValueError:
            return ValueError(f"model {name!r} cannot be used: {reason}; {WORKS}")

        tower = getattr(clip, "visual", None)
        self.projection: nn.Parameter | None = None
        self.projects = True
        self._project: Callable[[Tensor], Tensor] | None = None
        self._raw: Callable[[Tensor], Tensor] = tower  # type: ignore[assignment]
        if isinstance(clip, CoCa):
            raise refused("a captioning model, whose text tower has a second task")
        if any(isinstance(m, Attention) and m.logit_scale is not None for m in clip.modules()):
            raise refused("its scaled cosine attention does not run in open_clip itself")
        if isinstance(tower, VisionTransformer):
            if tower.proj is None:
                raise refused("its vision transformer has no projection")
            if tower.pool_type == "none":
                raise refused("its vision transformer gives a feature per token, not one per image")
            tower.output_tokens = False
            self.projection = nn.Parameter(tower.proj.detach(), requires_grad=False)
            tower.proj = None
            self.raw_dim, self.embed_dim = self.projection.shape
        elif isinstance(tower, TimmModel):
            trunk: Any = tower.trunk
            self.raw_dim = self.embed_dim = getattr(trunk, "head_hidden_size", None) or trunk.num_features
            if "pool" in dict(tower.head.named_children()):
                raise refused("its tower pools and projects in one attention layer, so there is no raw feature")
            classifier = trunk.get_classifier()
            if len(tower.head):
                self._raw, self._project = trunk, tower.head
            elif isinstance(classifier, nn.Linear):
                self._trunk, self._raw, self._project = trunk, self._pooled, classifier
            else:
                self.projects = False
            if self._project is not None:
                last = [m for m in tower.head.modules() if isinstance(m, nn.Linear)] or [classifier]
                self.embed_dim = last[-1].out_features
        else:
            raise refused(f"a tower of type {type(tower).__name__} has no raw feature before its projection")
        height, width = tower.image_size if isinstance(tower.image_size, (tuple, list)) else (tower.image_size,) * 2
        if height != width:
            raise refused(f"its input of {height}×{width} pixels is not square")
        self.image_size = int(height)

    def _pooled(self, pixels: Tensor) -> Tensor:
        return self._trunk.forward_head(self._trunk.forward_features(pixels), pre_logits=True)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps normalised pixels `[B, 3, S, S]` to v `[B, De]` and z `[B, Dr]`."""
        feature = self._raw(pixels)
        return self.project(feature), feature

    def project(self, feature: Tensor) -> Tensor:
        """Projects z `[B, Dr]` to v `[B, De]`."""
        if self.projection is not None:
            return feature @ self.projection
        return feature if self._project is None else self._project(feature)


class Text:
    """A text tower, which maps token ids to embeddings u.

    In some towers, tokens after the end of a text change nothing. Such towers are causal and pool at the end-of-text token, or come from
    transformers and mask the padding. They get token ids cut to the longest text. Other towers (SigLIP, CLIPA) read the padding too,
    and get their whole context.

    Args:
        clip: an open_clip model.
        tokenizer: the model's tokenizer.
        name: the model's name, for messages.

    Attributes:
        context: number of tokens that a text may have, with its beginning and end.
        cuts: whether token ids are cut to the longest text.
    """

    def __init__(self, clip: Any, tokenizer: Any, name: str) -> None:
        from open_clip.hf_model import HFTextEncoder

        self.clip, self.tokenizer, self.name = clip, tokenizer, name
        self._tower = tower = getattr(clip, "text", clip)
        if tower is not clip:
            tower.output_tokens = False
        words = getattr(tokenizer, "tokenizer", None)  # of a Hugging Face tokenizer
        self._padding: int = 0 if words is None or words.pad_token_id is None else words.pad_token_id
        # open_clip's own tokenizer pads with 0, which is also "!" inside a word: only zeros after the last other token are padding.
        self._pads_with_a_word = words is None
        self._hides_end = words is not None and (
            words.pad_token_id == words.eos_token_id
            or (self._padding == 0 and getattr(tokenizer, "strip_sep_token", False))
        )
        self.context: int = clip.context_length
        self._pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
        causal = getattr(tower, "attn_mask", None) is not None
        self._pools_at_end = causal and self._pool in ("argmax", "eos") and getattr(tower, "cls_emb", None) is None
        self.cuts = self._pools_at_end
        if isinstance(tower, HFTextEncoder):
            # The tower's limit, if it has one, is the language model's; CLIP was trained with the tokenizer's.
            self.context = min(tokenizer.context_length, tower.context_length or tokenizer.context_length)
            self.cuts = tower.config.pad_token_id == self._padding

    def tokenize(self, texts: list[str]) -> Tensor:
        """Maps strings to token ids, int64 `[N, L]`; L is the longest text's length, or the context where padding counts.

        Raises:
            ValueError: naming the strings that do not fit the context.
        """
        if not texts:
            return torch.zeros(0, self.context, dtype=torch.int64, device="cpu")
        # Tokenizers truncate silently. With more places than the model has, texts that are too long show.
        tokens = self._tokens(texts, self.context + 2)
        real = tokens != self._padding
        if self._pads_with_a_word:
            real = real.flip(1).cummax(dim=1).values.flip(1)
        lengths = real.sum(dim=1) + self._hides_end
        long = [texts[index] for index in (lengths > self.context).nonzero().flatten().tolist()]
        if long:
            shown = ", ".join(repr(shorten(text, 120, placeholder=" ...")) for text in long[:3])
            more = f" and {len(long) - 3} more" if len(long) > 3 else ""
            raise ValueError(
                f"prompt does not fit the {self.context} tokens of {self.name}'s text context: {shown}{more}; shorten the "
                "class name or the prompt"
            )
        if self.cuts:
            return tokens[:, : int(lengths.max())]
        return self._tokens(texts, self.context)

    def _tokens(self, texts: list[str], length: int) -> Tensor:
        with torch.device("cpu"):
            return self.tokenizer(texts, context_length=length)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Maps token ids `[N, L]` from `tokenize` to embeddings u `[N, De]`."""
        from open_clip.transformer import text_global_pool

        if not self._pools_at_end:
            return self.clip.encode_text(tokens)
        tower, length = self._tower, tokens.shape[1]
        x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        end = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)
        pooled = text_global_pool(tower.ln_final(x), tokens, self._pool, eos_token_id=end)
        projection = tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
