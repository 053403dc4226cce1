"""What `scripts/cuda_table.py` counts, and that the ops keep to what it says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

import cuda_table

ASSEMBLY = """
    Function : kernel
        /*0000*/                   LDG.E R1, [R2] ;
        /*0010*/                   MUFU.EX2 R1, R1 ;
        /*0020*/                   FADD R3, R3, R1 ;
        /*0030*/               @P0 BRA 0x10 ;
        /*0040*/                   IADD3 R4, R4, 0x1, RZ ;
        /*0050*/               @P1 BRA 0x40 ;
        /*0060*/               @P2 BRA 0x0 ;
        /*0070*/                   BRA 0x80 ;
        /*0080*/                   EXIT ;
"""


def test_instructions_are_those_of_innermost_loops_with_a_power():
    assert [len(body) for body in cuda_table.loops(ASSEMBLY)] == [3, 2]
    assert cuda_table.per_similarity(ASSEMBLY) == 3 / cuda_table.NUMBERS_AT_A_TIME


def test_cells_show_what_changed():
    assert [cuda_table.change(None, 3), cuda_table.change(3, 3), cuda_table.change(41, 12)] == ["3", "3", "41 → 12"]
    assert [cuda_table.change(10, None), cuda_table.change(None, None)] == ["10 → none", ""]


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    return cuda_table.launches(cuda_table.ROOT / "csrc", tmp_path_factory.mktemp("launches"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_committed_page_has_the_launches_of_today(launches):
    page = (cuda_table.ROOT / "benchmarks/results/cuda_table.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.partition("## Launches")[2].splitlines()[4:]]
    now = {tuple(row[:3]): [int(cell.split()[-1]) for cell in row[3:]] for row in rows}
    assert now == {key: [*numbers, sum(numbers)] for key, numbers in launches.items()}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_call_takes_few_launches(launches):
    counted = {key: sum(numbers) for key, numbers in launches.items()}
    for dtype in ("float32", "bfloat16"):
        assert counted["geometry_distill", "B 512, C 20000", dtype] < 20
        assert counted["geometry_distill", "B 5000, C 25000", dtype] < 200
        assert counted["geometry_distill", "B 32, C 90", dtype] == 2
        assert counted["dual_target_loss", "B 64, C 90", dtype] == 1
        assert counted["prototype_drift", "C 10, A 50", dtype] == 1
        assert counted["prototype_drift", "C 1000, A 5000", dtype] <= 5
        assert counted["prototype_drift", "C 5000, A 25000", dtype] < 45
        assert counted["dpgd_step", "B 64, C 3", dtype] == 1
