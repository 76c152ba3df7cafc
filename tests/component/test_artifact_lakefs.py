"""lakeFS as an artifact store: what others commit and tag, refusals of the server, and writers that were killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.probes import lakefs as probe
from fuseml.probes import targets
from tests import lakefs_server
from tests.contract import artifact_stores
from tests.contract.artifact_stores import PROJECT, sources


@pytest.fixture
def server() -> Iterator[lakefs_server.Lakefs]:
    with lakefs_server.running() as running:
        yield running


@pytest.fixture
def store(server: lakefs_server.Lakefs) -> artifactstores.ArtifactStore:
    return connect(server)


def connect(server: lakefs_server.Lakefs, **variables: str) -> artifactstores.ArtifactStore:
    return artifactstores.connect(Connection("lakefs", server.url, {**artifact_stores.lakefs_variables(), **variables}, PROJECT))


def published(store: artifactstores.ArtifactStore, name: str, **files: bytes) -> Address:
    place = store.place("dataset", PROJECT, name)
    return store.commit(place, store.write(place, sources(files)))


def contents(store: artifactstores.ArtifactStore, address: Address) -> dict[str, bytes]:
    opened = store.open(address)
    return {file.path: b"".join(opened.read(file)) for file in opened.files}


@pytest.mark.parametrize("checksums", [True, False])
def test_what_others_commit_is_a_version(server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore, checksums: bool) -> None:
    server.checksums = checksums
    commit = server.commit({"team/dataset/demo/rows/a/one.csv": b"1", "team/dataset/demo/rows/two.csv": b"22", "elsewhere/x": b""})
    address = Address("dataset", PROJECT, "rows", commit)
    assert [version.address for version in store.versions("dataset", PROJECT, "rows").versions] == [address]
    assert (store.describe(address).size, store.describe(address).digest) == (3, "")
    assert contents(store, address) == {"a/one.csv": b"1", "two.csv": b"22"}
    assert store.locate(address).uri == f"s3://{lakefs_server.REPOSITORY}/{commit}/team/dataset/demo/rows/"
    assert store.locate(address).environment["AWS_ENDPOINT_URL_S3"] == server.url


def test_a_commit_of_other_files_is_no_version(server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore) -> None:
    address = published(store, "rows", data=b"1")
    later = server.commit({"team/dataset/demo/other/x": b"1"})
    with pytest.raises(errors.NotFoundError):
        store.describe(Address("dataset", PROJECT, "rows", later))
    assert store.resolve("dataset", PROJECT, "rows", "main") == address


def test_branches_and_tags_of_the_repository_stand_for_the_newest_version(
    server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore
) -> None:
    first = published(store, "rows", data=b"1")
    server.tags["v1.0"] = first.version
    server.tags["later"] = server.commit({"team/dataset/demo/other/x": b"1"})
    second = published(store, "rows", data=b"2")
    found = [store.resolve("dataset", PROJECT, "rows", ref) for ref in ("v1.0", "later", "main")]
    assert found == [first, first, second]
    assert (store.tags(first), store.tags(second)) == (["v1.0"], [])


def test_changes_are_those_of_everyone_in_their_order(server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore) -> None:
    server.page = 2
    first = published(store, "größe/rows", data=b"1")
    by_hand = server.commit(
        {"team/dataset/demo/rows/x": b"1", "team/model/other/m/x": b"1", "team/readme": b"", "outside/dataset/demo/a/b": b""}
    )
    second = published(store, "größe/rows", data=b"2")
    changes = store.changes()
    assert changes.addresses == [first, Address("dataset", PROJECT, "rows", by_hand), second]
    assert list(store.changes(changes.position).addresses) == []
    third = published(store, "rows", data=b"3")
    assert store.changes(changes.position).addresses == [third]


def test_a_killed_upload_is_invisible_and_its_repetition_succeeds(
    server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore
) -> None:
    place = store.place("dataset", PROJECT, "rows")

    def killed() -> Iterator[bytes]:
        yield b"1"
        if calls:
            raise KeyboardInterrupt
        calls.append(1)

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        store.write(place, [artifactstores.Source("a", killed), *sources({"b": b"2"})])
    assert list(store.versions("dataset", PROJECT, "rows").versions) == []
    digest = store.write(place, sources({"a": b"1", "b": b"2"}))
    # The commit on the branch, without its merge.
    [branch] = set(server.branches) - {"main"}
    server.branches[branch].head = server.add([server.branches[branch].head], server.branches[branch].tree, "killed", {})
    address = store.commit(place, digest)
    assert contents(store, address) == {"a": b"1", "b": b"2"}
    assert set(server.branches) == {"main"}
    assert store.commit(place, digest) == address


def test_an_incomplete_branch_cannot_be_committed(server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore) -> None:
    place = store.place("dataset", PROJECT, "rows")
    digest = store.write(place, sources({"a": b"1"}))
    [branch] = set(server.branches) - {"main"}
    server.branches[branch].tree = {}
    with pytest.raises(errors.NotFoundError, match="no contents"):
        store.commit(place, digest)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, errors.PermanentError, "does not accept the account: check AWS_ACCESS_KEY_ID"),
        (403, errors.PermanentError, "the account may not do this at lakeFS"),
        (412, errors.PermanentError, "pre-merge hook aborted"),
        (420, errors.TemporaryError, "cannot do it now"),
        (503, errors.TemporaryError, "cannot do it now"),
    ],
)
def test_a_refusal_says_what_to_do(
    server: lakefs_server.Lakefs, store: artifactstores.ArtifactStore, status: int, kind: type[errors.FusemlError], said: str
) -> None:
    server.refusal = (status, "pre-merge hook aborted\x1b[31m")
    calls: list[Callable[[], object]] = [
        lambda: store.versions("dataset", PROJECT, "rows"),
        lambda: store.write(store.place("dataset", PROJECT, "rows"), sources({"a": b"1"})),
        store.changes,
    ]
    for call in calls:
        with pytest.raises(kind, match=said) as caught:
            call()
        assert "\x1b" not in str(caught.value)


def test_a_wrong_account_a_missing_repository_and_no_server_are_told_apart(server: lakefs_server.Lakefs) -> None:
    with pytest.raises(errors.PermanentError, match="does not accept the account"):
        connect(server, AWS_SECRET_ACCESS_KEY="wrong").changes()
    with pytest.raises(errors.NotFoundError, match=r"lakeFS at .* has no api/v1/repositories/nowhere"):
        connect(server, FUSEML_LAKEFS_REPOSITORY="nowhere").changes()
    with pytest.raises(errors.InvalidError, match="must configure FUSEML_LAKEFS_REPOSITORY"):
        artifactstores.connect(Connection("lakefs", server.url, {}))
    away = artifactstores.connect(Connection("lakefs", "http://127.0.0.1:9", artifact_stores.lakefs_variables()))
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        away.changes()


def test_lakefs_is_recognised_and_its_account_checked(server: lakefs_server.Lakefs) -> None:
    found = probe.TOOL.detect(targets.Target(server.url))
    assert found is not None and (found.product, found.services[0].resource) == ("lakefs", "lakefs")
    assert probe.TOOL.check is not None
    key, secret = lakefs_server.ACCOUNT
    account = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    assert probe.TOOL.check(targets.Target(server.url, credentials=account)) is None
    wrong = probe.TOOL.check(targets.Target(server.url, credentials={**account, "AWS_SECRET_ACCESS_KEY": "wrong"}))
    assert wrong is not None and "refuses these credentials" in wrong
