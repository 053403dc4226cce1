"""Who may ask: the token, pages of other hosts, and the headers that every response has."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "segp_token"
"""Cookie in which a browser keeps the token, out of reach of scripts, once the page was opened with it."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine to itself."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response."""
KNOWN = "segp.known"
"""Entry of a request's scope: whether it came with the token, or none is asked for."""


def is_loopback(host: str) -> bool:
    """Tells whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Lets a request through to the application, or refuses it.

    - With a token, a request needs it: as `Authorization: Bearer`, as a browser's cookie, or as `?token=` of a page, which sets the cookie.
      `/health` answers without it, in one word.
    - Without a token, a request must name this machine as its host. A page of another host whose name was made to lead here does not.
    - A request that changes anything and comes from a page must come from this server's own page.

    Args:
        app: The application.
        token: The token; None asks for none.
        hosts: Names under which this server may be asked where no token is.
        pages: Paths that take `?token=`.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Sequence[str], pages: Sequence[str] = ("/",)) -> None:
        self.app, self.token, self.hosts, self.pages = app, token, {host.lower() for host in hosts}, {*pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        response = self._refusal(scope, Headers(scope=scope))
        await (response or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if self.token is None and re.sub(r":\d*$", "", host) not in self.hosts:
            return refused(403, "this server answers its own machine alone, which calls it localhost")
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and origin.partition("//")[2].lower() != host:
            return refused(403, "a page of another host may not do this")
        scope[KNOWN] = self.token is None or self._has_token(headers)
        if scope[KNOWN] or scope["path"] == "/health":
            return None
        assert self.token is not None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] in self.pages and _same(given, self.token):
            response = RedirectResponse(scope["path"], 303)  # the token leaves the address, and so the history
            response.set_cookie(COOKIE, quote(self.token), httponly=True, samesite="lax")
            return response
        return refused(401, "a token is asked for: Authorization: Bearer TOKEN, or /?token=TOKEN in a browser", True)

    def _has_token(self, headers: Headers) -> bool:
        assert self.token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return kept is not None and _same(unquote(kept.value), self.token)


def _same(given: str, token: str) -> bool:
    """Compares in a time that tells nothing."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode(errors="replace"))


def refused(status: int, message: str, asks: bool = False) -> Response:
    """Makes the response to a request that is refused.

    Args:
        status: The HTTP status.
        message: One line that says why.
        asks: Whether to ask for a token.
    """
    headers = {"Connection": "close", **({"WWW-Authenticate": "Bearer"} if asks else {})}
    return JSONResponse({"error": message}, status, headers)
