"""Files read in a stream, with the places of those that cannot be read."""

import numpy as np
import pytest
from made import tiny_backbone
from PIL import Image

from segp_ext.config import LoadingConfig
from segp_ext.run.readable_files import file_reader, read_files


def test_a_reader_is_exact_whatever_training_does():
    backbone = tiny_backbone()
    reader = file_reader(backbone, LoadingConfig(resize="device", workers=3, orientation="exif"))
    assert (reader.transform, reader.workers, reader.upright) == (backbone.transform, 3, True)
    assert file_reader(backbone, LoadingConfig(workers=3), 0).workers == 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_places_of_files_and_of_errors(tmp_path, size):
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8)).save(file)
    files[1].write_bytes(b"")
    files[4].unlink()
    found = list(read_files(files, file_reader(tiny_backbone(), LoadingConfig(), 0), size, "reading"))
    assert [place for batch in found for place in batch.places] == [0, 2, 3]
    assert [place for batch in found for place in batch.errors] == [1, 4]
    values = [int(image[0, 0, 0]) for batch in found if batch.pixels is not None for image in batch.pixels]
    assert values == [0, 100, 150] and all((batch.pixels is None) == (not batch.places) for batch in found)
