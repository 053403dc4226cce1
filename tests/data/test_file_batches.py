"""Files decoded in batches: order, errors, and how far the reading is ahead."""

import os
import signal

import pytest
import torch
from data.reading import reader
from PIL import Image

from segp_ext.data import file_batches as module
from segp_ext.data.file_batches import file_batches


@pytest.fixture
def files(tmp_path):
    """Seven images, each of one grey; the third and the seventh are broken."""
    found = []
    for number in range(7):
        found.append(tmp_path / f"{number}.png")
        Image.new("RGB", (4, 4), (number, number, number)).save(found[-1])
        if number in (2, 6):
            found[-1].write_bytes(b"broken")
    return found


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_files_come_in_order_and_broken_ones_as_errors(files, size, workers):
    batches = list(file_batches(files, reader(workers=workers), size))
    assert [len(batch.errors) for batch in batches] == [len(files[i : i + size]) for i in range(0, 7, size)]
    grey = [number for batch in batches if batch.pixels is not None for number in batch.pixels[:, 0, 0, 0].tolist()]
    assert grey == [0, 1, 3, 4, 5]
    errors = [error for batch in batches for error in batch.errors]
    assert [place for place, error in enumerate(errors) if error] == [2, 6]
    assert errors[2].startswith(f"cannot read {files[2]} as an image: ")
    for batch in batches:
        count = batch.errors.count(None)
        assert batch.pixels is None if count == 0 else batch.pixels.shape == (count, 3, 2, 2)
        assert batch.pixels is None or batch.pixels.dtype == torch.uint8


def test_a_pipe_is_an_error_and_nobody_waits_for_it(files, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (batch,) = file_batches([files[0], tmp_path / "pipe.png"], reader(workers=0), 2)
    assert batch.errors == [
        None,
        f"cannot read {tmp_path / 'pipe.png'} as an image: it is neither a file nor a link to one",
    ]


def test_no_more_than_one_batch_is_read_before_it_is_asked_for(files, monkeypatch):
    opened = []
    usual = module.open_image
    monkeypatch.setattr(module, "open_image", lambda file: opened.append(file) or usual(file))
    batches = file_batches(files, reader(workers=0), 2)
    assert not opened
    next(batches)
    assert len(opened) == 2
    next(batches)
    assert len(opened) == 4


def test_reading_draws_no_number_of_the_callers(files):
    state = torch.get_rng_state()
    list(file_batches(files, reader(workers=1), 2))
    assert torch.equal(state, torch.get_rng_state())


def test_no_files_are_no_batches():
    assert list(file_batches([], reader(), 4)) == []


def test_a_worker_that_dies_is_explained(files, monkeypatch):
    monkeypatch.setattr(module, "prepared", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildProcessError, match=r"in 1 process\(es\) beside .* failed: .*predict: --workers 0"):
        list(file_batches(files, reader(workers=1), 2))
