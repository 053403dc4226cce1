"""Methods side by side: what is run, taken and gone on with; the numbers of the table worked out by hand; the page."""

import csv
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from made_results import made, write
from run_here import runs_here
from trees import cifar100, make

from segp_ext import compare
from segp_ext.config.protocols import PROTOCOLS

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
    assert page.count("data:image/png;base64,") == len(list((out / "plots").glob("*.png"))) == 5
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "| lora training.classes=new | dual | 2 |" in markdown and "![Time by phase](plots/time.png)" in markdown
    own = (out / "runs/lwf-1/report.html").read_text()
    assert own.count("data:image/png;base64,") == len(list((out / "runs/lwf-1/plots").glob("*.png")))


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


def test_a_seed_takes_its_place_in_settings(tmp_path):
    given = ["--data.root=scenes/{seed}/scene", "--held_out", "[scenes/{seed}/clean]", "--data.order=null"]
    job = compare.Job.of(compare.Row("lora"), 7, tmp_path, given, 1)
    assert job.settings["data"]["root"] == "scenes/7/scene" and job.settings["held_out"] == ["scenes/7/clean"]
    assert job.settings["data"]["order"] is None and job.settings["seed"] == 7
    assert compare.Job.of(compare.Row("lora"), 7, tmp_path, given[:-1], 1).settings["data"]["order"] == 7
    assert compare.Job.of(compare.Row("lora"), 7, tmp_path, ["--data.order=3"], 1).settings["data"]["order"] == 3
    assert compare.Job.of(compare.Row("lora"), 7, tmp_path, ["--data", "{order: 3}"], 1).settings["data"]["order"] == 3
    job = compare.Job.of(compare.Row("lora data.root=scenes/{seed}"), 7, tmp_path, [], 1)
    assert job.settings["data"]["root"] == "scenes/7"


@pytest.mark.slow
def test_a_run_of_other_settings_is_not_taken(compared, capsys):
    assert compare.main([*compared[1], "--anchors.steps=2"]) == 2
    assert "holds a run with anchors.steps 1, not 2 as asked for" in capsys.readouterr().err


def made_folder(tmp_path, **settings):
    """A finished run of lora, and the arguments that it came from."""
    given = [f"--{name.replace('__', '.')}={value}" for name, value in settings.items()]
    job = compare.Job.of(compare.Row("lora"), 1, tmp_path, given, 1)
    write(job.folder, made(0.5, 0.1))
    (job.folder / "config.yaml").write_text(yaml.safe_dump(job.settings))
    return job


def test_a_run_on_other_data_or_weights_is_not_taken(tmp_path):
    there = {"data__root": "a", "model__pretrained": "openai"}
    assert made_folder(tmp_path, **there).result() is not None
    for change, name in (({"data__root": "b"}, "data.root"), ({"model__pretrained": "laion"}, "model.pretrained")):
        given = [f"--{key.replace('__', '.')}={value}" for key, value in (there | change).items()]
        with pytest.raises(ValueError, match=f"holds a run with {name} "):
            compare.Job.of(compare.Row("lora"), 1, tmp_path, given, 1).result()


def test_rows_on_other_images_or_weights_of_one_name_are_not_compared(tmp_path):
    jobs = [
        compare.Job.of(compare.Row(row), 1, tmp_path, [], 1) for row in ("lora", "lwf", "lwf data.classes_per_task=5")
    ]
    had = [("a", "w"), ("a", "w"), ("b", "w")]

    def check(had):
        compare._check_same_data(
            {
                job: made(0.5, 0.1, protocol={"split_hash": s, "weights": {"hash": w}})
                for job, (s, w) in zip(jobs, had, strict=True)
            }
        )

    check(had)  # other settings may find others
    for changed, what in ((("b", "w"), "images"), (("a", "v"), "weights")):
        with pytest.raises(ValueError, match=f"lora-1 and .*lwf-1 were run on other {what} under the same name"):
            check([had[0], changed, had[2]])


def test_a_setting_that_a_method_has_of_its_own_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "_execute", lambda jobs, devices, count, results: {})
    assert compare.main(["--methods", "segp", "adc", f"--out={tmp_path}", "--anchors.steps=20"]) == 1
    assert "note: adc has its own anchors.steps; --anchors.steps does not reach it\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", '{"status": "finished"}', "{"])
def test_half_a_result_is_none(content, tmp_path):
    job = made_folder(tmp_path)
    (job.folder / "result.json").write_text(content)
    assert job.result() is None


def test_a_run_of_the_earlier_method_is_named(tmp_path):
    job = made_folder(tmp_path)
    result = json.loads((job.folder / "result.json").read_text())
    (job.folder / "result.json").write_text(json.dumps({**result, "versions": {"segp_ext": "0.1.0"}}))
    with pytest.raises(
        ValueError, match=r"remove .*lora-1, or choose another --out: .*lora-1 was made by segp_ext 0.1.0, whose"
    ):
        job.result()


def test_an_unreadable_run_is_named(tmp_path):
    job = made_folder(tmp_path)
    (job.folder / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"lora-1.config.yaml cannot be read; remove .*lora-1"):
        job.result()


def test_what_a_run_may_be_resumed_with_is_passed_on_and_its_last_words_are_its_own(tmp_path, monkeypatch):
    job = made_folder(tmp_path, anchors__batch_size=16, data__root="a")
    job.log.write_text("error: an old failure\n")
    called = {}

    def run(command, stdout, env, **_):
        called.update(command=command, env=env)
        stdout.write("Killed\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(subprocess, "run", run)
    assert job.execute("3") == "exit status -9: Killed"
    assert called["env"]["CUDA_VISIBLE_DEVICES"] == "3"
    resumed = ["--resume", str(job.folder), "--run.threads=1", "--anchors.batch_size=16"]
    assert called["command"][3:] == resumed


def test_runs_get_the_devices_that_may_be_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert compare._devices() == ["2", "GPU-5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert compare._devices() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert compare._devices() == [None]


def test_nothing_begins_after_an_interrupt(tmp_path, monkeypatch):
    begun, stopped, shutdown = [], threading.Event(), ThreadPoolExecutor.shutdown

    def execute(job, device):
        begun.append(job.seed)
        assert len(begun) == 1 or stopped.wait(1800)  # the second one is at work when the interrupt comes
        return "failed"

    def interrupted(futures, *_):
        next(futures)
        raise KeyboardInterrupt

    def stop(pool, **how):
        shutdown(pool, **{**how, "wait": False})
        stopped.set()
        shutdown(pool, **how)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", stop)
    monkeypatch.setattr(compare.Job, "execute", execute)
    monkeypatch.setattr(compare, "progress", interrupted)
    jobs = [compare.Job.of(compare.Row("lora"), seed, tmp_path, [], 1) for seed in range(1, 7)]
    with pytest.raises(KeyboardInterrupt):
        compare._execute(jobs, [None], 1, {})
    assert len(begun) <= 2


def test_what_is_said_of_runs_stands_above_their_bar(tmp_path, monkeypatch):
    """It goes through `say`, which test_progress has on a terminal."""
    said = []
    monkeypatch.setattr(compare, "say", lambda line, *stream: said.append((line, *stream)))
    monkeypatch.setattr(compare.Job, "execute", lambda job, device: "" if job.seed == 1 else "it broke")
    monkeypatch.setattr(compare.Job, "result", lambda job: made(0.5, 0.1))
    jobs = [compare.Job.of(compare.Row("lora"), seed, tmp_path, [], 1) for seed in (1, 2)]
    compare._execute(jobs, [None], 1, {})
    said.sort(key=lambda line: line[0])  # what ended at once comes in any order
    assert said == [("lora, seed 1: Last text 50.0, visual 50.0, dual 50.0",), ("lora, seed 2: it broke", sys.stderr)]


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
        (["--methods", "lora seed=3", "--out=x"], "'lora seed=3' sets seed, which is what --seeds says here"),
        (["--methods", " ", "--out=x"], "--methods must hold methods"),
        (["--seed=7", "--out=x"], "--seed is what --seeds says here"),
        (["--run.name", "mine", "--out=x"], "--run.name is what --out says here"),
        (["--seeds", "5000000000", "--out=x"], "data.order must be from 0 to 2**32 - 1; got 5000000000"),
        ([f"--out={__file__}"], "--out must be a folder"),
        ([], "--out"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


ROWS = "main", "parts", "sources", "robustness", "places", "anchors", "training"


def test_the_papers_tables_are_lists_of_methods():
    assert compare.packaged_rows() == sorted(f"paper/{name}" for name in ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("rows", compare.packaged_rows())
@pytest.mark.parametrize("benchmark", ["cifar100", "imagenet-r", "imagenet100", "cub200", "ucf101"])
def test_every_row_of_the_papers_tables_fits_every_benchmark(rows, benchmark, tmp_path):
    """The settings of each row reach the run, and nothing that a protocol fixes is changed by one."""
    for label in compare.read_rows(rows):
        given = ["--config", benchmark, "--data.root=made", "--anchors.reference=other"]
        settings = compare.Job.of(compare.Row(label), 1, tmp_path, given, 1).settings
        method, *changes = label.split()
        assert settings["method"] == method and settings["protocol"] == f"segp-{benchmark}"
        for change in changes:
            name, value = change.split("=")
            section, setting = name.split(".")
            assert str(settings[section][setting]) == value or settings[section][setting] == float(value)
        assert settings["training"]["epochs"] == 10 and settings["model"]["pretrained"] == "openai"
        assert settings["data"]["order"] == PROTOCOLS[f"segp-{benchmark}"]["data.order"]


MADE = [
    "--seeds", "1", "--config", "cifar100", "--model.name=glyph", "--model.pretrained=null", "--data.order=null",
    "--data.classes_per_task=3", "--training.epochs=1", "--anchors.seeds_per_class=2", "--anchors.reference=digits", "--lora.rank=2",
]  # fmt: skip
"""What needs weights and images is replaced on the command line; everything else is a table's own."""


def tables_of(page):
    """The tables of a page in Markdown, each as rows by column."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    found = []
    for block in blocks:
        header, _, *rows = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        )
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def row_of(table, method, path=None):
    return next(row for row in table if row["method"] == method and row.get("path") in (path, None))


@pytest.fixture
def compared_rows(tmp_path, monkeypatch):
    """Runs a list of methods on made data, in this process, and gives the tables of its page by name."""
    runs_here(monkeypatch)

    def run(rows, *arguments, without=()):
        archive = cifar100(tmp_path / "data", per_class=(3, 2), classes=6)
        labels = [label for label in compare.read_rows(f"paper/{rows}") if label.split()[0] not in without]
        given = ["--methods", *labels, f"--out={tmp_path / rows}", f"--data.root={archive}", *MADE, *arguments]
        assert compare.main(given) == 0
        tables = tables_of((tmp_path / rows / "summary.md").read_text())
        names = ["seen", "global", *(["retention"] if len(tables) == 4 else []), "cost"]
        return dict(zip(names, tables, strict=True))

    return run


NUMBER = r"[+-]?\d+\.\d"


@pytest.mark.slow
def test_main_has_the_columns_of_tables_one_and_two(compared_rows):
    # adc takes 100 seeds of each class, ranpac 10,000 random features: too much for made data
    tables = compared_rows("main", without=("adc", "ranpac"))
    for path in ("text", "dual"):  # the paper's onlyCLIP, and its method
        row = row_of(tables["seen"], "segp", path)
        assert re.fullmatch(NUMBER, row["Avg"]) and re.fullmatch(NUMBER, row["Last"])
    assert re.fullmatch(NUMBER, row_of(tables["seen"], "zero-shot", "text")["Last"])
    own = row_of(tables["global"], "segp")
    assert all(re.fullmatch(NUMBER, own[f"global {name}"]) for name in ("FWT", "BWT", "Forgetting", "Last"))
    assert own["global Last"] == row_of(tables["seen"], "segp", "text")["Last"]
    assert row_of(tables["global"], "zero-shot")["global BWT"] == "0.0"
    assert {row["method"] for row in tables["global"]} >= {"zero-shot", "segp", "lora", "joint", "linear-probe"}


@pytest.mark.slow
def test_sources_has_the_columns_of_table_three(compared_rows):
    tables = compared_rows("sources")
    row = row_of(tables["seen"], "segp prototypes.transfer=none", "text")
    assert re.fullmatch(NUMBER, row["Avg − lora's"]) and re.fullmatch(NUMBER, row["Last − lora's"])
    assert row_of(tables["seen"], "lora", "text")["Avg − lora's"] == "–"


@pytest.mark.slow
def test_parts_has_the_columns_of_table_four(compared_rows):
    tables = compared_rows("parts")
    steps = ["lora", "segp text_geometry.weight=0 prototypes.transfer=none", "segp prototypes.transfer=none", "segp"]
    assert compare.read_rows("paper/parts")[:4] == steps
    for method, path in [*((step, "text") for step in steps), ("segp", "dual")]:
        row = row_of(tables["seen"], method, path)
        assert re.fullmatch(NUMBER, row["Last"]) and re.fullmatch(NUMBER, row["Forgetting"])


@pytest.mark.slow
def test_robustness_has_the_columns_of_table_five(compared_rows, tmp_path):
    held = [make(tmp_path / name, {f"{c}": 3 for c in ("ant", "bee", "cow")}) for name in ("food", "pets", "imagenet")]
    tables = compared_rows("robustness", f"--held_out=[{','.join(map(str, held))}]")
    rows = [row for row in tables["retention"] if row["method"] == "segp"]
    assert [row["data set"] for row in rows] == ["food", "pets", "imagenet"]
    # the model's weights are random
    assert all(
        re.fullmatch(rf"{NUMBER} \(chance\)", row["before"]) and re.fullmatch(NUMBER, row["after the last task"])
        for row in rows
    )


@pytest.mark.slow
def test_places_has_the_columns_of_table_six(compared_rows):
    tables = compared_rows("places")
    counts = {}
    for method in ("segp", "lora"):
        for places in ("kv", "ffn", "kv+ffn"):
            for rank in (8, 32):
                label = f"{method} lora.targets={places} lora.rank={rank}"
                assert re.fullmatch(NUMBER, row_of(tables["seen"], label, "dual")["Last"])
                cost = row_of(tables["cost"], label)
                assert int(cost["ms/step"]) > 0
                counts[method, places, rank] = float(cost["trained"].removesuffix(" k"))
    assert counts["segp", "kv", 8] < counts["segp", "ffn", 8] < counts["segp", "kv+ffn", 8]
    assert counts["segp", "kv+ffn", 8] < counts["segp", "kv+ffn", 32] == counts["lora", "kv+ffn", 32]


@pytest.mark.slow
def test_a_table_of_the_papers_runs_by_its_command(tmp_path, capsys):
    """Each run in a process of its own, as users have it."""
    archive = cifar100(tmp_path / "data", per_class=(3, 2), classes=6)
    arguments = ["--rows=paper/parts", "--jobs", "2", f"--out={tmp_path / 'out'}", f"--data.root={archive}", *MADE]
    assert compare.main(arguments) == 0
    lines = list(csv.DictReader((tmp_path / "out/results.csv").open()))
    assert {line["row"] for line in lines} >= {*compare.read_rows("paper/parts"), "zero-shot", "frozen prototypes"}
    assert all(line["protocol"].startswith("segp-cifar100+changed-") for line in lines)
    said = capsys.readouterr().out
    assert "6 runs, 0 of them done" in said
    for heading in ("Over seen classes: ", "Global, text path: ", "Cost. "):
        assert heading in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; lists in the package: paper/anchors"),
        ("segp: 1", "it must hold a list of methods"),
        ("- [segp]", "it must hold a list of methods"),
        ("[]", "it must hold a list of methods"),
        ("- 'segp", "it is no YAML"),
        ("- " + 3000 * "[", "it is no YAML"),
        ("- segp\n- segp", "--methods holds 'segp' twice"),
        ("- sgep", "method must be one of segp"),
    ],
)
def test_a_list_of_methods_that_is_none_is_named(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "rows.yaml").write_text(content)
    with pytest.raises(SystemExit) as stop:
        compare.main([f"--rows={tmp_path / 'rows.yaml'}", f"--out={tmp_path}"])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_rows_and_methods_are_not_mixed(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--rows=paper/main", "--methods", "segp", f"--out={tmp_path}"])
    assert "--methods and --rows say the same thing" in capsys.readouterr().err


def test_folders_have_names_that_a_disk_takes_and_tell_methods_apart(tmp_path, capsys):
    long = "joint lora.targets=[" + ",".join(f"layer.{n}" for n in range(60)) + "]"
    folders = [compare.Row(label).folder(tmp_path, 1) for label in (long, long + " lora.rank=2")]
    assert folders[0] != folders[1] and max(len(folder.name.encode()) for folder in folders) < 220
    with pytest.raises(SystemExit):
        compare.main(["--out", str(tmp_path), "--methods", "segp template={}", "segp template=({})"])
    assert "'segp template={}' and 'segp template=({})' would share a folder" in capsys.readouterr().err


def test_all_of_trains_settings_are_taken(tmp_path):
    row = compare.Row("segp anchors.steps=3")
    job = compare.Job.of(row, 4, tmp_path, ["--config", "digits"], None)
    assert job.settings["anchors"]["steps"] == 3 and job.settings["seed"] == job.settings["data"]["order"] == 4
    fixed = compare.Job.of(compare.Row("segp data.order=9"), 4, tmp_path, [], None)
    assert fixed.settings["data"]["order"] == 9
    named = compare.Job.of(row, 4, tmp_path, ["--protocol=segp-cub200", "--data.root=x"], None)
    assert named.settings["data"]["order"] == "cub200-rapf" and named.settings["seed"] == 4
