"""Arguments of a command line: joined to their names, and taken out."""

import argparse

import pytest

from segp_ext.run.arguments import joined, settings_given, take, unrecognized


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["--seed", "1", "--config", "a", "--resume", "b"], ["--seed=1", "--config=a", "--resume=b"]),
        (["--inference.beta", "-.5", "--data.root", "-"], ["--inference.beta=-.5", "--data.root=-"]),
        (["--model.compile", "--seed=1"], ["--model.compile=true", "--seed=1"]),
        (["--model.compile", "no", "photos"], ["--model.compile=no", "photos"]),
        (["--help", "all", "-h", "all", "--help"], ["--help=all", "--help=all", "--help"]),
        (["--help", "--seed", "1"], ["--help", "--seed=1"]),
        (["--training", "{epochs: 7}", "--data.root", ""], ["--training={epochs: 7}", "--data.root="]),
    ],
)
def test_values_are_joined_to_their_names(argv, found):
    assert joined(argv) == found


@pytest.mark.parametrize("argv", [["--seed"], ["--seed", "--help"], ["--template", "-{}"], ["--config"]])
def test_a_setting_without_a_value_is_named(argv):
    with pytest.raises(
        ValueError, match=f"{argv[0]} needs a value; write {argv[0]}=VALUE for one that begins with a dash"
    ):
        joined(argv)


def test_options_are_taken_in_order():
    assert take(["--config=a", "--seed=1", "--config=b"], "--config") == (["a", "b"], ["--seed=1"])


def test_the_last_value_of_a_setting_holds():
    given, rest = settings_given(["--seed=1", "--quick", "--training={epochs: 7}", "--training.epochs=1e1", "--seed=2"])
    assert (given, rest) == ({"seed": 2, "training.epochs": 10}, ["--quick"])
    with pytest.raises(ValueError, match="--seed.x: seed has no parts; give --seed"):
        settings_given(["--seed.x=1"])


def test_unknown_options_are_named_with_close_ones():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick")
    assert unrecognized(["--quik", "x"], parser) == "unrecognized arguments: --quik x; close: --quick"
    assert unrecognized(["--seeed"], parser, ["--seed"]).endswith("; close: --seed")
