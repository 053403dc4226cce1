"""A run: what its folder and its result hold, on settings of several kinds; a run from Python."""

import functools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import FAST, small_run
from trees import cifar100

import segp_ext
from segp_ext import train
from segp_ext.method.learner import SeGPCL
from segp_ext.report.table import percent
from segp_ext.run.command_line import parse
from segp_ext.run.directory import RunDirectory
from segp_ext.run.run import run_config


@pytest.mark.slow
def test_a_compiled_run_says_how_many_passes_were(tmp_path, capsys, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # which generates no code
    assert small_run(tmp_path, "--model.compile=true") == 0
    passes = json.loads((tmp_path / "run/result.json").read_text())["passes"]
    assert passes["total"] > 30 and passes["eager"] == 0
    line = f"Compiled: {passes['total']:,} of the encoders' {passes['total']:,} passes"
    assert line in " ".join(capsys.readouterr().out.split()) and line in (tmp_path / "run/summary.md").read_text()


def test_a_run_from_python_gives_its_result_and_tells_what_is_asked_for(finished, tmp_path, capsys):
    config = parse([*FAST, f"--run.directory={tmp_path}", "--run.name=run"])
    said, begun = [], []
    result = segp_ext.run_config(
        config, say=said.append, begun=lambda run: begun.append((run.directory, run.result.tasks))
    )
    assert result.to_json() == (tmp_path / "run/result.json").read_bytes() and result.status == "finished"
    assert json.loads(result.to_json())["scores"] == json.loads((finished / "result.json").read_text())["scores"]
    assert begun == [(tmp_path / "run", result.tasks)] and "trained parameters" in said[1] and len(said) == 4
    assert segp_ext.run_config(config, tmp_path / "run").row("dual").scores == result.row("dual").scores
    assert capsys.readouterr().out == ""  # nothing was printed


@pytest.mark.parametrize("config", ["x", {"seed": 1}, None])
def test_settings_that_are_no_config_are_refused(config):
    with pytest.raises(
        TypeError, match=r"config must be a segp_ext.Config, as segp_ext.load_config\(...\) returns it; got"
    ):
        segp_ext.run_config(config)


def test_a_run_that_fails_lets_others_work_in_its_folder(stopped, tmp_path):
    """In a notebook, for one, the process lives on after the error."""
    config = parse([f"--config={stopped / 'config.yaml'}", "--training.epochs=3"])
    for folder in (stopped, tmp_path / "nowhere"):
        with pytest.raises((ValueError, FileNotFoundError)) as refused:
            run_config(config, folder)
        assert "training.epochs" in str(refused.value) or "no run in" in str(refused.value)
    RunDirectory.reopen(stopped).release()


def test_a_run_directory_is_complete(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    learner = {"learner.json", "learner.safetensors", "adapter_config.json", "adapter_model.safetensors"}
    checkpoint = {*learner, "run.json", "SHA256SUMS"}
    assert names == (
        {"config.yaml", "result.json", "summary.md", "report.html", "run.lock"}
        | {f"plots/{name}.png" for name in ("accuracy", "global", "r_matrix", "forgetting", "drift")}
        | {f"checkpoints/task-00{t}/{name}" for t in (0, 1, 2) for name in checkpoint}
    )
    assert (finished / "checkpoints/latest").resolve() == finished / "checkpoints/task-002"
    for plot in (finished / "plots").iterdir():
        shade = np.asarray(Image.open(plot).convert("L"))
        assert min(shade.shape) > 300 and shade.std() > 5  # something is drawn; what it looks like is for eyes


def test_the_result_holds_everything(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["status"] == "finished" and result["method"] == "segp"
    assert list(result["scores"]) == [
        "zero-shot",
        "frozen prototypes",
        "frozen rda",
        "segp (text)",
        "segp (visual)",
        "segp (dual)",
    ]
    for name, scores in result["scores"].items():
        assert [len(row) for row in scores["R"]] == [1, 2] and len(scores["A"]) == 2
        # both tasks have the same number of images, so the pooled accuracy is the mean of the row
        assert scores["A"][1] == pytest.approx(sum(scores["R"][1]) / 2)
        assert scores["avg"] == pytest.approx(sum(scores["A"]) / 2) and scores["last"] == scores["A"][1]
        assert scores["forgetting"] == pytest.approx(scores["R"][0][0] - scores["R"][1][0])
        assert (scores["fwt"] is None) == (name not in ("zero-shot", "segp (text)"))
        assert ("global_R" in scores) == (name in ("zero-shot", "segp (text)"))
    zero_shot, text = (result["scores"][name] for name in ("zero-shot", "segp (text)"))
    assert [len(row) for row in text["global_R"]] == [2, 2, 2] and len(text["global_A"]) == 3
    assert zero_shot["global_R"] == [text["global_R"][0]] * 3  # before the first task it is the pre-trained model
    assert zero_shot["global_A"][0] == pytest.approx(zero_shot["last"]) and text["global_A"][2] == text["last"]
    assert text["global_fwt"] == text["global_R"][1][1]
    assert text["global_bwt"] == text["global_R"][2][0] - text["global_R"][1][0]
    assert result["trained_parameters"] == 35_840
    assert len(result["protocol"]["hash"]) == 64 and result["protocol"]["id"].startswith("digits-2x5-glyph-")
    assert {"text", "seeds", "anchors", "training", "prototypes", "transfer", "evaluation", "baselines"} == set(
        result["phases"]
    )
    assert all(phase["wall"] >= phase["backbone"] >= 0 for phase in result["phases"].values())
    assert all(
        result["phases"][name]["backbone"] > 0 for name in ("seeds", "anchors", "training", "text", "evaluation")
    )
    assert result["versions"]["torch"] and "build" in result and result["device"]
    assert len(result["prototype_distance"]) == 1 and result["tasks"][1]["anchors"] == 5 * 20


@pytest.mark.slow
def test_the_saved_configuration_gives_the_same_run(finished, tmp_path):
    assert train.main(["--config", str(finished / "config.yaml"), f"--run.directory={tmp_path}"]) == 0
    first, again = (json.loads((d / "result.json").read_text()) for d in (finished, tmp_path / "run"))
    assert first["scores"] == again["scores"] and first["protocol"] == again["protocol"]


def test_a_checkpoint_of_the_run_predicts(finished):
    from segp_ext.data.digits import digits

    learner = SeGPCL.load(finished / "checkpoints/task-002")
    collection = digits()
    images = [collection.opener(collection.test[c][0]) for c in range(10)]
    named = [best[0].name for best in learner.predict(images, path="visual")]
    assert sum(name == str(c) for c, name in enumerate(named)) >= 6


def test_a_folder_of_images(tmp_path, capsys):
    for part, count in (("train", 4), ("test", 2)):
        for index, name in enumerate(("red", "green", "blue", "grey")):
            (tmp_path / "[photos]" / part / name).mkdir(parents=True)
            for image in range(count):
                pixels = np.random.RandomState(image).randint(0, 60, (20, 24, 3)).astype(np.uint8)
                pixels[..., index % 3] += 60 * index
                Image.fromarray(pixels).save(tmp_path / "[photos]" / part / name / f"{image}.jpg")
    arguments = ["--data.root", str(tmp_path / "[photos]"), "--data.classes_per_task=2", "--anchors.seeds_per_class=4"]
    before = sorted((tmp_path / "[photos]").rglob("*"))
    assert small_run(tmp_path, *arguments, "--held_out=[digits]") == 0
    assert sorted((tmp_path / "[photos]").rglob("*")) == before  # it may stand on a disk that is only read
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["protocol"]["data"] == "[photos]" and result["status"] == "finished"
    assert list(result["retention"]) == ["digits"] and len(result["retention"]["digits"]) == 3
    assert "retention.png" in result["plots"] and (tmp_path / "run/plots/retention.png").is_file()
    said = "Zero-shot accuracy on digits (never trained on), in percent: "
    assert said in " ".join(capsys.readouterr().out.split()) and said in (tmp_path / "run/summary.md").read_text()
    assert result["retention"]["digits"][0] > 0.3  # the built-in model knows digits, here in another prompt


@pytest.mark.slow
def test_a_held_out_set_that_the_model_cannot_tell_apart_is_said(tmp_path, capsys):
    """Noise in folders of numbers: one line at the start, one in the summary; a run goes on all the same."""
    for name in ("00", "01", "02", "03"):
        for part in ("train", "test"):
            (tmp_path / "signs" / part / name).mkdir(parents=True)
            for image in range(4):
                pixels = np.random.RandomState(image).randint(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"signs/{part}/{name}/{image}.png")
    assert small_run(tmp_path, f"--held_out=[{tmp_path / 'signs'}, digits]") == 0
    said = " ".join(capsys.readouterr().out.split())  # as lines are wrapped
    result = json.loads((tmp_path / "run/result.json").read_text())
    accuracy = result["retention"]["signs"][0]
    line = f"note: {percent(accuracy)} % on signs before the first task is within noise of guessing among its 4 classes (25.0 %)"
    start, _, end = said.partition("task 1/2")
    assert start.count(line) == end.count(line) == 1 and line in (tmp_path / "run/summary.md").read_text()
    assert "to it these names of signs mean nothing at first: 0" in start
    assert said.count("within noise of guessing") == 2 and "% on digits" not in said  # which the model knows


@pytest.mark.slow
def test_tasks_of_one_class_have_no_forward_transfer(tmp_path, capsys):
    arguments = ["--data.classes_per_task=1", "--data.max_images_per_class=4", "--method=zero-shot"]
    assert train.main([*arguments, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert {scores["fwt"] for scores in result["scores"].values()} == {None}
    assert {value for scores in result["scores"].values() for value in scores["next_task"]} == {None}
    header, _, *rows = capsys.readouterr().out.partition("A1")[2].partition("\n\n")[0].splitlines()
    assert header.split()[-1] == "FWT" and rows and {row.split()[-1] for row in rows} == {"–"}


@pytest.mark.slow
def test_vit_b_16_learns_two_tasks_of_a_cifar100_archive(tmp_path):
    """The real architecture at its real size, weights random, through the paper's protocol but for what is made small here."""
    archive = cifar100(tmp_path, per_class=(2, 1), classes=4)
    arguments = ["--config=cifar100", f"--data.root={archive}", "--data.order=null", "--data.classes_per_task=2",
                 "--model.pretrained=null", "--training.epochs=1", "--training.batch_size=4", "--anchors.steps=1",
                 "--anchors.seeds_per_class=2", "--distillation.batch_size=2"]  # fmt: skip
    assert train.main([*arguments, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    facts = result["protocol"]
    assert result["status"] == "finished" and facts["id"].startswith("segp-cifar100+changed-")
    assert facts["changed"] == ["data.order", "data.classes_per_task", "model.pretrained"]
    assert facts["layout"].startswith("CIFAR100") and facts["transform"]["image_size"] == 224
    assert facts["weights"]["name"] == "ViT-B-16-quickgelu" and len(facts["weights"]["hash"]) == 64
    assert facts["tasks"] == [["thing 00", "thing 01"], ["thing 02", "thing 03"]]
    assert result["tasks"][1]["anchors"] == 4 and result["tasks"][1]["steps"] == 1
    assert set(result["tasks"][1]["losses"]) == {"classification", "acgd", "tsgr"}
    learner = SeGPCL.load(tmp_path / "run/checkpoints/task-002")
    assert (
        sum(p.numel() for p in learner.backbone.trained_parameters()) == 3_440_640
    )  # rank 32, B alone, as the paper counts


@pytest.mark.slow
def test_all_tasks_may_be_learnt_at_once_by_any_method(tmp_path):
    """The frozen rows beside it learn task after task."""
    assert small_run(tmp_path, "--training.joint", "--anchors.steps=1") == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["settings"]["training"]["joint"] is True and len(result["scores"]["frozen prototypes"]["A"]) == 2


@pytest.mark.slow
def test_without_global_rows(finished, tmp_path):
    assert small_run(tmp_path, "--data.evaluate_global=false") == 0
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (tmp_path / "run", finished))
    for name, scores in theirs["scores"].items():
        assert ours["scores"][name] == {
            key: value for key, value in scores.items() if "global" not in key and key != "settings"
        }
    assert not (tmp_path / "run/plots/global.png").exists()
    assert "Global" not in (tmp_path / "run/summary.md").read_text().replace("data.evaluate_global", "")
