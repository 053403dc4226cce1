"""Settings: what is refused, and by which name."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from segp_ext.config import Config, DataConfig, MethodConfig, check_settings, from_dict, paper
from segp_ext.config import dotted as by_dotted_name
from segp_ext.config.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"


def test_defaults_are_the_papers():
    values = by_dotted_name(dataclasses.asdict(Config()))
    assert {name: values[name] for name in paper.PAPER} == {name: s.value for name, s in paper.PAPER.items()}


def test_every_setting_of_the_method_is_the_papers_or_ours():
    settings = by_dotted_name(dataclasses.asdict(MethodConfig())).keys() | {"model.name", "model.pretrained"}
    assert paper.PAPER.keys() | paper.OURS.keys() == settings
    assert not paper.PAPER.keys() & paper.OURS.keys()


def test_what_measured_a_setting_names_it():
    for name, ours in (paper.OURS | paper.OTHER_VALUES).items():
        if ours.measured:
            varied = f"{name.partition('=')[0]}="  # the measured value may be the default of the table
            assert varied in (ROOT / ours.measured).read_text(), name
    assert all((ROOT / ours.measured).is_file() for ours in paper.BESIDE_SETTINGS.values() if ours.measured)


def test_help_gives_the_papers_value_beside_its_place():
    assert paper.note("training.optimizer") == "(the paper: sgd, section IV-A.4)"
    assert paper.note("anchors.epsilon").startswith("(the paper: 4/255, equation 10;")


def test_every_choice_of_a_setting_is_the_papers_or_ours():
    for name, stated in paper.PAPER.items():
        section, _, field = name.partition(".")
        hint = get_type_hints(type(getattr(Config(), section)))[field] if field else None
        for choice in get_args(hint) if get_origin(hint) is Literal else ():
            assert choice == stated.value or f"{name}={choice}" in paper.OTHER_VALUES, (name, choice)


def test_other_values_are_settings_that_the_paper_states_otherwise():
    for name in paper.OTHER_VALUES:
        setting, value = name.split("=")
        assert paper.PAPER[setting].value != value
        section, _, field = setting.partition(".")
        check_settings(MethodConfig, {section: {field: value}})


def test_the_page_of_settings_is_that_of_the_code():
    made = subprocess.run(
        [sys.executable, "scripts/settings_page.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text() == made, "run python scripts/settings_page.py > docs/settings.md"


def test_round_trip_through_plain_values():
    config = Config(method="lwf", data=DataConfig(root="photos", order=None))
    assert from_dict(Config, dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"anchors": {"stepz": 3}},
            "no such setting: anchors.stepz; close: anchors.steps; known here: kind, reference, seeds_per_class",
        ),
        ({"colour": 1}, "no such setting: colour"),
        ({"anchors": {"epsilon": -0.1}}, "anchors.epsilon must be 0 or more; got -0.1"),
        ({"anchors": {"step_size": float("nan")}}, "anchors.step_size must be a finite number; got nan"),
        ({"distillation": {"temperature": 0}}, "distillation.temperature must be from 0.001 to 1e.06; got 0"),
        ({"data": {"validation_fraction": 1.0}}, "data.validation_fraction must be between 0 and 1"),
        ({"data": {"order": -1}}, "data.order must be from 0"),
        ({"data": {"name": "digits", "root": "x"}}, "data.root must not be given with data.name digits"),
        ({"template": "a photo"}, "template must be a text with one {}"),
        ({"method": "sgep"}, "method must be one of segp, zero-shot"),
        ({"training": {"batch_size": 0}}, "training.batch_size must be greater than 0"),
        ({"training": {"optimizer": "rmsprop"}}, "training.optimizer must be one of sgd, adamw; got 'rmsprop'"),
        ({"training": {"epochs": 1.5}}, "training.epochs must be a whole number; got 1.5"),
        ({"lora": {"rank": "8"}}, "lora.rank must be a whole number; got '8'"),
        ({"lora": {"targets": [1]}}, r"lora.targets must be .*; got \[1\]"),
        ({"lora": {"targets": []}}, r"lora.targets must be .*; got \[\]"),
        ({"lora": {"alpha": "8"}}, "lora.alpha must be a whole number or null; got '8'"),
        ({"training": {"epochs": 10**400}}, "training.epochs must be at most 2147483647; got a number of 1329 bits"),
        ({"training": {"batch_size": 10**30}}, "training.batch_size must be at most 2147483647; got 10000000"),
        ({"run": {"name": ""}}, "run.name must be a name without folders; they go to run.directory; got ''"),
        ({"lora": 3}, "lora must be a group of settings, .*; got 3"),
    ],
)
def test_refused_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Config, values)


def test_methods_fix_settings_that_exist():
    for fixed in METHODS.values():
        for dotted in fixed:
            section, name = dotted.split(".")
            assert hasattr(getattr(MethodConfig(), section), name), dotted
