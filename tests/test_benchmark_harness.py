"""benchmarks.harness: a candidate that fails is left out, unless it is ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Candidate, checked


def broken() -> None:
    raise ValueError("no vector\nand a long explanation")


def test_a_candidate_that_fails_is_left_out_and_named(capsys):
    good, bad = Candidate("fused", list), Candidate("torch.compile", broken)
    assert checked([good, bad], lambda candidate: candidate.run()) == [good]
    assert capsys.readouterr().out == "  torch.compile is left out: ValueError: no vector\n"


@pytest.mark.parametrize("name", ["fused", "fused in place", "eager"])
def test_ours_must_not_fail(name):
    with pytest.raises(ValueError, match="no vector"):
        checked([Candidate(name, broken)], lambda candidate: candidate.run())
