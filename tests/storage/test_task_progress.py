"""Progress of a task that is kept on disk."""

import torch

from segp_ext.runtime.processes import Processes
from segp_ext.storage.task_progress import TaskProgress


def test_progress_from_another_start_is_removed(tmp_path):
    one, two = (TaskProgress(tmp_path, 1, Processes(), torch.device("cpu"), start) for start in ("one", "two"))
    one.keep(1, {"epoch": 1}, {"weight": torch.ones(2)})
    one.remove_others()
    assert one.load()[0] == {"epoch": 1}
    two.remove_others()
    assert [*tmp_path.iterdir()] == []
