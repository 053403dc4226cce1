"""docs/extending.md: its parts train, resume, and are named where they are wrong."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch

from segp_ext import train
from segp_ext.config import AnchorsConfig, MethodConfig, PrototypesConfig
from segp_ext.heads import find_head
from segp_ext.learner import SeGPCL
from segp_ext.parts import own_code, source_of
from segp_ext.result import RunResult
from segp_ext.sources import find_source

PAGE = Path(__file__).resolve().parents[1] / "docs/extending.md"
FAST = ["--training.epochs=1", "--data.max_images_per_class=6", "--data.classes_per_task=5", "--anchors.seeds_per_class=2"]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The page's modules, importable."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["mirrored.py", "distances.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, _ in blocks:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.slow
def test_parts_of_ones_own_train_and_resume(parts, capsys):
    own = ["--anchors.kind=mirrored:Mirrored", "--prototypes.score=distances:Distance"]
    assert train.main([*FAST, *own, f"--run.directory={parts}", "--run.name=run"]) == 0
    result = RunResult.read(parts / "run/result.json")
    digest = hashlib.sha256((parts / "mirrored.py").read_bytes()).hexdigest()
    assert result.code["mirrored:Mirrored"] == digest and "distances:Distance" in result.code
    assert result.tasks[1].anchors == 10 and result.tasks[1].losses["acgd"] > 0
    learner = SeGPCL.load(parts / "run/checkpoints/latest", "cpu")
    assert learner.config.anchors.kind == "mirrored:Mirrored" and type(learner.source).__name__ == "Mirrored"
    assert train.main(["--resume", str(parts / "run")]) == 0

    (parts / "mirrored.py").write_text((parts / "mirrored.py").read_text() + "\n# changed\n")
    capsys.readouterr()
    assert train.main(["--resume", str(parts / "run")]) == 2
    assert "since its start these changed: the code of mirrored:Mirrored" in capsys.readouterr().err


def test_a_source_moves_seeds_as_it_says(parts):
    source = find_source("mirrored:Mirrored")(AnchorsConfig())
    seed = torch.rand(2, 3, 4, 4)
    assert torch.equal(source.move(None, seed, torch.zeros(2), None), seed.flip(-1))


def test_a_head_scores_as_it_says(parts):
    head = find_head("distances:Distance")(4, torch.device("cpu"), MethodConfig())
    same = torch.eye(4)
    assert torch.allclose(head.scores(3 * same, same, 10.0).diagonal(), torch.zeros(4), atol=1e-5)


@pytest.mark.parametrize(
    ("find", "name", "said"),
    [
        (find_source, "dpgt", "anchors.kind must be one of dpgd, text.* got 'dpgt'; close: dpgd"),
        (find_source, "no_such:Thing", "anchors.kind: no_such:Thing cannot be imported: No module named 'no_such'"),
        (find_source, "mirrored:Other", "anchors.kind: mirrored:Other cannot be imported: .* has no attribute 'Other'"),
        (find_source, "mirrored:Teacher", "anchors.kind: mirrored:Teacher must be a subclass of segp_ext.sources.base.Source"),
        (find_head, "mirrored:Mirrored", "prototypes.score: mirrored:Mirrored must be a subclass of segp_ext.heads.base.Head"),
        (find_head, "cosin", "prototypes.score must be one of cosine, .* close: cosine"),
    ],
)
def test_what_is_no_part_is_named(parts, find, name, said):
    with pytest.raises(ValueError, match=said):
        find(name)


def test_this_package_s_parts_have_no_code_of_ones_own(parts):
    assert own_code(MethodConfig()) == {} and source_of(MethodConfig(anchors=AnchorsConfig(kind="none"))) is None
    config = MethodConfig(prototypes=PrototypesConfig(score="distances:Distance"))
    assert list(own_code(config)) == ["distances:Distance"]
