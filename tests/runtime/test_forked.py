"""A process that is forked from one that has computed in several threads; each thing that may come first in it."""

import os
import subprocess
import sys

import pytest

FORKED = """
import os, sys, warnings
import numpy as np, torch
import segp_ext
from segp_ext.method.learner import SeGPCL

torch.set_num_threads(2)
images = np.random.default_rng(0).integers(0, 255, (80, 16, 16, 3), dtype=np.uint8)
learner = SeGPCL(segp_ext.load_clip("glyph"), segp_ext.MethodConfig(method="frozen-prototypes"))
learner.learn_task(list(zip(images, np.repeat([0, 1], 40))), ["zero", "one"])
wanted = learner.predict(images)
unit = learner.backbone.to_unit(torch.from_numpy(images).permute(0, 3, 1, 2))
tokens = learner.backbone.tokenize(["a cat"] * 100)
ways = {
    "predict": lambda: learner.predict(images),
    "logits": lambda: learner.logits(unit),
    "encode_names": lambda: learner.encode_names(["zero", "one"]),
    "encode_text": lambda: learner.backbone.encode_text(tokens),
    "copy": lambda: learner.copy(),
    "load_clip": lambda: segp_ext.load_clip("ViT-S-32-alt", None),
}
for first in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ways[first]()
            found = learner.predict(images)
        same = [[p.name for p in one] for one in found] == [[p.name for p in one] for one in wanted]
        print(first, same, sum("was forked" in str(w.message) for w in caught), torch.get_num_threads(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(torch.get_num_threads(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    "ways",
    [["predict"], pytest.param(["logits", "encode_names", "encode_text", "copy", "load_clip"], marks=pytest.mark.slow)],
    ids=["predict", "others"],
)
def test_a_forked_process_computes(ways):
    """With two threads it would wait for ever, which the time limit alone ends."""
    done = subprocess.run([sys.executable, "-c", FORKED, *ways], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == [line for first in ways for line in (f"{first} True 1 1", "2")], done.stderr
