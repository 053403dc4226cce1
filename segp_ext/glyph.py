"""The built-in CLIP, "glyph": a small open_clip model that knows drawn digits and letters. `scripts/pretrain_glyph.py` trained it.

It reads 16×16 pixels and captions of a few known words. Other words get rows of random vectors, so that any class name can be learnt,
though it means nothing at first.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import open_clip

WEIGHTS = Path(__file__).parent / "assets" / "glyph.safetensors"
DIGITS = tuple("0123456789")
CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL = tuple("abdefghijlmnqrty")
"""Small letters whose shapes are not their capitals' in small."""
GLYPHS = DIGITS + CAPITALS + SMALL
TEMPLATES = (
    "a photo of a {}.",
    "a good photo of a {}.",
    "a photo of the {}.",
    "a photo of the digit or letter {}.",
    "a photo of the digit {}.",
    "a drawing of a {}.",
    "a handwritten {}.",
    "{}.",
)
"""Captions used in pre-training; others built from the same words work too."""
CONTEXT = 12
_UNKNOWN_ROWS = 1021  # prime, so that ids of neighbouring words spread out


def caption_name(glyph: str) -> str:
    """What captions call a glyph. The tokenizer lowers case, so capitals are named as such."""
    return f"capital {glyph.lower()}" if glyph.isupper() else glyph


class GlyphTokenizer:
    """open_clip's tokenizer with its ids remapped to a small range.

    Ids: 0 padding, then the words of the pre-training captions in open_clip's order, then rows for all other words (a word's id modulo
    a prime), start of text, end of text. The end of text stays the highest, which CLIP's pooling needs.
    """

    context_length = CONTEXT

    def __init__(self) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._words = SimpleTokenizer()
        captions = [template.format(caption_name(glyph)) for glyph in GLYPHS for template in TEMPLATES]
        known = sorted({word for caption in captions for word in self._words.encode(caption)})
        self._ids = {word: index + 1 for index, word in enumerate(known)}

    @property
    def known_words(self) -> int:
        """Number of words with trained embeddings; their ids are 1 to this."""
        return len(self._ids)

    @cached_property
    def vocabulary_size(self) -> int:
        """Rows of the token embedding."""
        return 1 + len(self._ids) + _UNKNOWN_ROWS + 2

    def unknown(self, text: str) -> bool:
        """Whether `text` has a word that the model was not trained on."""
        return any(word not in self._ids for word in self._words.encode(text))

    def __call__(self, texts: str | list[str], context_length: int = CONTEXT) -> Tensor:
        """Texts → token ids, int64 `[N, context_length]`; what does not fit is cut, the end of text kept."""
        rows = [texts] if isinstance(texts, str) else texts
        end = self.vocabulary_size - 1
        result = torch.zeros(len(rows), context_length, dtype=torch.int64)
        for row, text in zip(result, rows, strict=True):
            words = [
                self._ids.get(word, 1 + len(self._ids) + word % _UNKNOWN_ROWS) for word in self._words.encode(text)
            ]
            ids = [end - 1, *words[: context_length - 2], end]
            row[: len(ids)] = torch.tensor(ids)
        return result


def architecture(vocabulary_size: int) -> dict[str, Any]:
    """Arguments of `open_clip.CLIP`: 0.99 M parameters."""
    return {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 128, "head_width": 32, "layers": 4},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": vocabulary_size, "width": 64, "heads": 2, "layers": 2},
        "quick_gelu": True,
    }


def build(pretrained: bool = True) -> tuple[open_clip.CLIP, GlyphTokenizer]:
    """Builds the model, with its trained weights or freshly initialised from torch's generator; and its tokenizer."""
    import open_clip
    from safetensors.torch import load_file

    tokenizer = GlyphTokenizer()
    model = open_clip.CLIP(**architecture(tokenizer.vocabulary_size))
    if pretrained:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return model, tokenizer
