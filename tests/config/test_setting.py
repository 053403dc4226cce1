"""The facts about every setting stand at its field: none is missing, and they are read by dotted name."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from segp_ext.config import RESUMABLE, Config, MethodConfig, setting_types
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.config.setting import Facts, facts_of, meanings, sections, setting

FACTS = facts_of(Config)


def fields(cls, prefix=""):
    """The fields of a dataclass and of its sections by dotted name."""
    for one in dataclasses.fields(cls):
        section = sections(cls).get(one.name)
        yield from [(f"{prefix}{one.name}", one)] if section is None else fields(section, f"{prefix}{one.name}.")


@pytest.mark.parametrize("name", FACTS)
def test_every_setting_states_its_facts_and_its_meaning(name):
    """A setting without `setting`, without its docstring, or a setting of the method without its source fails here."""
    declared = dict(fields(Config))[name]
    assert isinstance(declared.metadata.get("facts"), Facts), f"declare {name} with setting(...)"
    meaning = meanings(Config).get(name, "")
    assert meaning.endswith((".", ")")) and "  " not in meaning, f"write a docstring below {name}"
    if name in facts_of(MethodConfig):
        assert bool(FACTS[name].paper) != bool(FACTS[name].ours), f"{name} needs paper=... or ours=..."
    assert FACTS[name].ours or not FACTS[name].measured


def test_facts_have_the_names_of_the_settings():
    assert list(FACTS) == [name for name, kind in setting_types(Config).items() if kind is not dict]
    assert sorted(FACTS) == sorted(name for name, _ in fields(Config))


def test_settings_that_may_change_on_resume():
    assert set(RESUMABLE) == {
        "model.device", "model.pretrained", "data.root", "loading.workers", "loading.memory_gb", "run.threads", "run.checkpoint_steps",
        "run.keep_checkpoints", "training.accumulate", "training.prompts_per_pass", "anchors.batch_size", "anchors.memory_gb",
        "anchors.folder", "inference.batch_size",
    }  # fmt: skip


def test_settings_that_protocols_fix():
    marked = {name for name, facts in FACTS.items() if facts.protocol}
    assert marked == {name for fixed in PROTOCOLS.values() for name in fixed}
    listed = meanings(Config)["protocol"].replace(",", " ").replace(". ", " ").split()
    found = {word for word in listed if word in FACTS and word != "protocol"}
    assert found == marked, "the docstring of Config.protocol lists them"


def test_a_section_of_ones_own():
    @dataclass
    class Inner:
        """Inner settings."""

        size: int = setting(3, ours="a trial", measured="a file", resume=True)
        """Size of it."""
        names: list[str] = setting(["a"], paper="table I", protocol=True, short_help=True)
        """Names of it."""
        plain: int = 1

    @dataclass
    class Outer:
        """Outer settings."""

        inner: Inner = field(default_factory=Inner)
        last: str = setting("x")
        """The last one."""

    assert dict(facts_of(Outer)) == {
        "last": Facts(),
        "inner.size": Facts(ours="a trial", measured="a file", resume=True),
        "inner.names": Facts(paper="table I", protocol=True, short_help=True),
        "inner.plain": Facts(),
    }
    assert dict(meanings(Outer)) == {
        "": "Outer settings.", "last": "The last one.", "inner": "Inner settings.", "inner.size": "Size of it.",
        "inner.names": "Names of it.",
    }  # fmt: skip
    first, second = Outer(), Outer()
    first.inner.names.append("b")
    assert second.inner.names == ["a"] and second.inner.size == 3


def test_meanings_do_without_docstrings():
    code = "from segp_ext.config import Config; from segp_ext.config.setting import meanings; print(meanings(Config)['seed'])"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == meanings(Config)["seed"] != "", done.stderr
