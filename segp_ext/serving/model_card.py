"""The format hub: merged weights with a model card, as the Hugging Face hub takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.model_names import HUB, OWN
from segp_ext.report.result import RunResult
from segp_ext.report.run_tables import seen_table
from segp_ext.report.table import markdown_table
from segp_ext.serving.facts import CLASSES, FACTS, classes_of, model_facts, preprocessing_of
from segp_ext.serving.merged_weights import PROTOTYPES, merged_files
from segp_ext.serving.subject import Subject

CARD = "README.md"
"""Name of the file, which the hub shows as the model's page."""
_LICENCES = {"openai": "mit", "laion": "mit", "datacomp_": "mit", "webli": "apache-2.0"}
"""Licence of published weights, as the hub spells it, by the beginnings of their tags in open_clip (datacompdr is MobileCLIP's)."""
_OWN_TERMS = "CLIPA"
"""Models with this in their name share tags of others, but come from other authors."""
_LOADING = f"""\
```python
import json
from pathlib import Path

import open_clip
import torch
from PIL import Image

place = "local-dir:FOLDER"  # or hf-hub:USER/NAME, with {CLASSES} and {FACTS} from there
model, _, preprocess = open_clip.create_model_and_transforms(place)
tokenizer = open_clip.get_tokenizer(place)
model.eval()
classes, facts = (json.loads(Path("FOLDER", name).read_text("utf-8")) for name in ("{CLASSES}", "{FACTS}"))
classes = classes["classes"]
with torch.no_grad():
    texts = [model.encode_text(tokenizer(entry["prompts"]), normalize=True).mean(dim=0) for entry in classes]
    text = torch.nn.functional.normalize(torch.stack(texts), dim=-1)
    image = model.encode_image(preprocess(Image.open("image.jpg").convert("RGB")).unsqueeze(0), normalize=True)
    scores = model.logit_scale.exp() * image @ text.T
probabilities = (scores.double() / facts["temperature"]).softmax(dim=1)
print(classes[int(probabilities.argmax())]["name"], float(probabilities.max()))
```"""


def hub_files(subject: Subject, metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Writes a learner's merged weights and its model card; returns the files' contents by name."""
    return {**merged_files(subject, metadata), CARD: card(subject).encode()}


def licence_of(backbone: Backbone) -> str:
    """Returns the licence of a backbone's published weights, as the hub spells it; "other" if it is not known."""
    if backbone.has_other_weights() or backbone.place is not None or backbone.pretrained is None:
        return "other"
    if _OWN_TERMS in backbone.name:
        return "other"
    if backbone.name == "glyph":
        return "mit" if backbone.pretrained == OWN else "other"
    found = (licence for tag, licence in _LICENCES.items() if backbone.pretrained.startswith(tag))
    return next(found, "other")


def card(subject: Subject) -> str:
    """Writes the model card: front matter for the hub, classes, data, numbers, loading, preprocessing and licence.

    Nothing in it names a folder of this machine. Numbers stand there if the run's result is beside the learner.
    """
    learner = subject.learner
    tasks, count = len({record.task for record in learner.records}), len(learner.class_names)
    model = model_facts(learner.backbone)
    result = None if subject.source is None else subject.source.result
    weights = {None: "random weights", OWN: "its own weights"}.get(
        model["pretrained"], f"the weights {model['pretrained']}"
    )
    sections = [
        _front_matter(learner.backbone),
        f"# CLIP that has learnt {_counted(count, 'class', 'classes')} in {_counted(tasks, 'task', 'tasks')}",
        f"{_plain(model['name'])} with {_plain(weights)}, taught by the method {_plain(learner.config.method)} of segp_ext (SeGP-CL, "
        "[arXiv 2603.12055](https://arxiv.org/abs/2603.12055)). The adapter is merged into the weights, which give the scores of the text "
        f"path. `{CLASSES}` lists the classes with their prompts, `{PROTOTYPES}` holds their prototypes, and `{FACTS}` all other facts.",
        "## Classes",
        _class_table(classes_of(learner)),
        "## Data",
        _data(result),
        *([] if result is None else ["## Numbers", _numbers(result)]),
        "## How to load",
        _LOADING,
        "## Preprocessing",
        f"An image becomes the input like this: {preprocessing_of(learner)['steps']}. The model's mean and deviation then normalise it.",
        "## Licence",
        _licence(learner.backbone),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(backbone: Backbone) -> str:
    base = [f"base_model: {backbone.name.removeprefix(HUB)}"] if backbone.name.startswith(HUB) else []
    lines = [
        f"license: {licence_of(backbone)}",
        "library_name: open_clip",
        "pipeline_tag: zero-shot-image-classification",
        *base,
        "tags: [open_clip, clip, image-classification, continual-learning, segp-cl]",
    ]
    return "\n".join(["---", *lines, "---"])


def _class_table(classes: Sequence[Mapping[str, Any]]) -> str:
    tasks: dict[int, list[str]] = {}
    for entry in classes:
        tasks.setdefault(entry["task"], []).append(_plain(entry["name"]))
    return markdown_table(
        [["task", "classes"], *([str(task), ", ".join(names)] for task, names in tasks.items())], False
    )


def _data(result: RunResult | None) -> str:
    if result is None:
        return "Which images it learnt from was not recorded beside the learner."
    facts = result.protocol
    images = sum(task.images for task in result.tasks)
    return (
        f"It learnt from {images:,} training images of {_plain(facts.get('data', 'an unnamed set'))}. SHA-256 of the split: "
        f"`{facts.get('split_hash')}`; of the whole protocol: `{facts.get('hash')}`."
    )


def _numbers(result: RunResult) -> str:
    table = seen_table(result)
    rows = [[_plain(str(row[0])), *row[1:]] for row in table.rows]
    note = (
        f"These weights give the row {_plain(result.method)} (text)."
        if any(row.path == "text" for row in result.own)
        else ""
    )
    return "\n\n".join([f"{table.caption}. {note}".strip(), markdown_table([table.header, *rows]), table.legend_text()])


def _licence(backbone: Backbone) -> str:
    found = licence_of(backbone)
    if found == "other":
        return "The licence of the weights that it began from is not known here: look it up before you share this, and name it above."
    return f"The weights that it began from were published under the licence {found}. The licence of your images may ask for more."


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _plain(text: object) -> str:
    """Writes text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>#&~])", r"\\\1", str(text)).replace("\n", " ")
