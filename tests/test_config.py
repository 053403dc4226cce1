"""Settings: what is refused, and by which name."""

import dataclasses

import pytest

from segp_ext.config import METHODS, Config, DataConfig, MethodConfig, from_dict


def test_defaults_are_the_papers():
    config = MethodConfig()
    assert (config.lora.rank, config.training.optimizer, config.training.learning_rate) == (32, "sgd", 1e-3)
    assert (config.training.epochs, config.training.batch_size) == (10, 128)
    assert (config.anchors.seeds_per_class, config.anchors.steps, config.anchors.step_size) == (5, 10, 1.5e-3)
    assert (config.distillation.weight, config.distillation.temperature) == (5, 20)
    assert (config.text_geometry.weight, config.text_geometry.temperature, config.text_geometry.neighbours) == (
        1,
        0.05,
        10,
    )
    assert (config.inference.beta, config.prototypes.temperature, config.anchors.epsilon) == (0.5, 0.1, 8 / 255)


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
        ({"lora": {"alpha": "8"}}, "lora.alpha must be a whole number or null; got '8'"),
        ({"training": {"epochs": 10**400}}, "training.epochs must be at most 2147483647; got a number of 1329 bits"),
        ({"training": {"batch_size": 10**30}}, "training.batch_size must be at most 2147483647; got 10000000"),
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
