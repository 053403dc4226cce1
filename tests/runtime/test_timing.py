"""Time by phase."""

import time

import pytest
import torch

from segp_ext.runtime.timing import Stopwatch, Timer


def test_a_phase_holds_its_wall_time_and_the_backbones_share():
    cpu, watch = torch.device("cpu"), Stopwatch()
    timer = Timer(watch, cpu)
    for _ in range(2):
        with timer.phase("work"):
            time.sleep(0.02)
            with watch.running(cpu):
                time.sleep(0.05)
    with timer.phase("rest"):
        time.sleep(0.01)
    assert list(timer.phases) == ["work", "rest"]
    assert 0.14 <= timer.phases["work"].wall < 0.5 and 0.1 <= timer.phases["work"].backbone < timer.phases["work"].wall
    assert timer.phases["rest"].backbone == 0 and timer.phases["rest"].wall == pytest.approx(0.01, abs=0.05)
