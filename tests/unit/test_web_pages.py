"""Requests of web pages: hosts, origins and content types."""

from __future__ import annotations

import pytest
from werkzeug import exceptions
from werkzeug.datastructures import Headers

from fuseml.domain import errors
from fuseml.runtime import web_pages

OWN = "127.0.0.1:8000"


def admits(entrance: web_pages.Entrance, **fields: str) -> bool:
    headers = Headers({"Host": OWN} | {name.replace("_", "-"): value for name, value in fields.items()})
    try:
        entrance.check(headers)
    except errors.ForbiddenError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9:65535", "[::1]", "[::1]:8000", "[0:0:0::1]"]
)
def test_loopback_is_an_own_host_by_any_port(host: str) -> None:
    assert admits(web_pages.Entrance("127.0.0.1"), Host=host)


HOSTILE = [
    *("", " ", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost", "localhost."),
    *("localhost@evil.example", "evil.example#localhost", "localhost:8000, evil.example", "localhost evil.example", "localhost:", "[::1"),
    *(
        "0.0.0.0",
        "192.168.0.5",
        "[::]",
        "[2001:db8::1]",
        "2130706433",
        "0x7f.1",
        "127.1",
        "::1",
        "localhost:8000:1",
        "localhost/x",
        "löcalhost",
    ),
]


@pytest.mark.parametrize("host", HOSTILE)
def test_another_host_is_refused_whatever_the_request_carries(host: str) -> None:
    for anonymous in (True, False):
        entrance = web_pages.Entrance("127.0.0.1", ["https://fuseml.example.com"], anonymous=anonymous)
        for more in ({}, {"Authorization": "Bearer x"}, {"Origin": f"http://{host}"}, {"Sec_Fetch_Site": "same-origin"}):
            assert not admits(entrance, Host=host, **more)


def test_the_listening_address_and_public_urls_are_own_hosts() -> None:
    entrance = web_pages.Entrance("192.168.0.5", ["https://fuseml.example.com", "http://other.example:8443/fuseml"])
    for host in ("192.168.0.5:8000", "fuseml.example.com", "FuseML.example.com:443", "other.example:8443", "localhost"):
        assert admits(entrance, Host=host)
    assert not admits(entrance, Host="192.168.0.6")


@pytest.mark.parametrize("listening", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_has_every_address_and_no_name(listening: str) -> None:
    entrance = web_pages.Entrance(listening)
    assert all(admits(entrance, Host=host) for host in ("10.1.2.3:8000", "[2001:db8::1]:8000", "localhost"))
    assert not any(admits(entrance, Host=host) for host in ("evil.example", "laptop"))


@pytest.mark.parametrize("url", ["fuseml.example.com", "ftp://x", "https://", "https://a@b", "https://a b"])
def test_a_public_url_must_be_one(url: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not the URL of a server"):
        web_pages.Entrance("127.0.0.1", [url])


FOREIGN = [
    *(
        {"Origin": origin}
        for origin in ("http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:3000", "http://localhost:8000")
    ),
    *(
        {"Origin": origin}
        for origin in ("https://127.0.0.1", "file://", "http://127.0.0.1:8000.evil.example", "http://127.0.0.1:8000@evil.example")
    ),
    *(
        {"Origin": origin}
        for origin in ("http://127.0.0.1:8000, http://evil.example", "chrome-extension://x", "ws://127.0.0.1:8000", "http://")
    ),
    *({"Sec_Fetch_Site": site} for site in ("cross-site", "same-site", "", "none, cross-site", "Same-Origin", "x")),
    {"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "cross-site"},
    {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},
]
OWN_PAGES = [
    {},
    {"Origin": "http://127.0.0.1:8000"},
    {"Origin": "HTTP://127.0.0.1:8000"},
    {"Origin": "https://fuseml.example.com"},
    {"Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
    {"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"},
]
AMBIENT = [{}, {"Authorization": "Basic eDp5"}, {"Cookie": "session=1"}, {"Cookie": "session=1", "Authorization": "Bearer x"}]


@pytest.mark.parametrize("page", FOREIGN, ids=str)
def test_a_foreign_page_is_refused_where_a_browser_adds_credentials(page: dict[str, str]) -> None:
    public = ["https://fuseml.example.com"]
    for credentials in AMBIENT:
        assert not admits(web_pages.Entrance("127.0.0.1", public), **page, **credentials)
        assert not admits(web_pages.Entrance("127.0.0.1", public, anonymous=True), **page, **credentials)
    assert not admits(web_pages.Entrance("127.0.0.1", public, anonymous=True), **page, Authorization="Bearer x")
    assert admits(web_pages.Entrance("127.0.0.1", public), **page, Authorization="Bearer x")


@pytest.mark.parametrize("page", OWN_PAGES, ids=str)
def test_an_own_page_and_a_program_are_admitted(page: dict[str, str]) -> None:
    for anonymous in (True, False):
        for credentials in AMBIENT:
            assert admits(web_pages.Entrance("127.0.0.1", ["https://fuseml.example.com"], anonymous=anonymous), **page, **credentials)


def test_a_default_port_may_be_left_out() -> None:
    entrance = web_pages.Entrance("127.0.0.1")
    assert admits(entrance, Host="localhost", Origin="http://localhost")
    assert admits(entrance, Host="localhost:80", Origin="http://localhost")
    assert not admits(entrance, Host="localhost", Origin="http://localhost:8000")


DOCUMENTS = [
    *(
        "application/json",
        "Application/JSON; charset=utf-8",
        "text/json",
        "application/vnd.x+json",
        "application/cloudevents+json; charset=utf-8",
    ),
    *("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/vnd.yaml", "application/openapi+yaml"),
]
OTHERS = [
    *("text/plain", "text/plain; application/json", "text/plain;charset=utf-8;x=application/json", "application/x-www-form-urlencoded"),
    *(
        "multipart/form-data; boundary=json",
        "application/octet-stream",
        "json",
        "x/json-not",
        "application/jsonx",
        "yaml",
        "text/html",
        ";",
    ),
    *("application/json, text/plain", "text/plain, application/json", "text/plain+jsonx", "application/json+form", "+json", "a b/c+json"),
]
BROWSER = [{"Origin": "null"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Mode": "no-cors"}, {"sec-fetch-dest": "empty"}]


def takes(fields: dict[str, str], also: tuple[str, ...] = ()) -> bool:
    try:
        web_pages.check_body(Headers(fields), also)
    except exceptions.UnsupportedMediaType:
        return False
    return True


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_are_taken_from_programs_and_pages(kind: str) -> None:
    assert all(takes({"Content-Type": kind, **browser}) for browser in ({}, *BROWSER))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_are_refused_unless_the_route_takes_them(kind: str) -> None:
    assert not any(takes({"Content-Type": kind, **browser}) for browser in ({}, *BROWSER))
    assert takes({"Content-Type": "application/x-git-upload-pack-request"}, ("application/x-git-upload-pack-request",))


def test_a_body_without_a_type_is_taken_from_programs_only() -> None:
    assert takes({})
    assert not any(takes(browser) for browser in BROWSER)
    assert not any(takes({"Content-Type": " ", **browser}) for browser in BROWSER)
