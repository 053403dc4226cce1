"""What the paper states and what is ours: the defaults, the tables, and the page made from both."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

from segp_ext.config import Config, MethodConfig, check_settings, dotted, setting_types
from segp_ext.config.paper import BESIDE_SETTINGS, OTHER_VALUES, source
from segp_ext.config.setting import facts_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
FACTS = facts_of(Config)
STATED = {  # by hand, from the paper
    "template": "a photo of a {}.", "lora.rank": 32, "lora.encoders": "both", "lora.targets": "kv+ffn", "training.epochs": 10,
    "training.batch_size": 128, "training.optimizer": "sgd", "training.learning_rate": 1e-3, "training.classes": "new",
    "anchors.kind": "dpgd", "anchors.seeds_per_class": 5, "anchors.steps": 10, "anchors.step_size": 1.5e-3, "anchors.epsilon": 4 / 255,
    "anchors.visual_weight": 0.5, "distillation.weight": 5.0, "distillation.temperature": 20.0, "distillation.batch_size": 32,
    "distillation.classes": "all",
    "text_geometry.weight": 1.0, "text_geometry.temperature": 0.05, "text_geometry.neighbours": 10, "prototypes.features": "unit",
    "prototypes.transfer": "own-anchors", "prototypes.score": "cosine", "inference.beta": 0.5, "inference.path": "dual",
    "model.name": "ViT-B-16-quickgelu", "model.pretrained": "openai",
}  # fmt: skip


def test_defaults_are_the_papers():
    values = dotted(dataclasses.asdict(Config()))
    assert {name: values[name] for name, facts in FACTS.items() if facts.paper} == STATED


def test_every_setting_of_the_method_is_the_papers_or_ours():
    for name in facts_of(MethodConfig):
        assert bool(FACTS[name].paper) != bool(FACTS[name].ours), name
    stated = {name for name, facts in FACTS.items() if facts.paper or facts.ours}
    assert stated - facts_of(MethodConfig).keys() == {"model.name", "model.pretrained"}


def test_what_measured_a_setting_names_it():
    measured = {name: facts.measured for name, facts in FACTS.items()}
    for name, file in (measured | {name: choice.measured for name, choice in OTHER_VALUES.items()}).items():
        if file:
            varied = f"{name.partition('=')[0]}="  # the measured value may be the default of the table
            assert varied in (ROOT / file).read_text(), name
    assert sum(map(bool, measured.values())) == 3
    assert all((ROOT / choice.measured).is_file() for choice in BESIDE_SETTINGS.values() if choice.measured)


def test_the_source_is_the_papers_value_with_its_place():
    assert source("training.optimizer") == "the paper: sgd, section IV-A.4"
    assert source("anchors.epsilon").startswith("the paper: 4/255, equation 10;")
    assert (source("seed"), source("run.name")) == ("ours", "")


def test_every_choice_of_a_setting_is_the_papers_or_ours():
    for name in facts_of(MethodConfig).keys() & STATED.keys():
        hint = setting_types(MethodConfig)[name]
        for choice in get_args(hint) if get_origin(hint) is Literal else ():
            assert choice == STATED[name] or f"{name}={choice}" in OTHER_VALUES, (name, choice)


def test_other_values_are_settings_that_the_paper_states_otherwise():
    for name in OTHER_VALUES:
        setting, value = name.split("=")
        assert STATED[setting] != value
        section, _, field = setting.partition(".")
        check_settings(MethodConfig, {section: {field: value}})


def test_the_page_of_settings_is_that_of_the_code():
    made = subprocess.run(
        [sys.executable, "scripts/settings_page.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text() == made, "run python scripts/settings_page.py > docs/settings.md"
