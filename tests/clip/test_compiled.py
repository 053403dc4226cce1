"""Encoders under torch.compile: what passes run compiled, over a learner's life. Its tracer alone, without generating code."""

import functools

import open_clip
import pytest
import torch
from made import CONTEXT, VOCABULARY, WordTokenizer, made_images, small_config, tiny_backbone
from made_results import made

from segp_ext.clip.backbone import Backbone
from segp_ext.config import LoraConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.report import run_tables

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def variants():
    """How many pieces of code torch has compiled."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def learnt(backbone, tasks=3, **changes):
    """A learner after some tasks of different sizes, asked for predictions after each."""
    learner = SeGPCL(backbone, small_config(**changes))
    for task in range(tasks):
        names = [f"class {task} {letter}" for letter in "abc"[: 2 + task % 2]]
        images = made_images(len(names), 5 + task, seed=10 * task)
        learner.learn_task(images, names)
        for count in (1, 3, 4):
            learner.predict([images[i][0] for i in range(count)])
    return learner


def test_three_tasks_run_compiled_and_learn_the_same():
    ours, plain = learnt(tiny_backbone(compile=True)), learnt(tiny_backbone())
    passes = ours.backbone.passes
    assert passes.total > 50 and passes.eager == 0
    assert plain.backbone.passes.total == 0
    torch.testing.assert_close(ours.text_embeddings(), plain.text_embeddings(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.prototypes, plain.prototypes, rtol=1e-3, atol=1e-4)


def test_a_third_task_compiles_nothing_anew():
    backbone = tiny_backbone(compile=True)
    learner = learnt(backbone, 2)
    before = variants()
    assert before > 5
    images = made_images(2, 7, seed=50)
    learner.learn_task(images, ["another", "yet another"])
    learner.predict([images[0][0]] * 3)
    assert variants() == before
    assert backbone.passes.eager == 0


def test_every_kind_of_pass_in_every_size():
    backbone = tiny_backbone(compile=True)

    def passes():
        for count in (1, 2, 5):
            for grad in (True, False):
                with torch.set_grad_enabled(grad):
                    backbone.encode_text(backbone.tokenize([f"a {'word ' * n}" for n in range(count)]))
                    backbone.encode_image(torch.rand(count, 3, 8, 8))
                    backbone.encode_image(torch.rand(count, 3, 8, 8, requires_grad=True))

    passes()
    backbone.adapt(LoraConfig(rank=2), seed=0)
    passes()
    with backbone.merged():
        passes()
    with backbone.reference():
        passes()
    assert (backbone.passes.total, backbone.passes.eager) == (72, 0)


def test_models_of_one_process_do_not_take_each_others_place():
    for width in range(16, 26):
        vision = {"image_size": 8, "patch_size": 4, "width": 24, "head_width": 12, "layers": 1}
        text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 20, "heads": 2, "layers": 1}
        backbone = Backbone(open_clip.CLIP(width, vision, text), WordTokenizer(), "tiny", None, compile=True)
        with torch.no_grad():
            backbone.encode_image(torch.rand(2, 3, 8, 8))
            backbone.encode_text(backbone.tokenize(["a", "two words"]))
        assert (backbone.passes.total, backbone.passes.eager) == (2, 0)


def test_passes_that_torch_would_not_compile_are_counted():
    backbone = tiny_backbone(compile=True)
    with torch.no_grad():
        backbone.encode_image(torch.rand(2, 3, 8, 8))
        with torch._dynamo.config.patch(recompile_limit=1):
            backbone.encode_image(torch.rand(1, 3, 8, 8))  # a variant of its own, and one too many
            backbone.encode_image(torch.rand(1, 3, 8, 8))
    assert (backbone.passes.total, backbone.passes.eager) == (3, 2)


def test_a_loaded_learner_compiles_where_asked(tmp_path):
    from segp_ext.clip.pretrained import load_clip

    SeGPCL(load_clip("glyph")).save(tmp_path / "kept")
    for compile in (True, False):
        learner = SeGPCL.load(tmp_path / "kept", "cpu", compile=compile)
        learner.backbone.encode_text(learner.backbone.tokenize(["one", "two"]))
        assert learner.backbone.passes.total == (1 if compile else 0)


def test_what_a_run_says():
    assert run_tables.passes(made(0.5, 0.1, passes={"total": 1234, "eager": 0})) == [
        "Compiled: 1,234 of the encoders' 1,234 passes"
    ]
    (line,) = run_tables.passes(made(0.5, 0.1, passes={"total": 1234, "eager": 4}))
    assert line.startswith(
        "Compiled: 1,230 of the encoders' 1,234 passes; torch could not compile the other 4, which ran eager"
    )
    assert run_tables.passes(made(0.5, 0.1)) == []
