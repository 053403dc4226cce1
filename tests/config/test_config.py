"""Settings: what is refused, and by which name."""

import dataclasses

import pytest

from segp_ext.config import Config, DataConfig, MethodConfig, from_dict
from segp_ext.config.methods import METHODS


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
        ({"template": "a photo"}, "template must be a string with one {}"),
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
        ({"run": {"name": ""}}, "run.name must be a name without folders, which belong into run.directory; got ''"),
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
