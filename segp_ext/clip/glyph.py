"""The built-in CLIP, "glyph": a small open_clip model that knows drawn digits and letters. `scripts/pretrain_glyph.py` trained it.

It reads 16×16 pixels, and captions of a few known words. Every other word of CLIP's vocabulary gets a random vector of usual length.
So any class name can be learnt, though it means nothing at first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    import open_clip

WEIGHTS = Path(__file__).parent / "assets" / "glyph.safetensors"
DIGITS = tuple("0123456789")
CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL = tuple("abdefghijlmnqrty")
"""Small letters that differ from their capitals in more than size."""
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
"""Captions used in pre-training; other captions of the same words work too."""
CONTEXT = 12
EMBEDDING = "token_embedding.weight"


def caption_name(glyph: str) -> str:
    """Returns what captions call a glyph; the tokenizer lowers case, so a capital letter is called "capital ..."."""
    return f"capital {glyph.lower()}" if glyph.isupper() else glyph


class GlyphTokenizer:
    """open_clip's tokenizer with other ids: a small range for the words of the pre-training captions, then all others.

    The ids begin with 0 for padding and the words of the captions, in open_clip's order. open_clip's whole vocabulary follows, for all
    other words. The last two ids are the start of text and the end of text. CLIP's pooling needs the end of text to be the highest.
    """

    context_length = CONTEXT

    def __init__(self) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._words = SimpleTokenizer()
        captions = [template.format(caption_name(glyph)) for glyph in GLYPHS for template in TEMPLATES]
        known = sorted({word for caption in captions for word in self._words.encode(caption)})
        self._ids = {word: index + 1 for index, word in enumerate(known)}
        self._glyphs = {self._words.encode(glyph)[0] for glyph in GLYPHS}
        self._article = self._words.encode("a")[0]  # "a" is a letter, too

    @property
    def known_words(self) -> int:
        """Number of words with trained embeddings; their ids are 1 to this."""
        return len(self._ids)

    @property
    def unknown_words(self) -> int:
        """Number of words without trained embeddings; their ids follow the ids of the known words."""
        return len(self._words.encoder)

    @property
    def vocabulary_size(self) -> int:
        """Rows of the token embedding."""
        return 1 + self.known_words + self.unknown_words + 2

    def id_of(self, word: int) -> int:
        """Returns the id of a word, given its id in open_clip's own tokenizer."""
        return self._ids.get(word, 1 + self.known_words + word)

    def unknown(self, text: str) -> bool:
        """Whether the model was not trained on what `text` names: a word is new, or the words do not name exactly one digit or letter."""
        words = self._words.encode(text)
        named = [word for word in words if word in self._glyphs]
        if len(named) > 1:
            named = [word for word in named if word != self._article]
        return any(word not in self._ids for word in words) or len(named) != 1

    def __call__(self, texts: str | list[str], context_length: int = CONTEXT) -> Tensor:
        """Maps strings to token ids, int64 `[N, context_length]`; cuts words that do not fit, and keeps the end of text."""
        rows = [texts] if isinstance(texts, str) else texts
        end = self.vocabulary_size - 1
        result = torch.zeros(len(rows), context_length, dtype=torch.int64, device="cpu")
        for row, text in zip(result, rows, strict=True):
            words = [self.id_of(word) for word in self._words.encode(text)]
            ids = [end - 1, *words[: context_length - 2], end]
            row[: len(ids)] = torch.tensor(ids, device="cpu")
        return result


def in_open_clips_order(embedding: Tensor, tokenizer: GlyphTokenizer) -> Tensor:
    """Returns the rows of a full token embedding in the order of open_clip's own tokenizer, which then reads texts as `tokenizer` does.

    Padding differs: it is the word of id 0 there. Nothing reads it, as text is read from left to right up to its end.
    """
    count = tokenizer.unknown_words
    rows = [tokenizer.id_of(word) for word in range(count - 2)]
    return embedding[[*rows, len(embedding) - 2, len(embedding) - 1]]


def architecture(vocabulary_size: int) -> dict[str, Any]:
    """Returns the arguments of `open_clip.CLIP`: a model of 0.92 M parameters without the embeddings of unknown words."""
    return {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 128, "head_width": 32, "layers": 4},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": vocabulary_size, "width": 64, "heads": 2, "layers": 2},
        "quick_gelu": True,
    }


def build(pretrained: bool = True) -> tuple[open_clip.CLIP, GlyphTokenizer]:
    """Builds the model and its tokenizer.

    Args:
        pretrained: whether to load the trained weights; else torch's generator draws them.
    """
    import open_clip
    from safetensors.torch import load_file

    tokenizer = GlyphTokenizer()
    model = open_clip.CLIP(**architecture(tokenizer.vocabulary_size))
    if pretrained:
        state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
        state[EMBEDDING] = with_unknown_words(state[EMBEDDING], tokenizer)
        model.load_state_dict(state)
    return model, tokenizer


def without_unknown_words(embedding: Tensor, tokenizer: GlyphTokenizer) -> Tensor:
    """Returns the trained rows of a full token embedding, which the file keeps: `[known_words + 3, width]`."""
    return torch.cat([embedding[: 1 + tokenizer.known_words], embedding[-2:]])


def with_unknown_words(trained: Tensor, tokenizer: GlyphTokenizer) -> Tensor:
    """Returns the full token embedding `[vocabulary_size, width]`; other words get random directions of the trained rows' mean length."""
    directions = np.random.RandomState(0).standard_normal((tokenizer.unknown_words, trained.shape[1]))
    unknown = F.normalize(torch.from_numpy(directions).float(), dim=1) * trained[1:-2].norm(dim=1).mean()
    return torch.cat([trained[:-2], unknown, trained[-2:]])
