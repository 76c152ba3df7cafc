"""Pachyderm as an artifact store: commits of its own clients, both forms of its streams, and refusals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from tests import pachyderm_server


@pytest.fixture
def server() -> Iterator[pachyderm_server.Pachyderm]:
    with pachyderm_server.running() as running:
        yield running


def connect(server: pachyderm_server.Pachyderm, token: str = pachyderm_server.ACCOUNT) -> artifactstores.ArtifactStore:
    return artifactstores.connect(Connection("pachyderm", server.url, {"PACHYDERM_AUTH_TOKEN": token}, "demo"))


@pytest.mark.parametrize("wrapped", [True, False])
def test_commits_and_files_are_read_in_both_forms_of_streams(server: pachyderm_server.Pachyderm, wrapped: bool) -> None:
    server.wrapped = wrapped
    files = {"a/one.csv": b"1" * 250_000, "two.csv": b""}
    first, second = server.put("demo", "rows", files), server.put("demo", "rows", {"a/one.csv": b"2"})
    store = connect(server)
    assert [version.address.version for version in store.versions("dataset", "demo", "rows").versions] == [first, second]
    opened = store.open(Address("dataset", "demo", "rows", first))
    assert {file.path: b"".join(opened.read(file)) for file in opened.files} == files
    assert store.locate(Address("dataset", "demo", "rows", first)).uri == f"pfs://demo/rows@{first}"
    assert store.resolve("dataset", "demo", "rows", "master").version == second


def test_an_open_commit_and_a_failed_one_are_no_versions(server: pachyderm_server.Pachyderm) -> None:
    opened, failed = server.put("demo", "rows", {"a": b"1"}, is_open=True), server.put("demo", "rows", {"a": b"2"}, error="datum failed")
    store = connect(server)
    assert list(store.versions("dataset", "demo", "rows").versions) == []
    for version in (opened, failed):
        with pytest.raises(errors.NotFoundError):
            store.commit(store.place("dataset", "demo", "rows"), version)


def test_contents_of_another_size_are_damaged(server: pachyderm_server.Pachyderm) -> None:
    version = server.put("demo", "rows", {"a": b"123"})
    opened = connect(server).open(Address("dataset", "demo", "rows", version))
    server.commits[0].files = {"a": b"1"}
    with pytest.raises(errors.PermanentError, match="is damaged in the store"):
        b"".join(opened.read(opened.files[0]))


@pytest.mark.parametrize(
    "odd", [{"fileType": "FILE", "head": {"id": 1}}, {"fileType": "FILE", "file": {"path": "a"}, "sizeBytes": "x", "head": 1}, 1]
)
def test_an_answer_of_another_form_is_refused(server: pachyderm_server.Pachyderm, odd: object) -> None:
    address = Address("dataset", "demo", "rows", server.put("demo", "rows", {"a": b"123"}))
    server.odd, store = odd, connect(server)
    for call in (store.open, store.tags):
        with pytest.raises(errors.PermanentError, match="is not the one of its documentation"):
            call(address)


def test_a_refused_account_and_no_server_are_told_apart(server: pachyderm_server.Pachyderm) -> None:
    with pytest.raises(errors.PermanentError, match="does not accept the account: check PACHYDERM_AUTH_TOKEN"):
        connect(server, "wrong").versions("dataset", "demo", "rows")
    away = artifactstores.connect(Connection("pachyderm", "http://127.0.0.1:9", {}, "demo"))
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        away.versions("dataset", "demo", "rows")
