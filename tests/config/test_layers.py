"""The layers of settings: which file serves without one, which layer holds, and what a method fixes."""

import pytest

from segp_ext.config.layers import build, files_for, merge


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        ([], {}, ["digits"]),
        ([], {"data.root": None}, ["digits"]),
        ([], {"data.root": "x"}, ["folder"]),
        ([], {"data.name": "cub200"}, ["cub200"]),
        ([], {"data.name": "auto", "data.root": "x"}, ["folder"]),
        ([], {"protocol": None}, []),
        ([], {"protocol": "segp-cub200", "data.root": "x"}, []),
        (["clip", "digits"], {"data.root": "x"}, ["clip", "digits"]),
    ],
)
def test_the_files_of_a_run(names, given, found):
    assert [file.stem for file in files_for(names, given)] == found


def test_later_layers_go_before_earlier_ones():
    files = [{"seed": 1, "data": {"order": 1, "names": "folders"}, "protocol": "segp-cub200"}, {"data": {"order": 2}}]
    merged = merge(files, {"data.classes_per_task": 3})
    assert merged["protocol"] == "segp-cub200" and merged["data.name"] == "cub200"  # from the protocol
    assert (merged["seed"], merged["data.names"], merged["data.order"]) == (1, "folders", 2)
    assert merged["data.classes_per_task"] == 3
    assert merge(files, {"protocol": "rapf-cifar100"})["data.name"] == "cifar100"
    assert "data.name" not in merge(files, {"protocol": None})
    with pytest.raises(ValueError, match="protocol must be one of segp-cifar100, .*; got 'segp'"):
        merge([], {"protocol": "segp"})


def test_a_file_may_hold_what_its_method_fixes_and_a_change_may_not():
    settings = {"method": "lwf", "anchors.kind": "dpgd"}
    assert build(settings, {}).anchors.kind == "dpgd"  # `with_method` puts the value of the method in its place
    with pytest.raises(
        ValueError, match="anchors.kind is fixed at 'new-images' by method lwf; method segp leaves it free"
    ):
        build(settings, {"anchors.kind": "dpgd"})
