"""What commands show while they work."""

import subprocess
import sys


def test_warnings_of_commands_are_one_line():
    code = (
        "import warnings; from segp_ext.progress import plain_warnings; plain_warnings(); "
        "warnings.warn('two images were left out', RuntimeWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: two images were left out\n"
