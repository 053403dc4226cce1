"""Model cards: front matter, classes, numbers and licence; and the code that they tell people to run."""

import json
import re

import pytest
import yaml
from made import learnt_glyph, made_images
from made_clips import local_model
from PIL import Image

from segp_ext import export_learner
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import MethodConfig
from segp_ext.method.calibration import Calibration, PathCalibration
from segp_ext.method.learner import SeGPCL
from segp_ext.serving.model_card import card, licence_of
from segp_ext.serving.source import read_source
from segp_ext.serving.subject import Subject
from segp_ext.storage import sealed

pytestmark = pytest.mark.usefixtures("made_models")


def front_matter(text):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def test_a_folder_for_the_hub_holds_merged_weights_and_a_card_whose_code_runs(tmp_path, monkeypatch, capsys):
    learner = learnt_glyph()
    learner.calibration = Calibration(4, {"text": PathCalibration(temperature=3.0)})
    learner._classifier = None
    done = export_learner(learner, tmp_path / "out", "hub")
    assert done.path == "text" and {"README.md", "open_clip_model.safetensors"} < {
        p.name for p in done.folder.iterdir()
    }
    text = (done.folder / "README.md").read_text()
    assert front_matter(text) == {
        "license": "mit",
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["open_clip", "clip", "image-classification", "continual-learning", "segp-cl"],
    }
    assert "# CLIP that has learnt 4 classes in 2 tasks\n" in text and "| 1 | 0, 1 |\n| 2 | 2, 3 |\n" in text
    assert "was not recorded" in text and "## Numbers" not in text
    assert "resize the short side to 16 pixels" in text and "published under the licence mit" in text
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20), "green").save("image.jpg")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    exec(code.replace("FOLDER", "out"), {})
    named, probability = capsys.readouterr().out.split()
    best = learner.predict("image.jpg", 1, "text")[0][0]
    assert named == best.name and float(probability) == pytest.approx(best.score, abs=1e-4)


def test_a_runs_card_has_its_numbers_and_the_hash_of_its_data(finished):
    checkpoint = max(finished.glob("checkpoints/task-*"))
    learner = SeGPCL.load(checkpoint)
    text = card(Subject(learner, "text", read_source(checkpoint, learner.class_names)))
    protocol = json.loads((finished / "result.json").read_text())["protocol"]
    assert protocol["split_hash"] in text and protocol["hash"] in text
    assert re.search(r"\| segp \(text\) \| \d", text) and "These weights give the row segp (text)." in text
    assert str(finished.parent) not in text


def test_a_result_beside_the_learner_counts_if_it_is_of_the_same_classes(finished, tmp_path):
    last = max(finished.glob("checkpoints/task-*"))
    learner = SeGPCL.load(last)
    learner.save(tmp_path / "saved")
    assert read_source(tmp_path / "saved", learner.class_names).result is None
    (tmp_path / "saved/result.json").write_bytes((finished / "result.json").read_bytes())
    found = read_source(tmp_path / "saved", learner.class_names)
    assert found.result is not None and found.sha256 == sealed.identity(tmp_path / "saved")
    assert read_source(tmp_path / "saved", learner.class_names[:-1]).result is None
    (tmp_path / "saved/result.json").write_text('{"format": 99}')
    with pytest.warns(RuntimeWarning, match="its numbers are left out"):
        assert read_source(tmp_path / "saved", learner.class_names).result is None


def test_names_of_classes_stay_as_they_are(tmp_path):
    learner = SeGPCL(load_clip("glyph"), MethodConfig(method="frozen-prototypes"))
    learner.learn_task(made_images(3, 2), ["<b>x", "a|b", "[x]_*"])
    text = card(Subject(learner, "text", None))
    assert r"| 1 | \<b\>x, a\|b, \[x\]\_\* |" in text


def test_the_licence_is_known_or_other(tmp_path):
    glyph = load_clip("glyph")
    assert (licence_of(glyph), licence_of(load_clip("glyph", None))) == ("mit", "other")
    published = (
        ("ViT-B-16", "openai", "mit"),
        ("ViT-B-16", "laion2b_s34b_b88k", "mit"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", "mit"),
        ("ViT-B-16-SigLIP", "webli", "apache-2.0"),
        ("ViT-B-16", "dfn2b", "other"),
        ("MobileCLIP-B", "datacompdr", "other"),
        ("ViT-H-14-CLIPA-336", "laion2b", "other"),
    )
    for name, tag, licence in published:
        glyph.name, glyph.pretrained = name, tag
        assert licence_of(glyph) == licence
    glyph.name = "ViT-B-16"
    glyph.clip.visual.conv1.weight.data.mul_(2)
    glyph.pretrained = "openai"
    assert licence_of(glyph) == "other"  # weights of one's own


def test_folders_of_this_machine_are_not_named(tmp_path):
    local_model(tmp_path / "secret/model")
    learner = SeGPCL(load_clip(f"local-dir:{tmp_path}/secret/model"), MethodConfig(method="frozen-prototypes"))
    learner.learn_task(made_images(2, 2), ["red", "blue"])
    done = export_learner(learner, tmp_path / "out", "hub")
    for name in ("README.md", "segp_export.json", "classes.json", "open_clip_config.json"):
        assert "secret" not in (done.folder / name).read_text()
    assert front_matter((done.folder / "README.md").read_text())["license"] == "other"
