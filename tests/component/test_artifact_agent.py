"""The client of store agents against agents that lie, fail, or are killed, and uploads that are interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.agents import uploads
from fuseml.artifactstores import Connection, Source, wire
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.runtime import agent_calls
from tests import agents
from tests.contract.artifact_stores import PROJECT, sources

ADDRESS = Address("dataset", PROJECT, "iris", "1")
DECLARED = json.dumps(
    {"protocol": wire.PROTOCOL, "kinds": ["dataset", "gas"], "capabilities": [*artifactstores.CAPABILITIES, "fly"]}
).encode()


def connect(url: str, token: str = agents.TOKEN) -> artifactstores.ArtifactStore:
    return artifactstores.connect(Connection("fuseml-artifact-store", url, {"FUSEML_AGENT_TOKEN": token}))


@contextlib.contextmanager
def answering(status: int, body: bytes, declared: bytes = DECLARED, **headers: str) -> Iterator[str]:
    """A server that gives this answer to every request but the declaration."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found, data = (200, declared) if self.path == wire.ROOT else (status, body)
            self.send_response(found)
            for name, value in headers.items() if self.path != wire.ROOT else ():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        b'{"address": "x", "digest": "", "created": 1}',
        b'{"address": "dataset://demo/iris/2", "digest": "", "created": 1}',
        b'{"address": "dataset://demo/iris/1", "digest": "", "created": "soon"}',
        b'{"address": "dataset://demo/iris/1", "digest": "", "created": 1, "size": -1}',
        b'{"address": "dataset://demo/iris/1", "digest": "", "created": 1, "about": {"metrics": {"a": NaN}}}',
        b" " * (agent_calls.LARGEST + 1),
    ],
)
def test_an_answer_that_is_not_of_the_protocol_is_a_permanent_error(body: bytes) -> None:
    with answering(200, body) as url, pytest.raises(errors.PermanentError) as refused:
        connect(url).describe(ADDRESS)
    assert not isinstance(refused.value, (errors.NotFoundError, errors.InvalidError))
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("address", ["dataset://other/iris/1", "dataset://demo/other/1", "model://demo/iris/1", "nonsense"])
def test_an_agent_names_versions_of_the_asked_name_only(address: str) -> None:
    def refused(url: str, call: str) -> None:
        store = connect(url)
        with pytest.raises(errors.PermanentError):
            match call:
                case "versions":
                    store.versions("dataset", PROJECT, "iris")
                case "resolve":
                    store.resolve("dataset", PROJECT, "iris", "best")
                case _:
                    store.commit(artifactstores.Place("dataset", PROJECT, "iris", ""), "x")

    with answering(200, json.dumps({"address": address, "versions": [{"address": address, "created": 1}]}).encode()) as url:
        for call in ("versions", "resolve", "commit"):
            refused(url, call)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a\\b"])
def test_no_path_of_an_agent_leads_out_of_a_folder(path: str) -> None:
    body = json.dumps({"files": [{"path": path, "digest": "sha256:" + "0" * 64}]}).encode()
    with answering(200, body) as url, pytest.raises(errors.PermanentError, match="files that no folder could hold"):
        connect(url).open(ADDRESS)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"name": "not_found", "message": "no such version"}', errors.NotFoundError),
        (404, b"<html>nothing here</html>", errors.PermanentError),
        (400, b'{"name": "invalid", "message": "a b"}', errors.InvalidError),
        (409, b'{"name": "conflict", "message": "a b"}', errors.ConflictError),
        (503, b'{"name": "unavailable", "message": "busy"}', errors.TemporaryError),
        (502, b"bad gateway", errors.TemporaryError),
        (429, b"", errors.TemporaryError),
        (401, b'{"name": "unauthenticated", "message": "no"}', errors.PermanentError),
        (403, b"", errors.PermanentError),
        (500, b'{"name": "fault", "message": "x"}', errors.TemporaryError),
        (302, b"", errors.PermanentError),
        (418, b'{"name": ["a"], "message": {"a": 1}}', errors.PermanentError),
    ],
)
def test_errors_of_an_agent_are_those_of_fuseml(status: int, body: bytes, kind: type[errors.FusemlError]) -> None:
    with answering(status, body, Location="http://127.0.0.1:1/") as url, pytest.raises(errors.FusemlError) as refused:
        connect(url).describe(ADDRESS)
    assert type(refused.value) is kind
    assert agents.TOKEN not in str(refused.value)


def test_text_of_an_agent_is_inert_and_bounded() -> None:
    body = json.dumps({"name": "invalid", "message": "a\x1b[31mred\n" + "x" * 10_000}).encode()
    with answering(400, body) as url, pytest.raises(errors.InvalidError) as refused:
        connect(url).describe(ADDRESS)
    assert "\x1b" not in refused.value.message and len(refused.value.message) <= 500


def test_a_page_of_the_tool_is_an_http_url() -> None:
    with answering(200, b'{"url": "javascript:alert(1)"}') as url, pytest.raises(errors.PermanentError, match=r"no http\(s\) URL"):
        connect(url).page(ADDRESS)


@pytest.mark.parametrize("declared", [b"{}", b"[]", b'{"protocol": "fuseml.store/9", "kinds": [], "capabilities": []}'])
def test_another_protocol_is_refused(declared: bytes) -> None:
    with answering(200, b"{}", declared) as url, pytest.raises(errors.PermanentError):
        connect(url).versions("dataset", PROJECT, "iris")


def test_unknown_kinds_and_capabilities_are_ignored() -> None:
    with answering(200, b"{}") as url:
        store = connect(url)
        assert store.kinds == frozenset({"dataset"})
        assert store.capabilities == frozenset(artifactstores.CAPABILITIES)


def test_an_agent_that_is_away_is_a_temporary_error() -> None:
    store = connect("http://127.0.0.1:1")
    for call in (lambda: store.versions("dataset", PROJECT, "iris"), lambda: store.describe(ADDRESS), lambda: store.kinds):
        with pytest.raises(errors.TemporaryError, match="does not answer"):
            call()
    with pytest.raises(errors.PermanentError, match=r"no http\(s\) URL"):
        _ = connect("nonsense://x").kinds


def test_no_secret_is_shown_and_the_contents_are_streamed_by_the_agent_only(tmp_path: Path) -> None:
    with agents.store(tmp_path) as agent:
        store = connect(agent.url)
        place = store.place("dataset", PROJECT, "iris")
        address = store.commit(place, store.write(place, sources({"a": b"1"})))
        location = store.locate(address)
        assert location.environment == place.environment == {"FUSEML_AGENT_TOKEN": agents.TOKEN}
        assert location.uri.startswith(f"{agent.url}/store/v1/files?address=")
        assert agents.TOKEN not in repr([store, place, location, Connection("x", "", {"FUSEML_AGENT_TOKEN": agents.TOKEN})])
        with pytest.raises(errors.PermanentError, match="refuses the token"):
            connect(agent.url, "wrong-token-of-some-length").describe(address)


def test_a_killed_agent_loses_no_part_of_an_upload(tmp_path: Path) -> None:
    files = {f"file-{number}": os.urandom(200_000) for number in range(6)}
    reads: list[str] = []

    def counted(killing: agents.Running | None) -> list[Source]:
        def blocks(path: str) -> Iterator[bytes]:
            reads.append(path)
            if killing is not None and reads.count(path) == 2 and path == "file-3":
                for pid in (killing.process.pid, *children(killing.process.pid)):
                    os.kill(pid, signal.SIGKILL)
            yield files[path]

        return [Source(path, lambda path=path: blocks(path)) for path in files]  # type: ignore[misc]

    with agents.store(tmp_path) as agent:
        store = connect(agent.url)
        place = store.place("dataset", PROJECT, "iris")
        with pytest.raises(errors.TemporaryError):
            store.write(place, counted(agent))
    reads.clear()
    with agents.running(tmp_path, "fuseml.agents.folder_store:serve()", {}, int(agent.url.rpartition(":")[2])) as again:
        store = connect(again.url)
        assert list(store.versions("dataset", PROJECT, "iris").versions) == []
        address = store.commit(place, store.write(place, counted(None)))
        # Twice is once to know the digest and once to send.
        assert sorted(path for path in files if reads.count(path) == 2) == ["file-3", "file-4", "file-5"]
        opened = store.open(address)
        assert {file.path: b"".join(opened.read(file)) for file in opened.files} == files
        assert [path for path in (again.folder / "uploads" / "uploads").rglob("*") if path.is_file()] == []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_file_that_differs_from_its_digest_is_not_kept(tmp_path: Path) -> None:
    with agents.store(tmp_path) as agent:
        caller = agent_calls.Agent(agent.url, agent.token, "store")
        upload, digest = "0" * 64, hashlib.sha256(b"right").hexdigest()
        for name in ("x", "../x", "A" * 64):
            with pytest.raises(errors.PermanentError):
                caller.send(f"{wire.ROOT}/uploads/{upload}/{name}", lambda: iter([b"right"]), 5)
        with pytest.raises(errors.InvalidError, match="the sent file has the SHA-256"):
            caller.send(f"{wire.ROOT}/uploads/{upload}/{digest}", lambda: iter([b"wrong"]), 5)
        assert caller.call("GET", f"{wire.ROOT}/uploads/{upload}") == {"files": []}
        body = {"place": {"kind": "dataset", "project": PROJECT, "name": "iris"}, "files": [{"path": "a", "digest": f"sha256:{digest}"}]}
        with pytest.raises(errors.TemporaryError, match="is missing; send it again"):
            caller.call("POST", f"{wire.ROOT}/uploads/{upload}", body)


def test_a_file_that_is_removed_before_it_is_read_is_asked_for_again(tmp_path: Path) -> None:
    files = uploads.Uploads(tmp_path)
    digest = hashlib.sha256(b"rows").hexdigest()
    files.put("0" * 64, digest, [b"rows"])
    source = files.source("0" * 64, artifactstores.File("a", 4, f"sha256:{digest}"))
    assert b"".join(source.blocks()) == b"rows"
    files.drop("0" * 64)
    with pytest.raises(errors.TemporaryError, match="'a' of the upload is missing; send it again"):
        b"".join(source.blocks())


def test_an_agent_deletes_the_old_files_that_no_version_needs(tmp_path: Path) -> None:
    with agents.store(tmp_path) as agent:
        store = connect(agent.url)
        place = store.place("dataset", PROJECT, "iris")
        first, second = (store.commit(place, store.write(place, sources({"a": b"same", name: name.encode()}))) for name in ("b", "c"))
        for path in agent.folder.rglob("*"):
            os.utime(path, (0, 0))
        store.delete(first)
        assert sorted(path.read_bytes() for path in agent.folder.rglob("files/*")) == [b"c", b"same"]
        assert [version.address for version in store.versions("dataset", PROJECT, "iris").versions] == [second]
