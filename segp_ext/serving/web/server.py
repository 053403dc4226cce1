"""The server: its socket, its connections with their time-outs, and its start and end."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_BYTES = 32_768
"""Most bytes of a request's headers."""
HEADER_SECONDS = 10.0
"""Seconds in which a request's headers must have come."""
CONNECTIONS = 512
"""Connections at a time."""
LAST_SECONDS = 30
"""Seconds that requests in hand have to end, once the server is asked to."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Opens the socket to listen on.

    Args:
        host: Name or address of this machine.
        port: The port; 0 for one that is free.

    Raises:
        OSError: In one line, if the port is in use, or the host is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} of {host} is in use; stop the program there, or choose another --port"
            ) from error
        raise OSError(f"cannot listen on port {port} of {host}: {error.strerror or error}") from error


class Connection(H11Protocol):
    """A connection whose headers must come in time, and whose errors are JSON."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for headers."""
        super().connection_made(transport)
        # asyncio does so only where a socket names its protocol. Else an answer's body waits 40 ms until its head is acknowledged.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes what came, and waits for headers if they are not there yet."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_more()
        elif self._late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends waiting."""
        self._wait_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no request, or too long a one."""
        self._refuse(400, f"this is no HTTP request, or its headers have more than {HEADER_BYTES:,} bytes")

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEADER_SECONDS, self._too_late)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._refuse(408, f"the headers did not come within {HEADER_SECONDS:g} seconds")

    def _refuse(self, status: int, message: str) -> None:
        content = json.dumps({"error": message}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            ("connection", "close"),
        ]
        phrase = HTTPStatus(status).phrase
        try:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=phrase),
                h11.Data(data=content),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
        except h11.LocalProtocolError:  # a response had begun
            self.transport.abort()


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answers requests until the process is asked to end; requests in hand are answered then.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
    """
    options: dict[str, Any] = {
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "log_level": "error",
    }
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=LAST_SECONDS,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        **options,
    )
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # else a line on every form that cannot be read
    uvicorn.Server(config).run(sockets=[listening])
