"""benchmarks.end_to_end runs; `benchmarks/run_gpu.sh` needs it where nobody is at hand to mend it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import end_to_end


@pytest.mark.slow
def test_every_phase_and_its_floor_run():
    scene = end_to_end.Scene("glyph", "cpu", 4, "bf16")
    end_to_end.check(scene)
    for phase in (end_to_end.anchors, end_to_end.training, end_to_end.prediction):
        ours, floors = phase(scene)
        for call in (ours, *floors.values()):
            call()
