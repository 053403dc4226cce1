"""A tiny CLIP with random weights and made images: the method's tests need neither weights nor data."""

import threading
import zlib

import numpy as np
import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.config import LoadingConfig, MethodConfig
from segp_ext.data.images import Images, Reader
from segp_ext.data.scenario import LabelledImages

CONTEXT = 10
VOCABULARY = 50


class WordTokenizer:
    """One token per word: a hash of it between the padding (0) and the end of the text (the highest id)."""

    def __call__(self, texts, context_length=CONTEXT):
        tokens = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = (
                [1]
                + [2 + zlib.crc32(word.lower().encode()) % (VOCABULARY - 3) for word in text.split()]
                + [VOCABULARY - 1]
            )
            words = words[:context_length]
            words[-1] = VOCABULARY - 1
            row[: len(words)] = torch.tensor(words)
        return tokens


def tiny_clip(seed: int = 0):
    """open_clip's own model, with random weights that the seed fixes."""
    import open_clip

    torch.manual_seed(seed)
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 8, "patch_size": 4, "width": 24, "head_width": 12, "layers": 2, "mlp_ratio": 2.0},
        text_cfg={"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 20, "heads": 2, "layers": 2},
        quick_gelu=True,
    )


def tiny_backbone(seed: int = 0, **options) -> Backbone:
    return Backbone(tiny_clip(seed), WordTokenizer(), "tiny", None, **options)


def made_images(classes: int, per_class: int, seed: int = 0) -> LabelledImages:
    """Images whose class shows in their mean colour, plus noise: uint8 `[3, 8, 8]`."""
    draw = np.random.RandomState(seed)
    colours = np.random.RandomState(1234).randint(40, 216, (16, 3, 1, 1))
    labels = [c for c in range(classes) for _ in range(per_class)]
    pixels = [
        np.clip(colours[(seed + c) % 16] + draw.randint(-40, 41, (3, 8, 8)), 0, 255).astype(np.uint8) for c in labels
    ]
    return LabelledImages(pixels, labels, lambda image: image)


def small_config(**changes) -> MethodConfig:
    """A configuration that trains in a second; `changes` are dotted settings with __ for the dot."""
    config = MethodConfig(template="a photo of {}.")
    config.lora.rank = 4
    config.training.epochs, config.training.batch_size = 2, 8
    config.training.optimizer, config.training.learning_rate = "adamw", 1e-2
    config.anchors.step_size, config.anchors.epsilon = 2e-2, 0.1
    config.anchors.seeds_per_class, config.anchors.steps = 3, 3
    config.prototypes.random_features = 50
    for dotted, value in changes.items():
        section, _, name = dotted.partition("__")
        setattr(getattr(config, section) if name else config, name or section, value)
    return config


def images_of(dataset, backbone: Backbone, **loading) -> Images:
    return Images(dataset, Reader(backbone.transform, LoadingConfig(**loading), backbone.device))


def encoded(learner, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """All embeddings and raw features of `images`, in order."""
    batches = list(learner.encode(images))
    return torch.cat([v for _, v, _ in batches]), torch.cat([z for _, _, z in batches])


def pixels_of(images: Images, indices) -> torch.Tensor:
    return next(images.read([torch.as_tensor(indices)]))[1]


def save_tokenizer(folder, words, template, **special):
    """Writes a Hugging Face tokenizer of one token per word; `special` are its special tokens, `template` says where they go."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = [(word, words.index(word)) for word in template.split() if word != "$A"]
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special).save_pretrained(folder)


def at_once(learner, images):
    """What four threads that ask at the same time are told."""
    start, answers = threading.Barrier(4), []

    def ask():
        start.wait()
        answers.append(learner.predict(images))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
