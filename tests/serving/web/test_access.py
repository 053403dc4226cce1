"""Who may ask: tokens, hosts, and pages of other hosts."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from segp_ext.serving.web.access import HEADERS, KNOWN, LOOPBACK, Access, is_loopback


async def known(scope, receive, send):
    await PlainTextResponse(str(scope[KNOWN]))(scope, receive, send)


def client_of(token, host="localhost:8000"):
    return TestClient(
        Access(known, token, LOOPBACK, ("/", "/report")), base_url=f"http://{host}", follow_redirects=False
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_this_machine_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_other_machines_too(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_without_a_token_this_machine_may_ask(host):
    response = client_of(None, host).get("/predict")
    assert response.status_code == 200 and response.text == "True"
    assert all(response.headers[name] == value for name, value in HEADERS.items())
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]:8000"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host):
    response = client_of(None, host).get("/predict")
    assert response.status_code == 403 and [*response.json()] == ["error"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9000", "http://localhost"])
def test_a_page_of_another_host_changes_nothing(origin):
    client = client_of(None)
    for method in ("POST", "DELETE", "PUT"):
        assert client.request(method, "/job", headers={"Origin": origin}).status_code == 403
        assert client.request(method, "/job", headers={"Origin": "http://localhost:8000"}).status_code == 200
        assert client.request(method, "/job").status_code == 200  # a program


@pytest.mark.parametrize("given", ["Bearer s3cret ", "bearer s3cret"])
def test_the_token_opens(given):
    assert client_of("s3cret", "any.example").get("/predict", headers={"Authorization": given}).text == "True"


@pytest.mark.parametrize(
    "given", [None, "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Bearer é"]
)
def test_all_else_does_not(given):
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for path in ("/", "/predict", "/metrics", "/report", "/classes"):
        response = client_of("s3cret").get(path, headers=headers)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer", path
        assert "s3cret" not in response.text


def test_health_answers_anybody_and_knows_who_has_no_token():
    client = client_of("s3cret")
    assert client.get("/health").text == "False"
    assert client.get("/health", headers={"Authorization": "Bearer s3cret"}).text == "True"


@pytest.mark.parametrize("token", ["s3cret", "a b;c=d", "é&x"])
def test_a_page_takes_the_token_from_its_address_once(token):
    client = client_of(token)
    for path in ("/", "/report"):
        client.cookies.clear()
        response = client.get(path, params={"token": token})
        assert response.status_code == 303 and response.headers["location"] == path
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert client.get("/").text == client.get("/classes").text == "True"  # by the cookie
    client.cookies.clear()
    assert client.get("/classes", params={"token": token}).status_code == 401
    assert client.get("/", params={"token": "wrong"}).status_code == 401
    assert client.post("/", params={"token": token}).status_code == 401


def test_a_cookie_that_is_none_opens_nothing():
    for cookie in ("segp_token=wrong", "segp_token", "other=s3cret", "\x01=;;"):
        assert client_of("s3cret").get("/", headers={"Cookie": cookie}).status_code == 401
