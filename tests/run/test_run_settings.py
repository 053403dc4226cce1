"""load_config gives what the command line gives, from Python."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import yaml

import segp_ext
from segp_ext import load_config
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.config.settings_files import preset_names
from segp_ext.run.command_line import parse


@pytest.mark.parametrize("name", preset_names())
def test_every_file_of_the_package_gives_the_same_both_ways(name):
    assert load_config(name) == parse(["--config", name])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_gives_the_same_both_ways(name):
    assert load_config(protocol=name) == parse(["--protocol", name])
    changed = load_config("clip", protocol=name, changes={"data.order": 3, "template": "a {}."})
    assert changed == parse(["--config=clip", "--protocol", name, "--data.order=3", "--template=a {}."])
    assert changed.protocol == name and changed.data.order == 3


CHANGES = [
    ({}, []),
    ({"training.epochs": 3}, ["--training.epochs=3"]),
    ({"training": {"epochs": 3, "batch_size": 8}}, ["--training={epochs: 3, batch_size: 8}"]),
    ({"data": {"root": Path("photos")}, "seed": 2}, ["--data.root=photos", "--seed=2"]),
    ({"data.root": "x", "data.name": "cub200"}, ["--data.root=x", "--data.name=cub200"]),
    ({"held_out": (Path("a"), "digits")}, ["--held_out=[a, digits]"]),
    ({"data.order": None, "anchors.kind": None}, ["--data.order=none", "--anchors.kind=none"]),
    (
        {"training.learning_rate": "1e-3", "training.epochs": 1e1},
        ["--training.learning_rate=1e-3", "--training.epochs=1e1"],
    ),
    ({"method": "lwf", "protocol": "segp-cub200"}, ["--method=lwf", "--protocol=segp-cub200"]),
    ({"protocol": None}, ["--protocol=none"]),
]


@pytest.mark.parametrize(("changes", "arguments"), CHANGES)
def test_changes_are_options(changes, arguments):
    assert load_config(changes=changes) == parse(arguments)


def test_files_stand_in_their_order_and_before_the_protocol_that_they_name(tmp_path):
    (tmp_path / "a.yaml").write_text("protocol: rapf-cub200\ntraining: {epochs: 3, batch_size: 8}\n")
    (tmp_path / "b.yaml").write_text("training: {epochs: 4}\ndata: {order: 5}\n")
    config = load_config(tmp_path / "a.yaml", str(tmp_path / "b.yaml"), changes={"training.batch_size": 9})
    assert config == parse([f"--config={tmp_path}/a.yaml", f"--config={tmp_path}/b.yaml", "--training.batch_size=9"])
    assert (config.training.epochs, config.training.batch_size, config.data.order) == (4, 9, 5)
    assert (config.protocol, config.data.name) == ("rapf-cub200", "cub200")
    assert load_config(tmp_path / "a.yaml", protocol="lamda-ucf101").data.name == "ucf101"
    assert load_config(tmp_path / "a.yaml", changes={"protocol": None}).data.name == "auto"


def test_what_print_config_writes_is_read(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(["--config=cub200", "--method=lwf", "--print_config"])
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    config = load_config(tmp_path / "run.yaml")
    assert config == load_config("cub200", changes={"method": "lwf"})
    assert yaml.safe_load((tmp_path / "run.yaml").read_text()) == dataclasses.asdict(config)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (["nowhere.yaml"], {}, "no file of settings 'nowhere.yaml'; the package has: cifar100, "),
        (["wrong.yaml"], {}, "wrong.yaml: training.epochs must be a whole number; got 'x'"),
        ([], {"protocol": "segp-cifar10"}, "protocol must be one of segp-cifar100, .*; got 'segp-cifar10'"),
        ([], {"protocol": "a", "changes": {"protocol": "b"}}, "protocol is given twice: 'a', and in changes 'b'"),
        ([], {"changes": {"training.epoch": 3}}, "no such setting: training.epoch; close: training.epochs"),
        ([], {"changes": {"training.epochs": "x"}}, "training.epochs must be a whole number; got 'x'"),
        ([], {"changes": {"training.epochs": 3, "training": {"epochs": 3}}}, "'training.epochs' stands twice"),
        ([], {"changes": {"anchors.epsilon": -1}}, "anchors.epsilon must be 0 or more; got -1"),
        ([], {"changes": {"anchors.kind": "magic"}}, "anchors.kind must be one of .*; got 'magic'"),
        (
            [],
            {"changes": {"method": "zscl"}},
            "anchors.reference must name images for anchors.kind reference; got none",
        ),
        (
            [],
            {"changes": {"method": "lwf", "anchors.kind": "dpgd"}},
            "anchors.kind is fixed at 'new-images' by method lwf",
        ),
        ([], {"changes": {"imports": ["none.py"]}}, "--import none.py: no such file"),
    ],
)
def test_what_does_not_fit_is_named(files, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("training: {epochs: x}")
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        load_config(*files, **options)


def test_a_run_of_an_earlier_version_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1")
    (tmp_path / "result.json").write_text(json.dumps({"versions": {"segp_ext": "0.1.0"}}))
    with pytest.raises(ValueError, match="was made by segp_ext 0.1.0, whose method differed"):
        load_config(tmp_path / "config.yaml")


def test_imports_run_first_and_may_add_the_method(tmp_path, monkeypatch):
    from segp_ext.config import methods

    monkeypatch.setattr(methods, "FILES", {})
    (tmp_path / "own_method_for_load.py").write_text(
        "import segp_ext; segp_ext.add_method('short', {'training.epochs': 1})"
    )
    try:
        config = load_config(changes={"imports": [tmp_path / "own_method_for_load.py"], "method": "short"})
    finally:
        methods.METHODS.pop("short", None)
        sys.modules.pop("own_method_for_load", None)
    assert config.method == "short" and config.imports == [str(tmp_path / "own_method_for_load.py")]


def test_it_is_public():
    assert "load_config" in segp_ext.__all__ and segp_ext.load_config is load_config
