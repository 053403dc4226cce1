"""Reference images as anchors (ZSCL)."""

import pytest
from made import tiny_backbone
from trees import make

from segp_ext.config import (
    AnchorsConfig,
    LoraConfig,
    MethodConfig,
    PrototypesConfig,
    with_method,
)
from segp_ext.data import load_scenario
from segp_ext.method.learner import SeGPCL
from segp_ext.method.named_parts import check_parts
from segp_ext.run.command_line import parse
from segp_ext.run.preflight import attempts


def test_reference_images_are_needed_and_named(tmp_path):
    with pytest.raises(ValueError, match="anchors.reference must name images"):
        check_parts(with_method(MethodConfig(method="zscl")))
    with pytest.raises(ValueError, match="prototypes.score ridge needs a frozen model"):
        check_parts(MethodConfig(prototypes=PrototypesConfig(score="ridge")))
    learner = SeGPCL(
        tiny_backbone(),
        MethodConfig(method="zscl", lora=LoraConfig(rank=4), anchors=AnchorsConfig(reference=str(tmp_path / "no"))),
    )
    with pytest.raises(ValueError, match="anchors.reference: .* cannot be used"):
        learner.source.images(None, learner.reader)


def test_reference_images_must_be_as_many_as_old_classes(tmp_path):
    make(tmp_path / "reference", {"train/x": 1, "test/x": 1})
    make(tmp_path / "data", {f"{part}/{c}": 6 for part in ("train", "test") for c in ("red", "green", "blue", "cat")})
    message = "anchors.reference must hold at least one image for each of 2 old classes; got 1"
    given = [f"--data.root={tmp_path}/data", f"--anchors.reference={tmp_path}/reference", "--data.classes_per_task=2"]
    config = parse(["--method=zscl", "--model.name=glyph", *given])
    scenario = load_scenario(config.data)
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=message):  # before anything is learnt
        for attempt in attempts(config, scenario, backbone):
            attempt()
    learner = SeGPCL(backbone, config)
    learner.learn_task(scenario.tasks[0].train, scenario.tasks[0].class_names)
    with pytest.raises(ValueError, match=message):
        learner.learn_task(scenario.tasks[1].train, scenario.tasks[1].class_names)
