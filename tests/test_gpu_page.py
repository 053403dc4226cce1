"""scripts/gpu_page.py, the page at the end of benchmarks/run_gpu.sh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "scripts" / "gpu_page.py"
HEAD = "date,commit,device,torch,size,dtype,candidate,ms,p20,p80,x GEMMs,eager x,GFLOP/s,peak MB\n"
STAMP = "2026-11-30,abc,GPU,torch 2.11"


def page(folder: Path) -> str:
    return subprocess.run([sys.executable, PAGE, folder], capture_output=True, text=True, check=True).stdout


def test_ratios_are_of_the_last_measurement_and_losses_are_bold(tmp_path):
    rows = [
        ("fused", 9.0, "7"),
        ("fused", 2.0, "5"),
        ("eager", 6.0, "30"),
        ("torch.compile", 1.0, "30"),
        ("GEMMs alone", 1.6, "0"),
    ]
    lines = (f'{STAMP},"B 1, C 2",float32,{name},{ms},0,0,1,1,1,{peak}\n' for name, ms, peak in rows)
    (tmp_path / "distill.csv").write_text(HEAD + "".join(lines) + f'{STAMP},"B 1, C 3",float')  # killed while it wrote
    (tmp_path / "summary.txt").write_text("tests      passed   3 s\n")
    said = page(tmp_path)
    assert (
        "| size | dtype | kernel | ms | fused / GEMMs alone | eager / fused | torch.compile / fused | peak MB |" in said
    )
    assert "| B 1, C 2 | float32 | fused | 2 | 1.25 | 3.00 | **0.50** | 5 |" in said
    assert "C 3" not in said
    assert "2026-11-30, abc, GPU, torch 2.11" in said
    assert "tests      passed   3 s" in said


def test_an_empty_folder_gives_a_page(tmp_path):
    assert page(tmp_path) == "# Measured by `benchmarks/run_gpu.sh`\n"


def test_rows_of_a_protocol_that_went_on_stand_once(tmp_path):
    head = "date,commit,device,torch,model,precision,task,phase,seconds,passes s,TFLOP,TFLOP/s,x floor\n"
    rows = ("1,training,5,4,-,-,-", "1,training,5,4,-,-,-", "2,training,7,6,-,-,-")
    (tmp_path / "whole_run.csv").write_text(head + "".join(f"{STAMP},ViT-B-16,bf16,{row}\n" for row in rows))
    said = page(tmp_path)
    assert said.count("| ViT-B-16 | bf16 | 1 | training | 5 |") == 1
    assert said.count("| ViT-B-16 | bf16 | 2 | training | 7 |") == 1
