"""What the command line takes, and that every mistake on it is named in the words of the settings."""

import dataclasses

import pytest
import yaml

from segp_ext import compare, doctor, predict
from segp_ext.run.command_line import parse, parse_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.order=nope"], "data.order must be a whole number or one of cifar100-icarl, imagenet100-numpy1993, "),
        (["--data.order=1.5"], "or null; got '1.5'"),
        (["--held_out=digits"], "held_out must be a list of strings, [a, b]; got 'digits'"),
        (["--training.learning_rate=nan"], "training.learning_rate must be a number; got 'nan'"),
        (["--training=5"], "training must be a group of settings, {name: value, ...}; got '5'"),
        (["--data={order: x}"], "data.order must be a whole number or one of "),
        (["--data.name=cub"], "data.name must be one of auto, digits, folder, "),
        (["--model.compile=maybe"], "model.compile must be true or false; got 'maybe'"),
        (
            ["--lora.targets=null"],
            "lora.targets must be words out of kv, attention, ffn, convolutions, each at most once, joined by +, or a list",
        ),
        (
            ["--lora.targets=kv+mlp"],
            "lora.targets must be words out of kv, attention, ffn, convolutions, each at most once, joined by +, or a list",
        ),
        (
            ["--lora.targets=[]"],
            "lora.targets must be words out of kv, attention, ffn, convolutions, each at most once, joined by +, or a list",
        ),
        (
            ["--anchor.steps", "3"],
            "unrecognized arguments: --anchor.steps 3; close: --anchors.steps",
        ),
        (["--data.root="], "data.root must be a path; got ''"),
        (
            ["--template=a {} of {x}"],
            "template must be a string with one {} for the class name and no other braces; got",
        ),
        (["--template=a {"], "template must be a string with one {}"),
        (["--training.epochs.x", "3"], "--training.epochs.x: training.epochs has no parts; give --training.epochs"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3; close: --training.epochs"),
        (
            ["--lr=1", "--foo", "1", "--epochs", "2"],
            "unrecognized arguments: --lr=1 --foo 1 --epochs 2; close to --lr: --training.learning_rate; close to --epochs: "
            "--training.epochs",
        ),
        (["--foo", "1", "--epochs", "2"], "arguments: --foo 1 --epochs 2; close to --epochs: --training.epochs"),
        (["--training.lr=1"], "unrecognized arguments: --training.lr=1; close: --training.learning_rate"),
        (["--held_out+", "x"], "unrecognized arguments: --held_out+ x; close: --held_out"),
        (["--lora.targets+", "x"], "unrecognized arguments: --lora.targets+ x; close: --lora.targets"),
        (["--lora.targets+=x"], "unrecognized arguments: --lora.targets+=x; close: --lora.targets"),
        (["--print_config=skip_default"], "unrecognized arguments: --print_config=skip_default; close: --print_config"),
        (["--quick"], "unrecognized arguments: --quick"),
        (["--lora.help"], "unrecognized arguments: --lora.help"),
        (["--"], "unrecognized arguments: --"),
        (["--lr=1"], "unrecognized arguments: --lr=1; close: --training.learning_rate"),
        (
            ["--batch-size=1"],
            "close: --training.batch_size, --anchors.batch_size, --distillation.batch_size, --inference",
        ),
        (["--learning-rte=1"], "close: --training.learning_rate"),
        (["--data.nam=cub200"], "unrecognized arguments: --data.nam=cub200; close: --data.name"),
        (["--anchors.stepz", "3"], "anchors.stepz"),
        (["--anchors.steps", "many"], "anchors.steps"),
        (["--anchors.kind", "magic"], "anchors.kind"),
        (["--anchors.epsilon", "-1"], "anchors.epsilon must be 0 or more; got -1"),
        (["--anchors.seeds_per_class", "0"], "anchors.seeds_per_class must be greater than 0; got 0"),
        (["--inference.beta", "1e39"], "inference.beta must be from 0 to 1e+06; got 1e+39"),
        (["--distillation.temperature", "1e-30"], "distillation.temperature must be from 0.001 to 1e+06"),
        (["--run.name", "../escape"], "run.name must be a name without folders"),
        (["--method", "sgep"], "method must be one of segp, zero-shot"),
        (["--method=lwf", "--anchors={kind: dpgd}"], "anchors.kind is fixed at 'new-images' by method lwf"),
        (["--method", "lwf", "--anchors.kind", "dpgd"], "anchors.kind is fixed at 'new-images' by method lwf"),
        (
            ["--config", "nowhere.yaml"],
            "no file of settings 'nowhere.yaml'; the package has: cifar100, clip, cub200, digits, folder",
        ),
        (["photos"], "unrecognized arguments: photos"),
        (["--seed"], "--seed needs a value; write --seed=VALUE for one that begins with a dash"),
        (["--training.epochs", "--seed", "1"], "--training.epochs needs a value"),
        (["--template", "-{}"], "--template needs a value"),
        (["--config"], "--config needs a value"),
        (["--resume"], "--resume needs a value"),
        (["--model.compile", "photos"], "model.compile must be true or false; got 'photos'"),
        (["--training.epochs=1e-1"], "training.epochs must be a whole number; got '1e-1'"),
        (["--seed=9007199254740993.0"], "seed must be a whole number; got '9007199254740993.0'"),  # which no float is
        (["--data={order: "], "data must be a group of settings, {name: value, ...}; got '{order: '"),
        (["--data={rot: x}"], "no such setting: data.rot; close: data.root"),
        (["-seed", "1"], "unrecognized arguments: -seed 1; close: --seed"),
        (["--resum=x"], "unrecognized arguments: --resum=x; close: --resume"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_run(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and "<class" not in said


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (doctor.main, ["--quik"], "unrecognized arguments: --quik; close: --quick"),
        (doctor.main, ["--lr=1"], "close: --training.learning_rate"),
        (predict.main, ["saved", "a.png", "--topK=2"], "unrecognized arguments: --topK=2; close: --topk"),
        (predict.main, ["saved", "a.png", "--pretraind", "x"], "unrecognized arguments: --pretraind"),
        (compare.main, ["--out=x", "--jbos", "2"], "unrecognized arguments: --jbos 2; close: --jobs"),
        (compare.main, ["--out=x", "--row=paper/main"], "unrecognized arguments: --row=paper/main; close: --rows"),
        (compare.main, ["--out=x", "--held_out+", "a"], "unrecognized arguments: --held_out+ a; close: --held_out"),
        (compare.main, ["--out=x", "--print_config=a"], "unrecognized arguments: --print_config=a"),
        (doctor.main, ["--held_out+=a", "--resume=x"], "unrecognized arguments: --held_out+=a --resume=x; close"),
        (
            predict.main,
            ["saved", "a.png", "--topK=2", "--foo", "--pth=x"],
            "close to --topK: --topk; close to --pth: --path",
        ),
        (compare.main, ["--out=x", "--lr=1"], "unrecognized arguments: --lr=1; close: --training.learning_rate"),
        (compare.main, ["--out=x", "--run={name: a}"], "--run.name cannot be given here; give --out instead"),
        (compare.main, ["--out=x", "--training.epochs"], "--training.epochs needs a value"),
        (compare.main, ["--out=x", "--training.epochs=x"], "training.epochs must be a whole number; got 'x'"),
    ],
)
def test_every_command_names_close_options(main, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and "in the row" not in said


def test_a_group_on_the_command_line_chooses_the_default_file_as_its_settings_do():
    assert parse(["--data={root: x, name: cub200}"]).protocol == "segp-cub200"
    assert parse(["--data", "{root: x}"]) == parse(["--data.root=x"])
    assert parse(["--data={root: x}"]).template == "a photo of a {}."


def test_numbers_as_programmers_write_them(tmp_path):
    (tmp_path / "c.yaml").write_text("training: {learning_rate: 1e-3, weight_decay: 1}\nanchors: {epsilon: .5e-1}\n")
    config = parse(["--config", str(tmp_path / "c.yaml"), "--prototypes.temperature=1e-2"])
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-3, 1)
    assert (config.anchors.epsilon, config.prototypes.temperature) == (0.05, 0.01)


@pytest.mark.parametrize(
    ("arguments", "name", "meant"),
    [
        (["--training.epochs", "1e1"], "training.epochs", 10),
        (["--training.epochs=3.0"], "training.epochs", 3),
        (["--training={epochs: 1e1}"], "training.epochs", 10),
        (["--training", "{epochs: 7}", "--training.epochs=8"], "training.epochs", 8),
        (["--training.epochs=8", "--training", "{epochs: 7}"], "training.epochs", 7),
        (["--data.order", "None"], "data.order", None),
        (["--data.order=none"], "data.order", None),
        (["--data.order", "1e3"], "data.order", 1000),
        (["--model.pretrained", "None"], "model.pretrained", None),
        (["--anchors.kind", "None"], "anchors.kind", "none"),
        (["--model.compile"], "model.compile", True),
        (["--model.compile", "--seed=1"], "model.compile", True),
        (["--model.compile", "no"], "model.compile", False),
        (["--anchors.step_size", "1e-3"], "anchors.step_size", 1e-3),
        (["--run.name", "1e3"], "run.name", "1e3"),
        (["--run.name", "2026-01-01"], "run.name", "2026-01-01"),
        (["--data.root", "[x]"], "data.root", "[x]"),
        (["--held_out", "[a, '1']"], "held_out", ["a", "1"]),
        (["--template=-{}"], "template", "-{}"),
    ],
)
def test_the_command_line_says_what_it_means(arguments, name, meant):
    value = parse(arguments)
    for part in name.split("."):
        value = getattr(value, part)
    assert value == meant and type(value) is type(meant)


def test_the_command_line_beats_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("method: lwf\nanchors: {steps: 7, epsilon: 0.5}\n")
    config = parse(
        ["--anchors.steps", "3", "--config", "digits", "--config", str(tmp_path / "c.yaml"), "--anchors.steps=4"]
    )
    assert (config.method, config.anchors.steps, config.anchors.epsilon) == ("lwf", 4, 0.5)
    assert parse([]).model.name == "glyph"
    assert parse(["--config", "clip"]).training.optimizer == "sgd"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config=cub200", "--data.root=Füße", "--template=ein Foto: {}"],
        ["--method=lwf", "--held_out=[digits, '1e3']", "--run.name=1e3", "--training.learning_rate=1e-7"],
        ["--lora.targets=[mlp.c_fc]", "--data.order=none", "--anchors.kind=none"],
    ],
)
def test_what_print_config_prints_is_read_back_to_the_same_settings(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*arguments, "--print_config"])
    assert stop.value.code in (0, None)
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed, encoding="ascii")  # which every output can write
    assert parse([f"--config={tmp_path / 'printed.yaml'}"]) == parse(arguments)
    assert yaml.safe_load(printed) == dataclasses.asdict(parse(arguments))
