"""What the server counts, in the form that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TYPE = CONTENT_TYPE_LATEST
"""Content type of the text."""
_METHODS = ("GET", "HEAD", "POST", "DELETE")


class Metrics:
    """Counters of one server.

    Attributes:
        batches: Numbers of images in batches.
        named: Images that were named.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "segp_requests", "Requests by endpoint, method and status.", ["endpoint", "method", "status"], registry=self._registry
        )  # fmt: skip
        self._seconds = Histogram(
            "segp_request_seconds", "Time to answer a request, in seconds.", ["endpoint"], registry=self._registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
        )  # fmt: skip
        self.batches = Histogram(
            "segp_batch_images", "Images that passed through the model together.", registry=self._registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )  # fmt: skip
        self.named = Counter("segp_images", "Images that were named.", registry=self._registry)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Adds a number that is asked for whenever the metrics are read."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Returns all metrics as text."""
        return generate_latest(self._registry)

    def counting(self, app: ASGIApp) -> ASGIApp:
        """Returns an application that counts the requests of another one."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begin, status = time.perf_counter(), "none"

            async def with_status(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            try:
                await app(scope, receive, with_status)
            finally:
                # The route, not the path: whoever asks for many paths must not make many counters.
                endpoint = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._requests.labels(endpoint, method, status).inc()
                self._seconds.labels(endpoint).observe(time.perf_counter() - begin)

        return counted
