"""Adds anchors of your own: a class, named in the settings.

    python examples/own_anchors.py

From the command line the same class trains a whole run:

    PYTHONPATH=examples python -m segp_ext.train --anchors.kind own_anchors:Blurred
"""

import torch.nn.functional as F
from torch import Tensor

import segp_ext
from segp_ext.config import AnchorsConfig, DataConfig, TrainingConfig
from segp_ext.data import load_scenario
from segp_ext.method.sources import Source, Teacher


class Blurred(Source):
    """Seeds, each pixel the mean of its neighbourhood.

    The base class chooses the seeds: the new images that look most like each old class to the model before the task.
    """

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        """Blurs the seeds `[B, 3, S, S]`; pixels stay in [0, 1], as they must."""
        return F.avg_pool2d(F.pad(seed, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def main() -> None:
    """Learns a few digits in two tasks with these anchors, and names a test image of the first one."""
    config = segp_ext.MethodConfig(
        template="a photo of the digit {}.",
        anchors=AnchorsConfig(kind="own_anchors:Blurred"),  # MODULE:CLASS; the module must be importable
        training=TrainingConfig(epochs=2, batch_size=32, optimizer="adamw", learning_rate=7.5e-4),
    )
    learner = segp_ext.SeGPCL(segp_ext.load_clip("glyph"), config)
    digits = load_scenario(DataConfig(classes_per_task=2, max_images_per_class=20, order=1))
    for task in digits.tasks[:2]:
        report = learner.learn_task(task.train, task.class_names)
        print(f"learnt {', '.join(task.class_names)} with {report.anchors} anchors")
    image, label = digits.tasks[0].test[0]
    best = learner.predict(image, topk=1)[0][0]
    print(f"a {digits.tasks[0].class_names[label]} is called {best.name}")


if __name__ == "__main__":
    main()
