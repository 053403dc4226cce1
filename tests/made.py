"""Makes a tiny CLIP with random weights, and images, so that the method's tests need neither weights nor data."""

import threading
import zlib

import numpy as np
import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoadingConfig, MethodConfig
from segp_ext.data.images import Images, Reader
from segp_ext.data.scenario import LabelledImages
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed

CONTEXT = 10
VOCABULARY = 50
TEXTS = ["a", "a photo of a red fox", "one two three four five six seven eight"]
"""Strings that fit into the tiny model's context."""


class WordTokenizer:
    """A tokenizer with one token per word, from the word's hash; 0 is padding, 1 starts the string, the highest id ends it."""

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
    """Makes open_clip's own model, with random weights from the seed."""
    import open_clip

    torch.manual_seed(seed)
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 8, "patch_size": 4, "width": 24, "head_width": 12, "layers": 2, "mlp_ratio": 2.0},
        text_cfg={"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 20, "heads": 2, "layers": 2},
        quick_gelu=True,
    )


def tiny_backbone(seed: int = 0, **options) -> Backbone:
    """Makes a backbone of the tiny CLIP; `options` go to `Backbone`."""
    return Backbone(tiny_clip(seed), WordTokenizer(), "tiny", None, **options)


def pixels(count=5, seed=0):
    """Makes random images of the tiny model's size, float `[count, 3, 8, 8]` in [0, 1]."""
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def shake(backbone, seed=1):
    """Gives the adapter a random state that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.trained_parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def made_images(classes: int, per_class: int, seed: int = 0) -> LabelledImages:
    """Makes images, uint8 `[3, 8, 8]`: the mean colour tells the class, and noise is added."""
    draw = np.random.RandomState(seed)
    colours = np.random.RandomState(1234).randint(40, 216, (16, 3, 1, 1))
    labels = [c for c in range(classes) for _ in range(per_class)]
    pixels = [
        np.clip(colours[(seed + c) % 16] + draw.randint(-40, 41, (3, 8, 8)), 0, 255).astype(np.uint8) for c in labels
    ]
    return LabelledImages(pixels, labels, lambda image: image)


def small_config(**changes) -> MethodConfig:
    """Makes a configuration that trains in a second; `changes` are settings by dotted name, with __ for the dot."""
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


def learnt_glyph():
    """Makes a learner on the built-in model that has learnt two tasks of two classes each."""
    config = MethodConfig(min_images_per_class=2)
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(load_clip("glyph"), config)
    learner.learn_task(made_images(2, 4), ["0", "1"])
    learner.learn_task(made_images(2, 4, seed=2), ["2", "3"])
    return learner


def reseal(folder, changed):
    """Replaces files of a checkpoint, by name, and seals it again, so that only its contents can give the change away."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    sealed.seal(folder, {name: content for name, content in {**files, **changed}.items() if name != sealed.SUMS})


def images_of(dataset, backbone: Backbone, **loading) -> Images:
    """Makes `Images` of a data set for a backbone; `loading` are settings of `LoadingConfig`."""
    return Images(dataset, Reader(backbone.transform, LoadingConfig(**loading), backbone.device))


def encoded(learner, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Encodes all images in order; returns embeddings `[N, d]` and raw features `[N, D]`."""
    batches = list(learner.encode(images))
    return torch.cat([v for _, v, _ in batches]), torch.cat([z for _, _, z in batches])


def pixels_of(images: Images, indices) -> torch.Tensor:
    """Reads the pixels of the images at `indices`."""
    return next(images.read([torch.as_tensor(indices)]))[1]


def save_tokenizer(folder, words, template, **special):
    """Writes a Hugging Face tokenizer with one token per word to `folder`.

    Args:
        folder: the folder to write.
        words: the vocabulary; a word's position is its id.
        template: places of the special tokens around the string `$A`.
        **special: special tokens by their role, as `pad_token`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = [(word, words.index(word)) for word in template.split() if word != "$A"]
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special).save_pretrained(folder)


def at_once(learner, images):
    """Predicts the images in four threads at the same time; returns the answer of each thread."""
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
