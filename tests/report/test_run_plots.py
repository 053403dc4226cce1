"""A run's PNG plots, of a made result."""

import os
import subprocess
import sys

from made_results import made, write


def test_a_backend_that_is_not_there_and_dollars_in_names_do_not_matter_to_plots(tmp_path):
    """A notebook names its own backend to the processes it starts; what stands between two dollars is a formula to matplotlib."""
    write(tmp_path, made(0.5, 0.1, retention={"$x_$": [0.1, 0.2, 0.3]}))
    code = (
        "import pathlib, sys, os; from segp_ext.report import run_plots; from segp_ext.report.result import RunResult; "
        f"folder = pathlib.Path({str(tmp_path)!r}); "
        "print(*run_plots.plot(folder, RunResult.read(folder / 'result.json')), os.environ['MPLBACKEND'])"
    )
    environment = {**os.environ, "MPLBACKEND": "inline-of-a-notebook"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "retention.png" in done.stdout and done.stdout.split()[-1] == "inline-of-a-notebook"
