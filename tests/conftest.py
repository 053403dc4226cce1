"""Settings shared by all tests."""

import os
import sys
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # before torch is there: tests run side by side, and a thread that spins takes a core

import pytest
import torch
from hypothesis import settings

sys.path.append(
    str(Path(__file__).parents[1])
)  # for evidence/, which no wheel has; last, so that segp_ext is the installed one
torch.set_num_threads(2)

LONGEST = (
    "faults/test_faults.py",
    "native",
    "run/test_rows_of_the_paper.py",
    "runtime/test_processes.py",
    "serving/web/test_server.py",
    "test_story.py",
)
"""Files and folders whose tests take minutes. They run first, or one process would end with them while the other waits."""


def pytest_collection_modifyitems(items):
    """Puts the longest files first; `.ci/run` keeps pytest-xdist from sorting files by their number of tests."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not item.path.relative_to(here).as_posix().startswith(LONGEST))


@pytest.fixture
def backbone():
    """A tiny CLIP with random weights (`made.tiny_backbone`)."""
    from made import tiny_backbone  # here, as the ops' tests run without open_clip too

    return tiny_backbone()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run (`small_run`), which no test may change."""
    from small_run import small_run

    folder = tmp_path_factory.mktemp("finished")
    assert small_run(folder) == 0
    return folder / "run"


@pytest.fixture
def stopped(tmp_path):
    """The folder of a run (`small_run`) that was interrupted in its second task."""
    from small_run import stopped_run

    return stopped_run(tmp_path)


@pytest.fixture(scope="session")
def made_models(tmp_path_factory):
    """open_clip knows the small models of `made_clips` by name, from here on."""
    from made_clips import register

    register(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def same_threads():
    """A run sets how many threads torch has, for the whole process; the next test begins with two again."""
    yield
    if torch.get_num_threads() != 2:
        torch.set_num_threads(2)


def pytest_terminal_summary(terminalreporter):
    """Prints what tests have recorded as "summary", so that it stands in the log of a run that passes."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary" and report.when == "call":
                terminalreporter.write_line(value)


# Random cases: 100 of each property by default; `pytest tests/ops -k random --hypothesis-profile=thorough` draws 3,400 for
# each op, 17,000 in all.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=3400)
settings.load_profile("default")
