"""The loop over epochs and steps: a task goes on from a step as if it had never stopped."""

import pytest
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, same, state

from segp_ext.method.learner import SeGPCL
from segp_ext.method.loss_record import LossRecord
from segp_ext.storage.task_progress import TaskProgress


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("after", [2, 5, 7])  # in the first epoch of five steps, at its end, in the second
def test_a_task_goes_on_from_any_step_to_the_same_bits(after, optimizer, tmp_path, monkeypatch):
    whole, stopped = (
        SeGPCL(tiny_backbone(), small_config(training__batch_size=4, training__optimizer=optimizer)) for _ in range(2)
    )
    for learner in (whole, stopped):
        learner.learn_task(made_images(3, 10), FIRST)
    expected = whole.learn_task(made_images(2, 10, seed=3), SECOND)
    kept = TaskProgress(tmp_path / "kept", 1, stopped.processes, stopped.backbone.device)
    taken, add = [], LossRecord.add

    def interrupted(self, *given):
        taken.append(self.where)
        if len(taken) == after + 1:
            raise KeyboardInterrupt
        add(self, *given)

    monkeypatch.setattr(LossRecord, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.learn_task(made_images(2, 10, seed=3), SECOND, kept)
    report = stopped.learn_task(made_images(2, 10, seed=3), SECOND, kept)
    assert len(taken) - (after + 1) == 10 - after  # steps that were done are not done again
    assert same(state(stopped), state(whole)) and report.losses == expected.losses


def test_a_position_of_another_model_is_refused(tmp_path):
    config = small_config(method="lora")
    learner = SeGPCL(tiny_backbone(), config)
    kept = TaskProgress(tmp_path / "kept", 1, learner.processes, learner.backbone.device)
    learner.learn_task(made_images(3, 10), FIRST, kept)
    other = SeGPCL(tiny_backbone(), small_config(method="lora", lora__rank=2))
    with pytest.raises(ValueError, match=r"does not fit: parameter 0 must be \[\d+, 2\]; got \[\d+, 4\]"):
        other.learn_task(made_images(3, 10), FIRST, kept)
