"""The command that compares: what runs, what is taken, what goes on, and which arguments are refused."""

import csv
import json
import shutil

import pytest
from made_pages import parsed, pictures
from run_here import runs_here

from segp_ext import compare

FAST = [
    "--training.epochs=1", "--data.max_images_per_class=6", "--data.classes_per_task=5", "--anchors.seeds_per_class=2",
    "--anchors.steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    arguments = ["--methods", "lwf", "lora training.classes=new", "ranpac", "--seeds", "1", "2", f"--out={out}", *FAST]
    with pytest.MonkeyPatch.context() as patch:
        runs_here(patch)
        assert compare.main(arguments) == 0
    return out, arguments


@pytest.mark.slow
def test_all_runs_are_there_and_in_the_table(compared):
    out, _ = compared
    names = {f"{row}-{seed}" for row in ("lwf", "lora-training.classes=new", "ranpac") for seed in (1, 2)}
    assert {path.name for path in (out / "runs").iterdir() if path.is_dir()} == names
    lines = list(csv.DictReader((out / "results.csv").open()))
    rows = {(line["row"], line["path"], line["seed"]) for line in lines}
    assert len(rows) == len(lines) == 2 * (3 + 3 * 3)
    assert ("zero-shot", "text", "1") in rows and ("lora training.classes=new", "dual", "2") in rows
    matrices = [json.loads(line) for line in (out / "matrices.jsonl").read_text().splitlines()]
    assert {(m["row"], m["path"], str(m["seed"])) for m in matrices} == rows
    for line in lines:
        if line["row"] == "lwf":
            result = json.loads((out / f"runs/lwf-{line['seed']}/result.json").read_text())
            assert float(line["last"]) == pytest.approx(result["scores"][f"lwf ({line['path']})"]["last"], abs=1e-6)
    settings = [json.loads((out / f"runs/{name}/result.json").read_text()) for name in ("lwf-1", "lwf-2")]
    assert [(r["seed"], r["protocol"]["order"]) for r in settings] == [(1, 1), (2, 2)]


@pytest.mark.slow
def test_the_page_holds_its_pictures(compared):
    out, _ = compared
    page, markdown = (out / "report.html").read_text(), (out / "summary.md").read_text()
    links = parsed(page)
    assert len(list((out / "plots").glob("*.png"))) == 5 and len(pictures(page)) > 9 and "src=" not in page
    files = [link for link in links if not link.startswith("#")]
    assert len([link for link in files if link.startswith("runs/")]) == 6
    assert all((out / link).is_file() for link in files)
    assert "| lora training.classes=new | dual | 2 |" in markdown and "![Time by phase](plots/time.png)" in markdown
    own = out / "runs/lwf-1"
    files = [link for link in parsed((own / "report.html").read_text()) if not link.startswith("#")]
    assert files and all((own / link).is_file() for link in files)


@pytest.mark.slow
def test_what_is_done_is_taken_and_what_stopped_goes_on(compared, monkeypatch, capsys):
    runs_here(monkeypatch)
    out, arguments = compared
    before = (out / "results.csv").read_text()
    kept = json.loads((out / "runs/lwf-2/result.json").read_text())
    (out / "runs/lwf-2/result.json").write_text(json.dumps({**kept, "status": "running"}))
    shutil.rmtree(out / "runs/ranpac-1")
    assert compare.main(arguments) == 0
    assert "6 runs, 4 of them done" in capsys.readouterr().out
    gone_on = json.loads((out / "runs/lwf-2/result.json").read_text())
    assert (
        gone_on["status"] == "finished"
        and gone_on["scores"] == kept["scores"]
        and gone_on["started"] == kept["started"]
    )

    def numbers(text):
        return [line.split(",")[:12] for line in text.splitlines()]

    assert numbers((out / "results.csv").read_text()) == numbers(before)


@pytest.mark.slow
def test_a_run_of_other_settings_is_not_taken(compared, capsys):
    assert compare.main([*compared[1], "--anchors.steps=2"]) == 2
    assert "holds a run with anchors.steps 1, not 2 as asked for" in capsys.readouterr().err


def test_a_setting_that_a_method_has_of_its_own_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "execute_jobs", lambda jobs, devices, count, results: {})
    assert compare.main(["--methods", "segp", "adc", f"--out={tmp_path}", "--anchors.steps=20"]) == 1
    assert "note: --anchors.steps does not apply to adc, whose method sets it\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_kept(tmp_path, capsys):
    arguments = [
        "--methods",
        "lora",
        "segp lora.rank=999",
        "--seeds",
        "1",
        f"--out={tmp_path}",
        *FAST[:-2],
        "--anchors.steps=1",
    ]
    assert compare.main(arguments) == 1
    said = capsys.readouterr()
    assert "error: segp lora.rank=999, seed 1: exit status 2: " in said.err and "lora.rank must be at most" in said.err
    assert "lora" in said.out and (tmp_path / "summary.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "lora", "lora", "--out=x"], "--methods holds 'lora' twice"),
        (["--seeds", "1", "1", "--out=x"], "--seeds holds 1 twice"),
        (["--jobs=0", "--out=x"], "--jobs must be 1 or more; got 0"),
        (["--methods", "sgep", "--out=x"], "method must be one of segp"),
        (["--methods", "lora training.epoch=3", "--out=x"], "close: --training.epochs"),
        (["--methods", "segp", "lora training.epoch=3", "--out=x"], "(in the row 'lora training.epoch=3')"),
        (["--methods", "lora seed=3", "--out=x"], "'lora seed=3' sets seed; here --seeds says that"),
        (["--methods", " ", "--out=x"], "--methods must hold methods"),
        (["--seed=7", "--out=x"], "--seed cannot be given here; give --seeds instead"),
        (["--run.name", "mine", "--out=x"], "--run.name cannot be given here; give --out instead"),
        (["--seeds", "5000000000", "--out=x"], "data.order must be from 0 to 2**32 - 1; got 5000000000"),
        ([f"--out={__file__}"], "--out must be a folder"),
        ([], "--out"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_rows_and_methods_are_not_mixed(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--rows=paper/main", "--methods", "segp", f"--out={tmp_path}"])
    assert "--methods and --rows say the same thing" in capsys.readouterr().err
