"""A comparison's PNG plots: what is drawn, and under which names."""

import pytest
from made_results import keep, made
from PIL import Image

from segp_ext.report import comparison_plots
from segp_ext.report.comparison import Comparison


@pytest.mark.slow
def test_heat_maps_are_of_the_path_that_a_method_predicts_by(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.imshow", lambda axes, values, **_: shown.append(values) or axes.scatter([], [], c=[])
    )
    run = made(0.5, 0.1)
    run.settings["inference"]["path"] = "visual"
    run.row("visual").scores.matrix = [[0.25], [0.25, 0.75]]
    comparison_plots.plot(Comparison({("ranpac", 1): run}, "command"), tmp_path)
    assert [row[0] for row in shown[0]] == [25.0, 25.0] and shown[0][1][1] == 75.0


@pytest.mark.slow
def test_many_rows_are_drawn_in_several_lines_each_in_one_style(tmp_path):
    rows = [f"row {n}" for n in range(12)]
    runs = {(row, seed): made(0.5, 0.1) for row in rows for seed in (1, 2)}
    for (_, seed), run in runs.items():
        keep(run, {f"SCENES/{seed}/clean": [0.6, 0.5, 0.4], f"SCENES/{seed}/untouched": [0.3, 0.2, 0.1]})
    found = Comparison(runs, "command")
    assert len({tuple(comparison_plots._style(found, row).items()) for row in rows}) == 12
    captions = comparison_plots.plot(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == captions.keys() and "retention.png" in captions
    wide, high = Image.open(tmp_path / "r_matrix.png").size
    assert wide < 2000 and high > 1000


def test_long_names_are_cut_in_plots_unless_that_makes_two_alike():
    long = "joint lora.targets=[attn.in_proj,attn.out_proj,mlp.c_fc,mlp.c_proj]"
    found = Comparison({(row, 1): made(0.5, 0.1) for row in ("segp", long)}, "command")
    assert comparison_plots._label(found, "segp") == "segp" and comparison_plots._label(found, long) == long[:43] + "…"
    found = Comparison({(row, 1): made(0.5, 0.1) for row in (long, long + " seed=2")}, "command")
    assert comparison_plots._label(found, long) == long
