"""docs/extending.md: its parts train, resume, and are named where they are wrong."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made import made_images, small_config, tiny_backbone

from segp_ext import compare, train
from segp_ext.config import AnchorsConfig, ExtraLossConfig, MethodConfig, PrototypesConfig, methods
from segp_ext.config.imports import import_files
from segp_ext.method import task
from segp_ext.method.heads import find_head
from segp_ext.method.learner import SeGPCL
from segp_ext.method.losses import find_loss
from segp_ext.method.named_parts import own_code, source_of
from segp_ext.method.sources import find_source
from segp_ext.report.result import RunResult
from segp_ext.run import command_line

PAGE = Path(__file__).resolve().parents[1] / "docs/extending.md"
FAST = [
    "--training.epochs=1",
    "--data.max_images_per_class=6",
    "--data.classes_per_task=5",
    "--anchors.seeds_per_class=2",
]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The page's modules, importable."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["mirrored.py", "steady.py", "distances.py", "mine.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, _ in blocks:
        sys.modules.pop(name.removesuffix(".py"), None)
    for name in methods.FILES:
        del methods.METHODS[name]
    methods.FILES.clear()


@pytest.mark.slow
def test_parts_of_ones_own_train_and_resume(parts, capsys):
    own = [
        "--anchors.kind=mirrored:Mirrored",
        "--extra_loss.kind=steady:Steady",
        "--extra_loss.weight=2",
        "--training.batch_size=10",
        "--prototypes.score=distances:Distance",
    ]
    assert train.main([*FAST, *own, f"--run.directory={parts}", "--run.name=run"]) == 0
    result = RunResult.read(parts / "run/result.json")
    digest = hashlib.sha256((parts / "mirrored.py").read_bytes()).hexdigest()
    assert result.code["mirrored:Mirrored"] == digest
    assert result.code.keys() == {"mirrored:Mirrored", "steady:Steady", "distances:Distance"}
    assert result.tasks[1].anchors == 10 and result.tasks[1].losses["acgd"] > 0 and result.tasks[1].losses["extra"] > 0
    assert result.tasks[0].losses["extra"] == 0  # there are no anchors yet
    learner = SeGPCL.load(parts / "run/checkpoints/latest", "cpu")
    assert learner.config.anchors.kind == "mirrored:Mirrored" and type(learner.source).__name__ == "Mirrored"
    assert train.main(["--resume", str(parts / "run")]) == 0

    (parts / "mirrored.py").write_text((parts / "mirrored.py").read_text() + "\n# changed\n")
    capsys.readouterr()
    assert train.main(["--resume", str(parts / "run")]) == 2
    assert "since its start these changed: the code of mirrored:Mirrored" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_of_ones_own_trains_resumes_and_stands_in_a_comparison(parts, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(parts))  # of the comparison's processes
    own = [f"--import={parts / 'mine.py'}", *FAST]
    assert compare.main([*own, "--methods", "lora", "mirror", "--seeds", "1", f"--out={parts / 'out'}"]) == 0
    shown = capsys.readouterr().out
    assert "mirror, seed 1: Last text" in shown
    run = parts / "out/runs/mirror-1"
    result = RunResult.read(run / "result.json")
    assert result.method == "mirror" and result.row("dual").name == "mirror (dual)"
    assert result.code["mirror"] == hashlib.sha256((parts / "mine.py").read_bytes()).hexdigest()
    assert result.settings["imports"] == [str(parts / "mine.py")] and result.settings["text_geometry"]["weight"] == 0.0
    alone = subprocess.run([sys.executable, "-m", "segp_ext.train", "--resume", run], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("none.py", None, "--import .*none.py: no such file"),
        ("json.py", "", "another module is named json; rename the file"),
        ("wrong.py", "1 / 0", "ZeroDivisionError: division by zero"),
        ("taken.py", "import segp_ext; segp_ext.add_method('segp', {})", "there is a method 'segp' already"),
        (
            "odd.py",
            "import segp_ext; segp_ext.add_method('a b', {})",
            "digits, dots, dashes and underscores; got 'a b'",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(name, code, said, tmp_path, capsys):
    if code is not None:
        (tmp_path / name).write_text(code)
    with pytest.raises(SystemExit):
        command_line.parse([f"--import={tmp_path / name}"])
    assert "--import" in capsys.readouterr().err
    with pytest.raises(ValueError, match=said):
        import_files([str(tmp_path / name)])


def test_a_file_may_import_modules_beside_it_then_and_later(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "imports_sibling.py").write_text("import sibling_one\ndef later(): import sibling_two; return 2\n")
    (tmp_path / "sibling_one.py").write_text("")
    (tmp_path / "sibling_two.py").write_text("")
    (tmp_path / "json.py").write_text("1 / 0")
    import_files([str(tmp_path / "imports_sibling.py")])
    assert sys.modules["imports_sibling"].later() == 2
    assert sys.path[-1] == str(tmp_path)  # so json.py hides nothing
    for name in ("imports_sibling", "sibling_one", "sibling_two"):
        del sys.modules[name]


def test_a_module_that_fails_as_it_is_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "divides.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="anchors.kind: divides:Mine cannot be imported: ZeroDivisionError: division"):
        find_source("divides:Mine")


def test_settings_that_a_method_cannot_fix_are_named(parts, capsys):
    methods.add_method("odd", {"anchors.stepz": 3})
    with pytest.raises(SystemExit):
        command_line.parse(["--method=odd"])
    assert "no such setting: anchors.stepz; close: anchors.steps" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a method of your own needs the file that adds it: --import FILE"):
        MethodConfig(method="mirror")


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
        (find_source, "no_such:Thing", "its folder must be in PYTHONPATH, or --import must name its file$"),
        (find_source, "mirrored:Other", "anchors.kind: mirrored:Other cannot be imported: .* has no attribute 'Other'"),
        (
            find_source,
            "mirrored:Teacher",
            "anchors.kind: mirrored:Teacher must be a subclass of segp_ext.method.sources.base.Source",
        ),
        (
            find_head,
            "mirrored:Mirrored",
            "prototypes.score: mirrored:Mirrored must be a subclass of segp_ext.method.heads.base.Head",
        ),
        (
            find_loss,
            "steady",
            "extra_loss.kind must be a class of your own as my_package.my_module:MyClass; got 'steady'",
        ),
        (
            find_loss,
            "mirrored:Mirrored",
            "extra_loss.kind: mirrored:Mirrored must be a subclass of segp_ext.method.losses.base.Loss",
        ),
        (find_head, "cosin", "prototypes.score must be one of cosine, .* close: cosine"),
    ],
)
def test_what_is_no_part_is_named(parts, find, name, said):
    with pytest.raises(ValueError, match=said):
        find(name)


def test_a_loss_is_trained_with_as_the_page_says(parts):
    """A term on features that only the visual path reads: it holds the anchors' features where the teacher has them."""
    drift = []
    for weight in (0.0, 50.0):
        config = small_config(extra_loss__kind="steady:Steady", extra_loss__weight=weight, training__epochs=6)
        learner, seen = SeGPCL(tiny_backbone(), config), []
        learner.learn_task(made_images(3, 10), ["red", "green", "blue"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "transfer", lambda p, before, after, _, seen=seen: (seen.append((before, after)), p)[1])
            report = learner.learn_task(made_images(2, 10, seed=3), ["cat", "dog"])
        drift.append(float(1 - torch.cosine_similarity(*seen[0]).mean()))
        assert ("extra" in report.losses) == (weight > 0)
    assert drift[1] < 0.3 * drift[0]


def test_this_package_s_parts_have_no_code_of_ones_own(parts):
    assert own_code(MethodConfig()) == {} and source_of(MethodConfig(anchors=AnchorsConfig(kind="none"))) is None
    loss = ExtraLossConfig(kind="steady:Steady")
    config = MethodConfig(extra_loss=loss, prototypes=PrototypesConfig(score="distances:Distance"))
    assert list(own_code(config)) == ["distances:Distance", "steady:Steady"]
