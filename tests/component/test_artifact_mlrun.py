"""MLRun as an artifact store: what its client logs, its tags, and refusals of the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.probes import mlrun as probe
from fuseml.probes import targets
from tests import mlrun_server


@pytest.fixture
def server() -> Iterator[mlrun_server.Mlrun]:
    with mlrun_server.running() as running:
        yield running


def connect(server: mlrun_server.Mlrun, key: str = mlrun_server.ACCOUNT) -> artifactstores.ArtifactStore:
    return artifactstores.connect(Connection("mlrun", server.url, {"V3IO_ACCESS_KEY": key}, "demo"))


def test_a_logged_model_is_described_with_its_facts(server: mlrun_server.Mlrun) -> None:
    uid = server.log(
        "demo", "churn", "model", {"model.pkl": b"x" * 3, "data/one.csv": b"1"}, framework="sklearn", metrics={"auc": 0.9, "x": "y"}
    )
    address = Address("model", "demo", "churn", uid)
    store = connect(server)
    described = store.describe(address)
    assert (described.about.framework, described.about.metrics, described.size) == ("sklearn", {"auc": 0.9}, 4)
    assert store.locate(address).uri == f"store://models/demo/churn^{uid}"
    assert store.locate(address).environment["MLRUN_DBPATH"] == server.url
    opened = store.open(address)
    assert {file.path: b"".join(opened.read(file)) for file in opened.files} == {"model.pkl": b"xxx", "data/one.csv": b"1"}


def test_contents_of_another_size_are_damaged(server: mlrun_server.Mlrun) -> None:
    uid = server.log("demo", "churn", "model", {"model.pkl": b"x" * 3})
    opened = connect(server).open(Address("model", "demo", "churn", uid))
    server.objects = {path: data[:1] for path, data in server.objects.items()}
    with pytest.raises(errors.PermanentError, match="is damaged in the store"):
        b"".join(opened.read(opened.files[0]))


def test_an_artifact_of_another_project_kind_or_name_is_no_version(server: mlrun_server.Mlrun) -> None:
    uid = server.log("demo", "churn", "model", {"model.pkl": b"x"})
    for wrong in (("model", "other", "churn"), ("dataset", "demo", "churn"), ("model", "demo", "other")):
        with pytest.raises(errors.NotFoundError):
            connect(server).describe(Address(*wrong, uid))


def test_latest_is_a_tag_that_only_mlrun_moves(server: mlrun_server.Mlrun) -> None:
    first, second = (server.log("demo", "churn", "model", {"model.pkl": text}) for text in (b"1", b"2"))
    store = connect(server)
    assert store.resolve("model", "demo", "churn", "latest").version == second
    with pytest.raises(errors.PermanentError, match="reserved tag"):
        store.tag(Address("model", "demo", "churn", first), "latest")


def test_changes_are_those_of_the_project(server: mlrun_server.Mlrun) -> None:
    first = server.log("demo", "churn", "model", {"model.pkl": b"1"})
    server.log("other", "churn", "model", {"model.pkl": b"2"})
    third = server.log("demo", "rows", "dataset", {"rows.csv": b"3"})
    changes = connect(server).changes()
    assert changes.addresses == [Address("model", "demo", "churn", first), Address("dataset", "demo", "rows", third)]
    assert connect(server).changes(changes.position).addresses == [Address("dataset", "demo", "rows", third)]


def test_a_refused_account_and_no_server_are_told_apart(server: mlrun_server.Mlrun) -> None:
    with pytest.raises(errors.PermanentError, match="does not accept the account: check V3IO_ACCESS_KEY"):
        connect(server, "wrong").versions("model", "demo", "churn")
    away = artifactstores.connect(Connection("mlrun", "http://127.0.0.1:9", {}, "demo"))
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        away.changes()


@pytest.mark.parametrize("item", [{}, {"metadata": {}}, {"metadata": {"uid": "x", "key": "k"}}, 7])
def test_an_answer_of_another_form_is_refused(server: mlrun_server.Mlrun, item: object) -> None:
    server.artifacts["0" * 40] = {"kind": "model", "metadata": {"key": "churn", "project": "demo", "updated": "never", "uid": item}}
    with pytest.raises(errors.PermanentError, match="is not the one of its documentation"):
        connect(server).versions("model", "demo", "churn")


def test_mlrun_is_recognised_and_its_account_checked(server: mlrun_server.Mlrun) -> None:
    found = probe.TOOL.detect(targets.Target(server.url))
    assert found is not None and (found.product, found.version, found.services[0].resource) == ("mlrun", "1.12.1", "mlrun")
    assert probe.TOOL.check is not None
    wrong = probe.TOOL.check(targets.Target(server.url, credentials={"V3IO_ACCESS_KEY": "wrong"}))
    assert wrong is not None and "refuses these credentials" in wrong
