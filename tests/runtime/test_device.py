"""Devices by name: what is usable, and what is refused."""

import pytest
import torch

from segp_ext.runtime.device import usable_device


@pytest.mark.parametrize(
    ("device", "count", "message"),
    [
        ("gpu", 0, r"model.device must be auto, cpu, cuda or cuda:<n>; got 'gpu'"),
        ("meta", 0, r"model.device must be auto, cpu, cuda or cuda:<n>; got 'meta'"),
        ("cuda", 0, r"model.device is 'cuda', but this torch \(.*\) sees no usable CUDA device"),
        ("cuda:3", 2, r"model.device is 'cuda:3', but only 2 CUDA device\(s\) are there"),
    ],
)
def test_devices_that_are_not_there_are_refused(device, count, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=message):
        usable_device(device)


def test_auto_takes_cuda_where_it_is_usable(monkeypatch):
    for there, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        assert usable_device("auto").type == expected
    with pytest.raises(ValueError, match="^device must be auto"):
        usable_device("gpu", "device")
