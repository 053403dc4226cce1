"""What the processes of `test_processes.py` run: makes anchors and learns tasks together, and saves what each of them got."""

import sys
from pathlib import Path

import torch
from made import images_of, made_images, small_config, tiny_backbone
from safetensors.torch import save_file

from segp_ext.config import LoraConfig
from segp_ext.method.anchors import make_anchors
from segp_ext.method.learner import SeGPCL
from segp_ext.method.sources import Teacher, find_source, select_seeds
from segp_ext.runtime.processes import Processes, join, leave
from segp_ext.runtime.timing import Timer

KINDS = ("dpgd", "noise", "new-images")


def results(processes: Processes) -> dict[str, torch.Tensor]:
    """Anchors of every kind from one teacher, seeds with ties, and the weights and prototypes of a learner after each of two tasks."""
    torch.set_num_threads(1)
    found: dict[str, torch.Tensor] = {}
    backbone = tiny_backbone()
    backbone.adapt(LoraConfig(rank=4), seed=0)
    images = images_of(made_images(3, 7), backbone)  # 21 images in batches of 4: shares of unequal length
    with torch.no_grad(), backbone.merged():
        text = backbone.encode_text(backbone.tokenize(["red", "green", "blue"]))
        prototypes = backbone.encode_image(torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))[1]
        for kind in KINDS:
            for where, memory_gb in (("memory", 8.0), ("file", 0.0)):
                config = small_config(anchors__kind=kind, anchors__memory_gb=memory_gb, anchors__batch_size=4).anchors
                generator, timer = torch.Generator().manual_seed(0), Timer(backbone.stopwatch, backbone.device)
                source, teacher = find_source(kind)(config), Teacher(backbone, text, prototypes)
                made = make_anchors(source, teacher, images, 4, generator, processes, timer)
                if made.pixels is not None:
                    found[f"{kind} {where} pixels"] = made.pixels.clone()
                found[f"{kind} {where} embedding"] = made.embedding.clone()
                found[f"{kind} {where} feature"] = made.feature.clone()
    # 20 images with three different embeddings: almost all scores are ties
    embedding = torch.eye(3, 5)[torch.arange(20) % 3]
    batches = processes.mine([(i, embedding[i]) for i in torch.arange(20).split(4)])
    found["seeds among ties"] = select_seeds(batches, torch.eye(3, 5), 9, processes)

    few = {"distillation__classes": "anchors", "distillation__batch_size": 2, "training__optimizer": "sgd"}
    sgd = {"training__optimizer": "sgd", "training__learning_rate": 1e-1}
    for name, changes in {"adamw": {}, "sgd": sgd, "few classes": few}.items():
        learner = SeGPCL(tiny_backbone(), small_config(**changes), processes)
        for task, names in enumerate((["red", "green", "blue"], ["cat", "dog"])):
            learner.learn_task(made_images(len(names), 9, seed=3 * task), names)
            found |= {f"{name} {task} {key}": value.clone() for key, value in learner.backbone.adapter_state().items()}
            found[f"{name} {task} prototypes"] = learner.prototypes.clone()
    return found


if __name__ == "__main__":
    processes, device = join("cpu")
    save_file(results(processes), Path(sys.argv[1]) / f"{processes.rank}.safetensors")
    leave()
