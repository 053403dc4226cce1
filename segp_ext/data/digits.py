"""Provides scikit-learn's handwritten digits, the built-in data set: 1,797 real 8×8 scans of ten classes."""

from __future__ import annotations

import numpy as np

from segp_ext.data.scenario import Collection, PixelArray


def digits() -> Collection:
    """Returns the digits as uint8 `[3, 8, 8]` pixels, with a fixed 70/30 split of every class (stratified, random state 0).

    Class names are the numerals. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    grey = np.round(scans.images * (255 / 16)).astype(np.uint8)
    images = PixelArray(np.repeat(grey[:, None], 3, axis=1))
    parts = train_test_split(np.arange(len(grey)), test_size=0.3, stratify=scans.target, random_state=0)
    train, test = ([sorted(int(i) for i in part if scans.target[i] == c) for c in range(10)] for part in parts)
    return Collection(
        name="digits",
        class_names=[str(c) for c in range(10)],
        train=train,
        test=test,
        opener=images.open,
        fingerprint=images.fingerprint,
        layout="digits: scikit-learn's 8×8 scans, a stratified 70/30 split",
    )
