"""Leaves images that cannot be read out of a data set, where `data.unreadable` is skip."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from segp_ext.data.messages import several
from segp_ext.data.scenario import Collection
from segp_ext.runtime.progress import progress


def leave_out_unreadable(collection: Collection) -> None:
    """Opens every image once, takes unreadable ones out of `collection`, and names them in a warning.

    The warning names the caller's caller as its place.
    """

    def trouble(source: Any) -> str | None:
        try:
            collection.opener(source)
        except (OSError, ValueError):
            return str(source)
        return None

    bad = list(collection.missing)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, by_class in collection.parts().items():
            sources = [source for of_class in by_class for source in of_class]
            found = dict(
                zip(sources, progress(pool.map(trouble, sources), f"opening {part}", len(sources)), strict=True)
            )
            for of_class in by_class:
                of_class[:] = [source for source in of_class if found[source] is None]
            bad += [text for text in found.values() if text is not None]
    if bad:
        warnings.warn(
            f"{len(bad)} image(s) of {collection.name} are unreadable or missing and were left out (--data.unreadable skip): "
            f"{several(bad)}",
            RuntimeWarning,
            stacklevel=3,
        )
