"""Rows of a comparison: their folders, and the lists that hold them."""

import pytest

from segp_ext import compare
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.run.jobs import Job
from segp_ext.run.rows import Row, packaged_rows, read_rows

ROWS = "main", "parts", "sources", "robustness", "places", "anchors", "training"


def test_the_papers_tables_are_lists_of_methods():
    assert packaged_rows() == sorted(f"paper/{name}" for name in ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("rows", packaged_rows())
@pytest.mark.parametrize("benchmark", ["cifar100", "imagenet-r", "imagenet100", "cub200", "ucf101"])
def test_every_row_of_the_papers_tables_fits_every_benchmark(rows, benchmark, tmp_path):
    """The settings of each row reach the run, and no row changes what a protocol fixes."""
    for label in read_rows(rows):
        given = ["--config", benchmark, "--data.root=made", "--anchors.reference=other"]
        settings = Job.of(Row(label), 1, tmp_path, given, 1).settings
        method, *changes = label.split()
        assert settings["method"] == method and settings["protocol"] == f"segp-{benchmark}"
        for change in changes:
            name, value = change.split("=")
            section, setting = name.split(".")
            assert str(settings[section][setting]) == value or settings[section][setting] == float(value)
        assert settings["training"]["epochs"] == 10 and settings["model"]["pretrained"] == "openai"
        assert settings["data"]["order"] == PROTOCOLS[f"segp-{benchmark}"]["data.order"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; lists in the package: paper/anchors"),
        ("segp: 1", "the file must hold a list of methods"),
        ("- [segp]", "the file must hold a list of methods"),
        ("[]", "the file must hold a list of methods"),
        ("- 'segp", "the file is not YAML"),
        ("- " + 3000 * "[", "the file is not YAML"),
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


def test_folders_have_names_that_a_disk_takes_and_tell_methods_apart(tmp_path, capsys):
    long = "joint lora.targets=[" + ",".join(f"layer.{n}" for n in range(60)) + "]"
    folders = [Row(label).folder(tmp_path, 1) for label in (long, long + " lora.rank=2")]
    assert folders[0] != folders[1] and max(len(folder.name.encode()) for folder in folders) < 220
    with pytest.raises(SystemExit):
        compare.main(["--out", str(tmp_path), "--methods", "segp template={}", "segp template=({})"])
    assert "'segp template={}' and 'segp template=({})' would share a folder" in capsys.readouterr().err
