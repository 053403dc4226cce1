"""Named protocols: what each one sets, who goes before whom, and the identity of a result."""

import dataclasses
import json
from typing import get_args

import numpy as np
import pytest
import yaml
from trees import cifar100, make

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import ClassOrder, Config, DataConfig, LoadingConfig
from segp_ext.config.data_sections import ALL_CLASSES
from segp_ext.config.methods import METHODS
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.config.settings_files import PRESETS
from segp_ext.data import load_scenario
from segp_ext.data.scenario import class_order, named_orders
from segp_ext.data.stream import source_configs
from segp_ext.run import command_line
from segp_ext.run.identity import changed_settings, identify
from segp_ext.run.run import Run

CLASSES = {"cifar100": 100, "imagenet-r": 200, "imagenet100": 100, "cub200": 200, "ucf101": 100}
BENCHMARKS = {
    "segp": CLASSES.keys(),
    "mgclip": ("cifar100", "imagenet-r", "imagenet100"),
    "rapf": ("cifar100", "imagenet-r", "imagenet100", "cub200"),
    "lamda": CLASSES.keys(),
}


ORDER_1 = "aircraft caltech101 cifar100 dtd eurosat flowers102 food101 mnist oxford-pets stanford-cars sun397"
ORDER_2 = "stanford-cars food101 mnist oxford-pets flowers102 sun397 aircraft caltech101 dtd eurosat cifar100"
STREAMS = {  # by hand, from ZSCL's, DIKI's and RAIL's papers: order, shots, prompts, setting
    "mtil-order1": (ORDER_1, None, "clip", "task-known"),
    "mtil-order2": (ORDER_2, None, "clip", "task-known"),
    "mtil-fs16-order1": (ORDER_1, 16, "clip", "task-known"),
    "mtil-fs16-order2": (ORDER_2, 16, "clip", "task-known"),
    "x-tail-16": (ORDER_1.replace("cifar100 ", ""), 16, None, "global"),
}
CIFAR, R_MGCLIP, R_RAPF, CUB = "cifar100-icarl", "imagenet-r-mgclip", "imagenet-r-rapf", "cub200-rapf"
SETTINGS = {  # by hand, from shared facts on the peers: order, classes a task, names
    "segp-cifar100": (CIFAR, 10, "spaces"),
    "segp-imagenet-r": (R_MGCLIP, 20, "spaces"),
    "segp-imagenet100": (1993, 10, "spaces"),
    "segp-cub200": (CUB, 20, "spaces"),
    "segp-ucf101": (1993, 10, "spaces"),
    "mgclip-cifar100": (CIFAR, 10, "folders"),
    "mgclip-imagenet-r": (R_MGCLIP, 20, "folders"),
    "mgclip-imagenet100": (1993, 10, "folders"),
    "rapf-cifar100": (CIFAR, 10, "folders"),
    "rapf-imagenet-r": (R_RAPF, 20, "folders"),
    "rapf-imagenet100": (1993, 10, "folders"),
    "rapf-cub200": (CUB, 20, "folders"),
    "lamda-cifar100": (1993, 10, "spaces"),
    "lamda-imagenet-r": (1993, 20, "spaces"),
    "lamda-imagenet100": (1993, 10, "spaces"),
    "lamda-cub200": (1993, 20, "spaces"),
    "lamda-ucf101": (1993, 10, "spaces"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_protocol_sets(name):
    config = command_line.parse(["--protocol", name, "--data.root=x"])
    data, model = config.data, config.model
    assert (data.order, data.classes_per_task, data.names) == SETTINGS[name]
    assert config.template == ("a photo of a {}." if name.startswith("segp") else "a good photo of a {}.")
    openai = ("ViT-B-16-quickgelu", "openai", "shortest")
    laion = ("ViT-B-16", "laion400m_e32", "squash")
    assert (model.name, model.pretrained, model.resize_mode) == (laion if name.startswith("lamda") else openai)
    assert (data.evaluate_on, data.max_images_per_class, data.class_list, data.names_file) == ("test", None, None, None)
    assert (config.loading.resize, model.precision) == ("exact", "fp32")
    assert data.test_fraction == (0.2 if data.name == "imagenet-r" else 0.3)


@pytest.mark.parametrize(
    "setting",
    [
        "data.max_images_per_class=5", "data.evaluate_on=validation", "loading.resize=device", "model.precision=bf16",
        "data.class_list=x", "data.names_file=x", "data.test_fraction=0.5",
    ],
)  # fmt: skip
def test_what_changes_the_measure_changes_the_name(setting):
    config = command_line.parse(["--protocol=rapf-imagenet-r", "--data.root=x", f"--{setting}"])
    assert changed_settings(config) == [setting.split("=")[0]]


def test_every_protocol_is_there():
    assert PROTOCOLS.keys() == {f"{who}-{data}" for who, all_data in BENCHMARKS.items() for data in all_data} | {
        *STREAMS
    }


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_its_authors(name):
    order, shots, prompts, setting = STREAMS[name]
    config = command_line.parse(["--protocol", name, "--data.root=x"])
    assert changed_settings(config) == []
    sources = source_configs(config.data)
    assert [source.name for source in sources] == order.split()
    assert {(source.shots, source.prompts, source.test_fraction, source.root) for source in sources} == {
        (shots, prompts, 0.2, "x")
    }
    assert {source.classes_per_task for source in sources} == {ALL_CLASSES}
    assert (config.data.setting, config.template, config.model.pretrained) == (setting, "a photo of a {}.", "openai")


@pytest.mark.parametrize("name", sorted(PROTOCOLS.keys() - STREAMS.keys()))
def test_every_protocol_parses_and_its_order_is_of_all_classes(name):
    config = command_line.parse(["--protocol", name, "--data.root=x"])
    data = name.split("-", 1)[1]
    assert config.data.name == data and config.protocol == name and changed_settings(config) == []
    order = class_order(config.data.order, CLASSES[data])
    assert sorted(order) == list(range(CLASSES[data]))
    assert len(order) / config.data.classes_per_task == 10
    # all else is the paper's default, not the digits' settings
    plain = Config()
    for field in dataclasses.fields(Config):
        if field.name not in ("protocol", "data", "model", "template"):
            assert getattr(config, field.name) == getattr(plain, field.name), field.name


def test_the_facts_of_the_orders():
    """First entries as PROTOCOLS lists them for each peer."""
    firsts = {
        "mgclip-cifar100": (87, 0, 52, 58, 44),
        "rapf-cifar100": (87, 0, 52, 58, 44),
        "lamda-cifar100": (68, 56, 78),
        "mgclip-imagenet100": (68, 56, 78),
        "mgclip-imagenet-r": (150, 119, 193),
        "rapf-imagenet-r": (29, 75, 18),
        "rapf-cub200": (110, 54, 8),
        "lamda-cub200": (168, 136, 51),
        "lamda-imagenet-r": (168, 136, 51),
        "lamda-ucf101": (68, 56, 78),
    }
    for name, first in firsts.items():
        order = class_order(PROTOCOLS[name]["data.order"], CLASSES[name.split("-", 1)[1]])
        assert tuple(order[: len(first)]) == first, name
    assert named_orders()["imagenet100-numpy1993"] == np.random.RandomState(1993).permutation(100).tolist()
    assert set(named_orders()) == set(get_args(ClassOrder))


def test_protocols_set_settings_that_exist_and_no_method_fixes():
    for fixed in PROTOCOLS.values():
        for dotted in fixed:
            section, _, name = dotted.rpartition(".")
            assert hasattr(getattr(Config(), section) if section else Config(), name), dotted
            assert all(dotted not in method for method in METHODS.values())


@pytest.mark.parametrize("data", CLASSES)
def test_the_benchmarks_configurations_are_the_papers_protocols(data):
    config = command_line.parse(["--config", data, "--data.root", "x"])
    assert config.protocol == f"segp-{data}" and changed_settings(config) == []
    assert command_line.parse(["--data.name", data, "--data.root", "x"]) == config  # the one named like the data set
    assert "\n" in (PRESETS / f"{data}.yaml").read_text().split("protocol:")[0].strip()  # what it takes is said


def test_the_command_line_beats_files_and_files_the_protocol(tmp_path):
    (tmp_path / "c.yaml").write_text("protocol: rapf-cub200\ndata: {order: 5, names: spaces}\nanchors: {steps: 3}\n")
    config = command_line.parse(["--data.names=folders", "--config", str(tmp_path / "c.yaml")])
    assert (config.protocol, config.data.name, config.data.order) == ("rapf-cub200", "cub200", 5)
    assert config.data.names == "folders" and config.anchors.steps == 3
    assert changed_settings(config) == ["data.order"]
    other = command_line.parse(["--config", str(tmp_path / "c.yaml"), "--protocol=lamda-ucf101"])
    assert (other.protocol, other.data.name, other.model.resize_mode) == ("lamda-ucf101", "ucf101", "squash")
    none = command_line.parse(["--config", str(tmp_path / "c.yaml"), "--protocol", "null"])
    assert none.protocol is None and none.data.name == "auto" and changed_settings(none) == []
    last = command_line.parse([f"--config={tmp_path / 'c.yaml'}", "--config", "cifar100"])
    assert last.protocol == "segp-cifar100" and last.data.order == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "segp-cifar10"], "protocol must be one of segp-cifar100, "),
        (["--protocol", "segp-cifar100", "--data.order", "icarl"], "data.order"),
        (["--data.download", "true"], "data.download is for data.name cifar100 alone"),
        (["--data.root=x", "--data.train_list=a"], "data.train_list and data.test_list must be given together"),
        (["--protocol=segp-cifar100", "--data.class_list=a"], "data.class_list is for data sets in class folders"),
        (["--data.order", "-1"], "data.order must be from 0"),
        (["--config"], "--config"),
    ],
)
def test_wrong_settings_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.parse(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_no_order_is_the_data_sets_own():
    assert command_line.parse(["--data.order", "null"]).data.order is None
    assert command_line.parse(["--data.order", "cub200-rapf"]).data.order == "cub200-rapf"


# -- identity ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glyph():
    return load_clip("glyph")


def facts(config, backbone, **data):
    settings = {"root": config.data.root, **data}
    return identify(config, load_scenario(dataclasses.replace(config.data, **settings)), backbone)


def test_the_id_tells_whether_the_protocol_held(tmp_path, glyph):
    argv = ["--protocol=segp-cifar100", f"--data.root={cifar100(tmp_path)}"]
    held = facts(command_line.parse(argv), glyph)
    assert held["id"] == f"segp-cifar100-{held['hash'][:8]}" and held["changed"] == []
    assert held["layout"].startswith("CIFAR100: ") and held["order"] == "cifar100-icarl"
    changed = facts(command_line.parse([*argv, "--template=a {}.", "--data.order=3"]), glyph)
    assert changed["id"] == f"segp-cifar100+changed-{changed['hash'][:8]}"
    assert changed["changed"] == ["data.order", "template"] and changed["hash"] != held["hash"]
    plain = facts(command_line.parse([*argv, "--protocol=null", "--data.name=cifar100"]), glyph)
    assert plain["id"] == f"cifar100-10x10-glyph-{plain['hash'][:8]}" and plain["protocol"] is None
    uneven = facts(command_line.parse([*argv, "--protocol=null", "--data.name=cifar100", "--data.tasks=[50]"]), glyph)
    assert uneven["id"] == f"cifar100-1x50+5x10-glyph-{uneven['hash'][:8]}" and uneven["hash"] != plain["hash"]
    assert json.loads(json.dumps(held)) == held
    # what is measured without a protocol, with all its settings, is the same
    settings = [f"--{name}={'null' if v is None else v}" for name, v in PROTOCOLS["segp-cifar100"].items()]
    assert facts(command_line.parse([argv[1], "--protocol=null", *settings]), glyph)["hash"] == held["hash"]


def test_the_hash_covers_what_is_measured_and_not_where_it_lies(tmp_path, glyph):
    def digest(root, **settings):
        data = {"root": str(root), "name": "imagenet-r", "classes_per_task": 2, **settings.pop("data", {})}
        backbone = load_clip("glyph", **settings.pop("model")) if "model" in settings else glyph
        return facts(Config(data=DataConfig(**data), **settings), backbone)["hash"]

    wnids = ("n01443537", "n01484850", "n01494475", "n01498041")
    tree = {f"{part}/{w}": 3 for part in ("train", "test") for w in wnids}
    first, moved = make(tmp_path / "a", tree), make(tmp_path / "b/imagenet-r", tree).parent
    base = digest(first)
    assert digest(moved) == base
    different = [
        digest(first, template="a {}."),
        digest(first, data={"order": 4}),
        digest(first, data={"classes_per_task": 4}),
        digest(first, data={"names": "folders"}),
        digest(first, data={"evaluate_on": "validation"}),
        digest(first, data={"max_images_per_class": 2}),
        digest(first, model={"resize_mode": "squash"}),
        digest(first, model={"precision": "bf16"}),
    ]
    assert len({base, *different}) == 1 + len(different)
    assert digest(first, seed=5, method="lwf") == base
    (first / "test/n01443537/00.jpg").write_bytes(b"longer than it was" * 100)
    assert digest(first) != base


def test_the_hash_tells_validation_from_test_where_the_images_are_the_same(glyph):
    scenario = load_scenario(DataConfig())
    parts = [identify(Config(data=DataConfig(evaluate_on=part)), scenario, glyph) for part in ("test", "validation")]
    assert parts[0]["hash"] != parts[1]["hash"]


def test_the_hash_covers_the_whole_transform(tmp_path, glyph):
    root = make(tmp_path, {f"{part}/{c}": 1 for part in ("train", "test") for c in "ab"})
    data = DataConfig(root=str(root))
    hashes = [facts(Config(data=data), glyph)["hash"]]
    hashes.append(facts(Config(data=data, loading=LoadingConfig(resize="device")), glyph)["hash"])
    for name, value in (
        ("image_size", 32),
        ("interpolation", "bilinear"),
        ("mean", glyph.mean + 0.1),
        ("std", glyph.std * 2),
    ):
        other = load_clip("glyph")
        setattr(other, name, value)
        hashes.append(facts(Config(data=data), other)["hash"])
    assert len(set(hashes)) == len(hashes) == 6


def test_weights_count_by_content_and_by_name(tmp_path, glyph, monkeypatch):
    config = Config()
    base = facts(config, glyph)
    (tmp_path / "weights.pt").write_bytes(b"")
    monkeypatch.setattr(glyph, "pretrained", str(tmp_path / "weights.pt"))
    renamed = facts(config, glyph)
    assert renamed["weights"]["tag"] == "weights.pt" and renamed["hash"] != base["hash"]
    monkeypatch.setattr(glyph, "weights_hash", lambda: "other")
    assert facts(config, glyph)["hash"] != renamed["hash"]


def test_a_run_of_a_protocol_keeps_it_in_its_configuration(tmp_path, monkeypatch):
    """Two tasks of a made archive with the small model: the settings of the result's config.yaml give the same id."""
    archive = cifar100(tmp_path / "data")
    argv = [
        "--protocol=segp-cifar100", f"--data.root={archive}", "--model.name=glyph", "--data.classes_per_task=50", "--training.epochs=0",
        "--anchors.steps=1", "--anchors.seeds_per_class=1", f"--run.directory={tmp_path}",
    ]  # fmt: skip
    run = Run(command_line.parse([*argv, "--run.name=first"]))
    facts = run.result.protocol
    assert facts["id"].startswith("segp-cifar100+changed-") and facts["changed"] == [
        "data.classes_per_task",
        "model.name",
    ]
    saved = run.directory / "config.yaml"
    assert yaml.safe_load(saved.read_text())["protocol"] == "segp-cifar100"
    again = Run(command_line.parse(["--config", str(saved), "--run.name=again"]))
    assert again.result.protocol == facts
