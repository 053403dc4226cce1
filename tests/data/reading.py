"""Reads made data sets as pixels, for the tests of items, decoding and images."""

import numpy as np
import torch

from segp_ext.config import LoadingConfig
from segp_ext.data.images import Reader


def halve(image):
    return torch.from_numpy(np.asarray(image)[::2, ::2].transpose(2, 0, 1).copy())


def reader(**loading):
    return Reader(halve, LoadingConfig(**loading), torch.device("cpu"))


def pixels_of(images, *chunks):
    return [(i.tolist(), p[:, 1, 1, 1].tolist()) for i, p in images.read([torch.tensor(chunk) for chunk in chunks])]
