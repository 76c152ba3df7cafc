"""The entrance of a real server, by raw requests: addresses, hosts, origins and lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from fuseml.runtime import catalog
from tests.component import addresses
from tests.embedded import servers
from tests.event_keys import FORGED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    arguments = ("--mlflow", "none", "--public-url", "https://fuseml.example.com")
    with servers.running(tmp_path_factory.mktemp("entrance") / "home", *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("anonymous") / "home", "--mlflow", "none", "--anonymous") as running:
        yield running


def recorded(server: servers.Server) -> list[str]:
    return [event["id"] for path in ("/events", "/events/dead-letters") for event in server.get(path)]


def test_no_address_leads_to_an_endpoint_of_the_inside(server: servers.Server) -> None:
    for target in addresses.hostile():
        status, response = addresses.send(server.port, "POST", target, FORGED, b"{}")
        assert status == 0 or 400 <= status < 500, (target, response)
    for target in (
        catalog.EVENTS,
        catalog.DEAD_LETTERS,
        "/git/..%2f.internal/events",
        "/git/../artifacts",
        "/apps/x/../../runs",
        "/apps/x/%2e%2e",
    ):
        assert 400 <= addresses.send(server.port, "POST", target, FORGED, b"{}")[0] < 500
    assert recorded(server) == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(addresses.paths())
def test_no_generated_address_leads_to_an_endpoint_of_the_inside(server: servers.Server, target: str) -> None:
    status, response = addresses.send(server.port, "POST", target, FORGED, b"{}")
    assert status < 500, (target, response)
    assert recorded(server) == [], target


def test_a_legitimate_path_is_routed(server: servers.Server) -> None:
    for target in addresses.LEGITIMATE:
        assert addresses.send(server.port, "GET", target)[0] == 401
        assert addresses.send(server.port, "GET", target, {"Authorization": f"Bearer {server.token}"})[0] in (200, 404), target


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "Transfer-Encoding: xchunked",
        "Content-Length: +5",
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_request_of_two_lengths_is_refused(server: servers.Server, fields: str, version: str) -> None:
    smuggled = f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    head = f"POST /runs HTTP/{version}\r\nHost: 127.0.0.1:{server.port}\r\nConnection: keep-alive\r\n{fields}\r\n\r\n"
    status, response = addresses.exchange(server.port, f"{head}0\r\n\r\n{smuggled}".encode())
    assert status in (400, 501) and b"gitCommit" not in response, response


@pytest.mark.parametrize(
    "host", [b"Host: evil.example", b"Host:", b"X: y", b"Host: localhost\r\nHost: evil.example", b"Host: evil.example:80@localhost"]
)
def test_another_host_is_refused(anonymous: servers.Server, host: bytes) -> None:
    status, response = addresses.exchange(anonymous.port, b"GET /projects HTTP/1.1\r\n" + host + b"\r\nConnection: close\r\n\r\n")
    assert status == 403, response
    assert b'"name":"forbidden"' in response


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "[::1]:9", "127.0.0.1"])
def test_loopback_is_served_by_any_name_and_port(anonymous: servers.Server, host: str) -> None:
    assert addresses.send(anonymous.port, "GET", "/projects", {"Host": host})[0] == 200


def test_a_public_url_is_served_and_its_pages_are_own(server: servers.Server) -> None:
    cookie = {"Cookie": "a=b", "Authorization": f"Bearer {server.token}"}
    assert addresses.send(server.port, "GET", "/projects", {"Host": "fuseml.example.com", **cookie})[0] == 200
    assert addresses.send(server.port, "GET", "/projects", {"Origin": "https://fuseml.example.com", **cookie})[0] == 200
    assert addresses.send(server.port, "GET", "/projects", {"Origin": "https://fuseml.example.org", **cookie})[0] == 403


def test_a_page_changes_nothing_on_an_anonymous_server(anonymous: servers.Server) -> None:
    own = f"http://127.0.0.1:{anonymous.port}"
    for page in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": own, "Sec-Fetch-Site": "same-site"},
    ):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json", ""):
            status, response = addresses.send(anonymous.port, "POST", "/projects?name=stolen", {**page, "Content-Type": kind}, b"{}")
            assert status == 403, response
    assert (
        addresses.send(
            anonymous.port, "POST", "/projects?name=chunked", {"Transfer-Encoding": "chunked", "Origin": own}, b"1\r\n{\r\n0\r\n\r\n"
        )[0]
        == 415
    )
    assert anonymous.get("/projects") == []
    assert addresses.send(anonymous.port, "POST", "/projects?name=own", {"Origin": own, "Sec-Fetch-Site": "same-origin"})[0] == 201
    status, response = addresses.send(anonymous.port, "GET", "/projects")
    assert [project["name"] for project in json.loads(response.partition(b"\r\n\r\n")[2])] == ["own"]
