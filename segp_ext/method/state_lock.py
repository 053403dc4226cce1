"""Who may read or change a learner's state, and when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segp_ext.runtime.forked import one_thread_if_forked

_BUSY = "this learner is learning a task, so its state is changing; ask for its classifier() before, and predict with that meanwhile"


class StateLock:
    """Guards a learner's state: short reads and changes wait for each other, and learning refuses them.

    Attributes:
        learning: whether a task is being learnt.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.learning = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the state for a moment, to read or to change it; others wait.

        Raises:
            RuntimeError: if the learner is learning.
        """
        one_thread_if_forked()
        with self._lock:
            if self.learning:
                raise RuntimeError(_BUSY)
            yield

    @contextmanager
    def learns(self) -> Iterator[None]:
        """Changes the state for a long time; others are refused meanwhile.

        Raises:
            RuntimeError: if the learner is learning already.
        """
        with self.held():
            self.learning = True
        try:
            yield
        finally:
            self.learning = False
