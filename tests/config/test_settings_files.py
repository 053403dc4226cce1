"""Files of settings: what they may say, what is refused, and that what is written is read back."""

import dataclasses

import pytest
import yaml

from segp_ext.config import Config, DataConfig, RunConfig
from segp_ext.config.settings_files import PRESETS, find_settings, preset_names, read_settings
from segp_ext.config.yaml_dialect import settings_file
from segp_ext.run.command_line import parse

FILES = [
    ("training: 5", "training must be a group of settings, {name: value, ...}; got 5"),
    ("protocol: [a]", "protocol must be a string or null; got ['a']"),
    ("", "it must hold settings by name, as in `training: {epochs: 5}`; it holds nothing"),
    ("- 1", "it must hold settings by name, as in `training: {epochs: 5}`; it holds a list"),
    ("training: {epochs: 1}\nseed: 1\ntraining: {batch_size: 2}", "'training' stands twice, again in line 3"),
    ("a: [", "while parsing a flow node expected the node content"),
    ("training: {epochs: x}", "training.epochs must be a whole number; got 'x'"),
    ("trainin: {epochs: 1}", "no such setting: trainin; close: training; known here: method, "),
    ("training: {epoch: 3}", "no such setting: training.epoch; close: training.epochs; known here: epochs, "),
    ("1: 2", "no such setting: 1; known here"),
    ("[1]: 2", "the name of a setting must be a string; got a sequence, in line 1"),
    ("training:\n  ? {epochs: 1}\n  : 2", "the name of a setting must be a string; got a mapping, in line 2"),
    ("seed: 1\ntraining: {<<: {[1]: 2}}", "the name of a setting must be a string; got a sequence, in line 2"),
    ("seed: 1\ntraining: &t {<<: *t}", "<< names the group that it stands in, in line 2"),
    ("training: &t\n  <<: [{<<: *t}]", "<< names the group that it stands in, in line 2"),
    ("x-a: &a {<<: &b {<<: *a}}\ntraining: {<<: *b}", "<< names the group that it stands in, in line 1"),
    ("training: &t {epochs: *t}", "training.epochs must be a whole number; got {'epochs': {"),
    ("training: &t {training: *t}", "no such setting: training.training"),
    ("held_out: " + 3000 * "[", "groups or lists nest too deep"),
    ("training: {<<: {epochs: 1, epochs: 2}}", "'epochs' stands twice, again in line 1"),
    ("held_out: digits", "held_out must be a list of strings, [a, b]; got 'digits'"),
    ("model: {compile: 1}", "model.compile must be true or false; got 1"),
    ("seed: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    (b"\xff\xfe\x00", "not a text file"),
    ("training.epochs: 5\ntraining: {epochs: 3}", "'training.epochs' stands twice, also in 'training'"),
    ("training.epochs: 5\ntraining.epochs: 3", "'training.epochs' stands twice, again in line 2"),
    ("training: 5\ntraining.epochs: 3", "'training.epochs' stands twice, also in 'training'"),
    ("training: {<<: {epochs: 1}, <<: {epochs: 2}}", "'<<' stands twice, again in line 1"),
    ("training.epoch: 3", "no such setting: training.epoch; close: training.epochs"),
    ("lr: 3", "no such setting: lr; close: training.learning_rate; known here: method, "),
    ("epochs: 3", "no such setting: epochs; close: training.epochs; known"),
    (
        "batch-size: 3",
        "close: training.batch_size, anchors.batch_size, distillation.batch_size, inference.batch_size; known",
    ),
    ("beta: 3", "no such setting: beta; close: inference.beta; known"),
    ("training: {lr: 3}", "no such setting: training.lr; close: training.learning_rate; known here: epochs, "),
    ("model: {epochs: 3}", "no such setting: model.epochs; close: training.epochs; known here: name, "),
    ("anchor.batch_size: 3", "no such setting: anchor; close: anchors; known"),
    ("run: {name: 2024}", "run.name must be a string or null; got 2024 (put such a string in quotes)"),
    (
        "run: {name: 2026-01-01}",
        "run.name must be a string or null; got datetime.date(2026, 1, 1) (put such a string in quotes)",
    ),
    ("template: off", "template must be a string; got False"),
    (
        "held_out: [2024, on]",
        "held_out must be a list of strings, [a, b]; got [2024, True] (put such a string in quotes)",
    ),
    ("training: {epochs: 2.5}", "training.epochs must be a whole number; got 2.5"),
    ("seed: 010", "seed must be a whole number; got '010'"),  # eight to YAML 1.1
    ("seed: 1:30", "seed must be a whole number; got '1:30'"),  # ninety
    ("seed: none", "seed must be a whole number; got None"),
    ("template: none", "template must be a string; got None"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_file_that_does_not_fit_is_named(tmp_path, content, message):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as refusal:
        read_settings(file)
    assert str(refusal.value).startswith(f"{file}: ") and message in str(refusal.value)


MEANT = [
    ("training: {epochs: 1e1}", "training.epochs", 10),
    ("training: {epochs: 3.0}", "training.epochs", 3),
    ("training: {epochs: '5'}", "training.epochs", 5),
    ("training: {learning_rate: '1e-3'}", "training.learning_rate", 1e-3),
    ("training.epochs: 5", "training.epochs", 5),
    ("training.epochs: 1e1\ntraining: {batch_size: 3}", "training", {"epochs": 10, "batch_size": 3}),
    ("data: {order: None}", "data.order", None),
    ("data.order: none", "data.order", None),
    ("data: {order: 'none'}", "data.order", None),
    ("model: {pretrained: none}", "model.pretrained", None),
    ("run: {name: 'none'}", "run.name", "none"),
    ("anchors: {kind: none}", "anchors.kind", "none"),
    ("anchors: {kind: null}", "anchors.kind", "none"),
    ("model: {compile: 'true'}", "model.compile", True),
    ("model: {compile: off}", "model.compile", False),
    ("anchors: &a {batch_size: 64, steps: 3}\nanchors.kind: seeds\nloading: {<<: {workers: 2}}", "loading.workers", 2),
    ("anchors: &a {batch_size: 64}\ninference: {<<: *a, beta: 0.2}", "inference", {"batch_size": 64, "beta": 0.2}),
    ("anchors: &a {batch_size: 64}\ninference: {<<: [*a], batch_size: 1e2}", "inference.batch_size", 100),
    (
        "training: &a {batch_size: 8}\nanchors: &b {batch_size: 64}\ninference: {<<: [*a, *b]}",
        "inference.batch_size",
        8,
    ),
    ("training: {<<: [{epochs: 3}, {epochs: 4}]}", "training.epochs", 3),
    (
        "x-base: &b {<<: {batch_size: 3}, batch_size: 4}\ntraining: {<<: *b}\ninference: {<<: *b}",
        "inference.batch_size",
        4,
    ),
    ("anchors: {batch_size: &n 64}\ninference: {batch_size: *n}", "inference.batch_size", 64),
    ("\ufefftraining:\r\n  epochs: 3\r\n", "training.epochs", 3),
]


@pytest.mark.parametrize(("content", "name", "meant"), MEANT)
def test_a_file_says_what_it_means(tmp_path, content, name, meant):
    (tmp_path / "mine.yaml").write_bytes(content.encode())
    found = read_settings(tmp_path / "mine.yaml")
    section, _, setting = name.partition(".")
    value = found[section][setting] if setting else found[section]
    assert value == meant and type(value) is type(meant)
    taken = dataclasses.asdict(parse(["--config", str(tmp_path / "mine.yaml")]))[section]
    assert taken[setting] == meant if setting else taken.items() >= meant.items()


@pytest.mark.parametrize(
    "name", ["1e3", "none", "None", "010", "1:30", "on", "0x1F", "1_0", "2026-01-01", "null", "a b"]
)
def test_texts_that_look_like_something_else_are_written_so_that_every_reader_has_them(tmp_path, name):
    config = Config(run=RunConfig(name=name), data=DataConfig(order=None, root=name))
    (tmp_path / "config.yaml").write_bytes(settings_file(dataclasses.asdict(config)))
    assert parse(["--config", str(tmp_path / "config.yaml")]) == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == dataclasses.asdict(config)


@pytest.mark.parametrize(
    ("given", "targets"),
    [("kv+ffn", "kv+ffn"), ("ffn", "ffn"), ("[attn.q_proj, mlp.c_fc]", ["attn.q_proj", "mlp.c_fc"])],
)
def test_targets_are_words_or_a_list(given, targets, tmp_path):
    assert parse(["--config=digits", f"--lora.targets={given}"]).lora.targets == targets
    (tmp_path / "settings.yaml").write_text(f"lora: {{targets: {given}}}\n")
    assert parse([f"--config={tmp_path / 'settings.yaml'}"]).lora.targets == targets
    (tmp_path / "settings.yaml").write_text("lora: {targets: null}\n")  # every config.yaml of segp_ext 0.1
    with pytest.raises(
        ValueError, match=r"settings.yaml: lora.targets must be a list of strings, \[a, b\] or a string; got None"
    ):
        read_settings(tmp_path / "settings.yaml")


@pytest.mark.parametrize("name", preset_names())
def test_files_of_the_package_are_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_settings(name) == find_settings(f"{name}.yaml") == find_settings(f"configs/{name}.yaml")
    assert find_settings(name) == PRESETS / f"{name}.yaml" and read_settings(find_settings(name))
    (tmp_path / name).write_text("seed: 3")  # a file of one's own goes before
    assert read_settings(find_settings(name)) == {"seed": 3}


def test_a_file_that_does_not_exist_is_named():
    with pytest.raises(
        FileNotFoundError, match="no file of settings 'elsewhere/clip.yaml'; the package has: cifar100, clip, "
    ):
        find_settings("elsewhere/clip.yaml")
