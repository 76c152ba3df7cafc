"""Catalogues of templates: git repositories over real HTTP, read within bounds, registered with their accounts, or refused with nothing stored."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.githosts import bounded, limits, snapshots
from fuseml.store import database, extensions, outbox
from tests.component import canned_api
from tests.component.githost import PASSWORD, Clone, Server, clone, packet, server
from tests.component.pipeline_api import NOON, Pipelines

__all__ = ["clone", "server"]

TEMPLATE = """\
name: halve
description: Halves.
inputs:
  - {name: rows, type: number}
  - {name: data, type: dataset, default: ""}
steps:
  - name: halve
    image: registry.example.com/halve:1
    inputs:
      - {name: rows, value: "{{ inputs.rows }}"}
      - {name: data, value: "{{ inputs.data }}"}
"""
ACCOUNT = snapshots.Account("ada", PASSWORD)


@pytest.fixture
def api(sqlite_store: database.Database) -> Pipelines:
    return Pipelines(sqlite_store)


@pytest.fixture
def team(clone: Clone) -> Clone:
    """A pushed repository with one template."""
    clone.commit("templates", {"pipelines/halve.yaml": TEMPLATE, "README.md": "hello"})
    clone.git("push", "--quiet", "origin", "main")
    return clone


def bare(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/git/workspace/mnist.git"


def stored(api: Pipelines) -> list[str]:
    with api.store.read() as session:
        assert not outbox.pending(session, 0, 10)
        return [record.id for record in extensions.with_resource(session, "fuseml-catalog")]


def register(api: Pipelines, url: str, *, status: int = 201, **more: str) -> Any:
    return api.call("POST", "/catalogs", {"name": "team", "url": url, **more}, status=status)


def test_a_repository_is_registered_and_its_template_becomes_a_workflow_with_the_commit(
    api: Pipelines, server: Server, team: Clone
) -> None:
    found = register(api, server.url(), description="Ours.")
    head = team.git("rev-parse", "HEAD")
    assert (found["name"], found["url"], found["version"], found["description"]) == ("team", bare(server), head, "Ours.")
    [template] = found["templates"]
    assert (template["name"], template["description"], template["problem"]) == ("halve", "Halves.", "")
    assert register(api, server.url()) == found
    assert api.types() == ["extension.registered"]
    assert [item["name"] for item in api.call("GET", "/catalogs")] == ["fuseml", "team"]

    added = api.add("team/halve", "w", rows="8")
    assert (added["template"], added["patterns"]) == (f"team/halve@{head}", [])
    # A new commit without another content of the template changes nothing; another content is a conflict.
    team.commit("more", {"other.txt": "x"})
    team.git("push", "--quiet", "origin", "main")
    again = api.add("team/halve", "w", rows="8")
    assert (again["changed"], again["template"]) == (False, added["template"])
    team.commit("changed", {"pipelines/halve.yaml": TEMPLATE.replace("halve:1", "halve:2")})
    team.git("push", "--quiet", "origin", "main")
    assert "steps" in api.add("team/halve", "w", rows="8", status=409)["message"]


def test_the_account_of_a_catalogue_is_sealed_and_shown_nowhere(api: Pipelines, server: Server, team: Clone) -> None:
    shown = str(register(api, server.url()))
    with api.store.read() as session:
        record = extensions.get(session, "team")
    [credentials] = record.services[0].credentials
    assert PASSWORD not in str(record.model_dump()) + shown
    assert api.keyring.unseal(credentials.configuration["password"]) == PASSWORD
    assert (record.services[0].category, record.services[0].endpoints[0].url) == ("pipeline-catalog", bare(server))


def test_another_account_for_a_registered_repository_is_a_conflict_and_is_not_stored(api: Pipelines, server: Server, team: Clone) -> None:
    register(api, server.url())
    refused = register(api, server.url(password="renewed"), status=409)["message"]
    assert "registered with another account" in refused
    assert "renewed" not in refused
    assert (
        "no password" in register(api, f"http://token@127.0.0.1:{server.port}/git/workspace/mnist.git", name="lone", status=400)["message"]
    )
    with api.store.write() as session:
        extensions.add(session, extension.Extension(id="mlflow", product="mlflow", version="", description=""), NOON)
    assert "extension delete" not in register(api, server.url(), name="mlflow", status=409)["message"]
    assert stored(api) == ["team"]


def test_a_token_of_this_server_is_refused_before_a_repository_gets_it(api: Pipelines) -> None:
    asked: list[str] = []

    def repository(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        asked.append(environ["PATH_INFO"])
        return _answer(start, "404 Not Found", [], b"")

    with canned_api.running(repository) as url:
        address = f"{url.replace('http://', 'http://ada:the-token@')}/x.git"
        assert "an API token of this server" in register(api, address, status=400)["message"]
    assert asked == []


def test_an_account_that_is_restricted_to_a_project_is_used_for_that_project_only(api: Pipelines, server: Server, team: Clone) -> None:
    register(api, server.url())
    with api.store.write() as session:
        record = extensions.get(session, "team")
        [service] = record.services
        restricted = service.credentials[0].model_copy(update={"scope": "project", "projects": ("demo",)})
        service = service.model_copy(update={"credentials": (restricted,)})
        extensions.replace(session, record.model_copy(update={"services": (service,)}), NOON)
    assert api.add("team/halve", "w", rows="8")["changed"] is True
    refused = api.add("team/halve", "x", project="other", rows="8", status=422)
    assert "none apply to project other" in refused["message"]
    assert api.call("GET", "/catalogs/team?project=demo")["templates"]
    api.call("GET", "/catalogs/team", status=422)
    assert register(api, server.url())["templates"], "the same request again, with the account itself"


def test_a_branch_is_read_where_one_is_named(api: Pipelines, server: Server, team: Clone) -> None:
    team.git("checkout", "--quiet", "-b", "next")
    head = team.commit("next", {"pipelines/third.yaml": TEMPLATE})
    team.git("push", "--quiet", "origin", "next")
    assert register(api, server.url(), branch="next")["version"] == head
    assert {item["name"] for item in api.call("GET", "/catalogs/team")["templates"]} == {"halve", "third"}
    assert "is the catalogue at" in register(api, server.url(), status=409)["message"]
    assert "does not have the branch 'gone'" in register(api, server.url(), name="other", branch="gone", status=404)["message"]


def test_a_template_with_a_fault_is_shown_with_it_and_cannot_be_added(api: Pipelines, server: Server, team: Clone) -> None:
    team.commit("bad", {"pipelines/bad.yaml": "name: bad\nsteps: []\n", "pipelines/worse.yaml": ": [", "pipelines/x.y.yaml": "no"})
    team.git("push", "--quiet", "origin", "main")
    by_name = {item["name"]: item["problem"] for item in register(api, server.url())["templates"]}
    assert by_name["halve"] == ""
    assert "team/bad" in by_name["bad"]
    assert by_name["worse"]
    assert list(by_name) == ["bad", "halve", "worse"]
    api.add("team/bad", "w", status=400)
    assert api.state()[0] == []


def test_a_repository_without_templates_and_a_name_that_is_taken_are_refused(api: Pipelines, server: Server, clone: Clone) -> None:
    assert "has no template at" in register(api, server.url(), status=400)["message"]
    register(api, server.url(), name="fuseml", status=409)
    register(api, server.url(), name="a b", status=400)
    for url in ("/etc", "file:///etc", "ssh://git@host/x", "ext::sh -c id", "git://host/x", "http://host/a b", "--upload-pack=id"):
        assert "begins with http" in register(api, url, status=400)["message"], url
    assert stored(api) == []


def test_a_repository_that_is_away_leaves_nothing_and_may_return(api: Pipelines, server: Server, team: Clone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = register(api, f"http://ada:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/x.git", status=503)
    assert PASSWORD not in str(refused)
    assert "ada" not in str(refused)
    assert stored(api) == []
    assert "refuses the credentials" in register(api, server.url(password="wrong"), status=503)["message"]
    assert "refuses the credentials" in register(api, bare(server), status=503)["message"]
    assert "no git repository" in register(api, server.url("nothing"), status=503)["message"]
    assert stored(api) == []
    register(api, server.url())
    # The repository goes away after its registration.
    server.serve(lambda environ, start: _answer(start, "500 Broken", [], b"broken"))
    assert api.call("GET", "/catalogs/team", status=503)["temporary"]
    api.add("team/halve", "w", rows="8", status=503)
    assert api.state()[:2] == ([], [])
    assert [item["name"] for item in api.call("GET", "/catalogs")] == ["fuseml", "team"]


# What a repository may make the server do


def _answer(start: Callable[..., object], status: str, headers: list[tuple[str, str]], body: bytes) -> Iterable[bytes]:
    start(status, [("Content-Length", str(len(body))), *headers])
    return [body]


def test_links_and_submodules_are_left_out(server: Server, team: Clone) -> None:
    (team.folder / "pipelines/link.yaml").symlink_to("/etc/passwd")
    (team.folder / "linked").symlink_to("pipelines")
    team.git("update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},pipelines/module.yaml")
    (team.folder / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = pipelines/module.yaml\n\turl = {server.url()}\n')
    team.commit("links")
    team.git("push", "--quiet", "origin", "main")
    found = snapshots.read(bare(server), ACCOUNT, lambda path: path.endswith(".yaml"))
    assert found.files == {"pipelines/halve.yaml": TEMPLATE.encode()}


@pytest.mark.parametrize(
    ("files", "bounds"),
    [
        ({"a.yaml": "x" * 5000}, limits.Limits(object=4000)),
        ({"a.yaml": "x" * 5000, "b.yaml": "y" * 5000}, limits.Limits(pack=9000)),
        ({f"{number}.yaml": str(number) for number in range(30)}, limits.Limits(objects=20)),
        ({f"{number}.yaml": str(number) for number in range(30)}, limits.Limits(files=20)),
        ({"a.yaml": "x" * 5000, "b.yaml": "y" * 5000}, limits.Limits(checkout=9000)),
    ],
)
def test_a_repository_beyond_a_bound_is_refused(files: dict[str, str], bounds: limits.Limits, server: Server, clone: Clone) -> None:
    clone.commit("large", files)
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.TooLargeError):
        snapshots.read(bare(server), ACCOUNT, lambda path: True, limits=bounds)
    assert snapshots.read(bare(server), ACCOUNT, lambda path: True).files.keys() >= files.keys()


def test_an_answer_without_end_is_cut_off() -> None:
    def endless(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "application/x-git-upload-pack-advertisement")])
        yield b"001e# service=git-upload-pack\n0000"
        for number in itertools.count():
            line = f"{'a' * 40} refs/heads/{number:09d}\n".encode()
            yield packet(line) * 100

    with canned_api.running(endless) as url, pytest.raises(errors.TemporaryError, match="cannot be read"):
        snapshots.read(f"{url}/x.git", ACCOUNT, lambda path: True, limits=limits.Limits(pack=1 << 20))


@pytest.mark.parametrize("pause", [0.05, 30])
def test_a_slow_answer_is_cut_off(pause: float) -> None:
    ended = threading.Event()

    def slow(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "application/x-git-upload-pack-advertisement")])
        yield b"001e# service=git-upload-pack\n0000ffff"
        while not ended.wait(pause):
            yield b"x"

    with canned_api.running(slow) as url:
        try:
            with pytest.raises(errors.TemporaryError, match="cannot be read"):
                snapshots.read(f"{url}/x.git", ACCOUNT, lambda path: True, seconds=0.5)
        finally:
            ended.set()


@contextlib.contextmanager
def _dripping(scheme: str) -> Iterator[str]:
    """The URL of a server that sends the head of an answer, or of a handshake, one byte at a time: no timeout of a socket ends that."""
    begin = {"http": b"HTTP/1.1 200 OK\r\nX-Slow: ", "https": b"\x16\x03\x03\x40\x00"}[scheme]
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(begin)
            while not ended.wait(0.02):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x.git"
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_sends_its_first_bytes_slowly_is_cut_off(scheme: str) -> None:
    with _dripping(scheme) as url, pytest.raises(errors.TemporaryError, match="took longer than"):
        snapshots.read(url, ACCOUNT, lambda path: True, seconds=0.5)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_made_after_the_deadline_is_cut_off(scheme: str) -> None:
    with _dripping(scheme) as url, bounded.client(url, "", "", seconds=0.2, size=1000) as client:
        time.sleep(0.4)
        with pytest.raises(OSError, match="took longer than"):
            client.get_refs(b"")


def test_a_redirect_is_not_followed_so_no_other_host_gets_the_account() -> None:
    asked: list[str] = []

    def other(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        asked.append(environ.get("HTTP_AUTHORIZATION", ""))
        return _answer(start, "404 Not Found", [], b"")

    with canned_api.running(other) as target:

        def moved(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
            location = f"{target}{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
            return _answer(start, "302 Found", [("Location", location)], b"")

        with canned_api.running(moved) as url, pytest.raises(errors.TemporaryError, match="302"):
            snapshots.read(f"{url}/x.git", ACCOUNT, lambda path: True)
    assert asked == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"0123456789abcdef0123456789abcdef01234567\trefs/heads/main\n0123456789abcdef0123456789abcdef01234567\tHEAD\n"),
        ("text/html", b"<html>hello</html>"),
        ("application/x-git-upload-pack-advertisement", b"001e# service=git-upload-pack\n0000zzzz"),
        ("application/x-git-upload-pack-advertisement", b""),
    ],
)
def test_a_server_that_speaks_no_smart_protocol_is_refused(kind: str, body: bytes) -> None:
    def app(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        return _answer(start, "200 OK", [("Content-Type", kind)], body)

    with canned_api.running(app) as url, pytest.raises(errors.TemporaryError, match="cannot be read"):
        snapshots.read(f"{url}/x.git", snapshots.Account(), lambda path: True)
