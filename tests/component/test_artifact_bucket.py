"""Artifacts in a bucket and a folder: killed uploads, leftovers, uploads from folders and downloads into them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection, File, Opened, Source, bucket, dvc_remote, folders, layout, leftovers
from fuseml.contents import filesystem
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from tests import commands, s3_servers
from tests.component import killed_upload
from tests.contract.artifact_stores import PROJECT, flip, sources

EVERYTHING = -3600.0
"""An age in seconds that everything has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@dataclass
class Later:
    """A clock that tests move."""

    ahead: float = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.ahead


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path, clock: Later) -> bucket.BucketStore:
    return bucket.BucketStore(filesystem.FileContents(root), root.as_uri(), now=clock)


def publish(store: artifactstores.ArtifactStore, files: dict[str, bytes], name: str = "iris") -> Address:
    place = store.place("dataset", PROJECT, name)
    return store.commit(place, store.write(place, sources(files)))


def contents(store: artifactstores.ArtifactStore, address: Address) -> dict[str, bytes]:
    opened = store.open(address)
    return {file.path: b"".join(opened.read(file)) for file in opened.files}


def versions(store: artifactstores.ArtifactStore, name: str = "iris") -> list[Address]:
    return [version.address for version in store.versions("dataset", PROJECT, name).versions]


def stored(root: Path, part: str) -> list[str]:
    return sorted(path.name for path in root.rglob(f"{part}/*"))


# Kills


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_an_upload_that_is_killed_anywhere_leaves_nothing_visible_and_can_be_repeated(
    kind: str, root: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "folder":
        connection = Connection("folder", root.as_uri())
    else:
        account = request.getfixturevalue("server").account
        keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key, "AWS_REGION": account.region}
        connection = Connection("s3", account.endpoint, {**keys, "FUSEML_ARTIFACTS_BUCKET": s3_servers.BUCKET})
    text = json.dumps({"resource": connection.resource, "url": connection.url, "environment": dict(connection.environment)})
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.component.killed_upload", "1" if kind == "folder" else "9"]
    lines = commands.run(command, environment, text=text, patience=500).stdout.splitlines()
    codes = {int(number): int(code) for number, _, code in (line.partition(" ") for line in lines)}
    *killed, finished = codes
    assert {codes[number] for number in killed} == {-signal.SIGKILL} and codes[finished] == 0
    assert len(killed) > 5
    store = artifactstores.connect(connection)
    assert isinstance(store, bucket.BucketStore)
    visible = [number for number in codes if versions(store, f"killed-{number}")]
    # The step that makes a version visible is the last one but for its own cleaning up.
    assert visible == list(codes)[-len(visible) :] and len(visible) <= 3
    for number in killed[::3]:
        name = f"killed-{number}"
        if number % 2:
            store.discard_leftovers(EVERYTHING)
        address = publish(store, killed_upload.FILES, name)
        assert versions(store, name) == [address]
        assert contents(store, address) == killed_upload.FILES
    store.discard_leftovers(EVERYTHING)
    assert store.discard_leftovers(EVERYTHING) == 0
    for number in visible:
        [address] = versions(store, f"killed-{number}")
        assert contents(store, address) == killed_upload.FILES


def test_concurrent_commits_of_the_same_contents_are_one_version(store: bucket.BucketStore) -> None:
    place = store.place("dataset", PROJECT, "iris")
    digest = store.write(place, sources({"a": b"1"}))
    addresses: list[Address] = []
    threads = [threading.Thread(target=lambda: addresses.append(store.commit(place, digest))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(addresses) == 8
    assert versions(store) == [addresses[0]] == sorted({*addresses}, key=str)


# Leftovers


def test_files_are_stored_once_and_go_with_the_last_version_that_names_them(store: bucket.BucketStore, root: Path) -> None:
    first = publish(store, {"a": b"same", "b": b"old"})
    second = publish(store, {"a": b"same", "c": b"new"})
    assert len(stored(root, "files")) == 3
    store.delete(first)
    assert contents(store, second) == {"a": b"same", "c": b"new"}
    assert store.discard_leftovers() == 0, "nothing is old"
    assert store.discard_leftovers(EVERYTHING) == 2
    assert len(stored(root, "files")) == 2
    assert contents(store, second) == {"a": b"same", "c": b"new"}
    assert publish(store, {"a": b"same", "b": b"old"}) == first
    assert contents(store, first) == {"a": b"same", "b": b"old"}
    for address in (first, second):
        store.delete(address)
    store.discard_leftovers(EVERYTHING)
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_an_upload_renews_the_files_that_it_reuses(store: bucket.BucketStore, root: Path) -> None:
    store.delete(publish(store, {"a": b"same"}))
    for path in root.rglob("*"):
        os.utime(path, (0, 0))
    place = store.place("dataset", PROJECT, "iris")
    digest = store.write(place, sources({"a": b"same", "b": b"new"}))
    assert store.discard_leftovers() == 1, "the manifest of the deleted version"
    assert contents(store, store.commit(place, digest)) == {"a": b"same", "b": b"new"}


def test_contents_that_may_be_deleted_as_leftovers_are_not_committed(store: bucket.BucketStore, clock: Later) -> None:
    place = store.place("dataset", PROJECT, "iris")
    digest = store.write(place, sources({"a": b"1"}))
    clock.ahead = leftovers.STALE
    with pytest.raises(errors.TemporaryError, match="written too long ago; write them again"):
        store.commit(place, digest)
    assert versions(store) == []
    clock.ahead = 0
    [file] = Path(urllib.parse.urlsplit(place.uri).path).rglob("files/*")
    file.unlink()
    with pytest.raises(errors.TemporaryError, match="write them again"):
        store.commit(place, digest)
    store.write(place, sources({"a": b"1"}))
    address = store.commit(place, digest)
    assert versions(store) == [address]


def test_a_damaged_manifest_keeps_the_leftovers_of_its_name_and_is_reported(store: bucket.BucketStore, root: Path) -> None:
    address = publish(store, {"a": b"1"})
    [manifest] = root.rglob("manifests/*")
    flip(manifest)
    with pytest.raises(errors.PermanentError, match=r"manifest of sha256:.* is damaged"):
        store.open(address)
    with pytest.raises(errors.PermanentError, match="is damaged"):
        store.discard_leftovers(EVERYTHING)
    assert len(stored(root, "files")) == 1


@pytest.mark.parametrize("part", ["moments", "versions"])
def test_a_damaged_record_is_reported(store: bucket.BucketStore, root: Path, part: str) -> None:
    address = publish(store, {"a": b"1"})
    [path] = root.rglob(f"{part}/*")
    path.write_bytes(b"{}")
    with pytest.raises(errors.PermanentError, match="is damaged in the store"):
        store.describe(address)


def test_a_file_that_changes_while_it_is_stored_is_refused(store: bucket.BucketStore, root: Path) -> None:
    reads = iter([[b"first"], [b"second"]])
    with pytest.raises(errors.TemporaryError, match="'a' changed while it was stored"):
        store.write(store.place("dataset", PROJECT, "iris"), [Source("a", lambda: iter(next(reads)))])
    assert stored(root, "files") == stored(root, "manifests") == []


@pytest.mark.parametrize(
    "about",
    [
        artifactstores.About(metrics={"r2": float("nan")}),
        artifactstores.About(format="x" * 1001),
        artifactstores.About(metadata={"x": "x" * (1 << 20)}),
    ],
)
def test_facts_that_cannot_be_kept_are_refused_before_anything_is_visible(store: bucket.BucketStore, about: artifactstores.About) -> None:
    place = store.place("dataset", PROJECT, "iris")
    digest = store.write(place, sources({"a": b"1"}))
    with pytest.raises(errors.InvalidError):
        store.commit(place, digest, about)
    assert versions(store) == []


# Folders


def test_a_folder_is_stored_and_written_with_its_modes_and_unicode_names(store: bucket.BucketStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "größe").mkdir(parents=True)
    (source / "größe" / "日本 1.txt").write_bytes(b"")
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    place = store.place("runnable", PROJECT, "tool")
    address = store.commit(place, store.write(place, folders.sources(source)))
    target = tmp_path / "deep" / "target"
    folders.download(store, address, target)
    assert {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()} == {
        "größe/日本 1.txt": b"",
        "run.sh": b"#!/bin/sh\n",
    }
    assert os.access(target / "run.sh", os.X_OK) and not os.access(target / "größe" / "日本 1.txt", os.X_OK)
    with pytest.raises(errors.ConflictError, match="is no empty folder"):
        folders.download(store, address, target)
    assert [source.path for source in folders.sources(source / "run.sh")] == ["run.sh"]


@pytest.mark.parametrize("odd", ["link", "folder link", "pipe", "nothing", "no name"])
def test_an_odd_file_is_refused(tmp_path: Path, odd: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    match odd:
        case "link":
            (source / "a").symlink_to("/etc/passwd")
        case "folder link":
            (source / "a").symlink_to("/etc")
        case "pipe":
            os.mkfifo(source / "a")
        case "no name":
            (source / os.fsdecode(b"\xff")).write_bytes(b"")
    with pytest.raises(errors.InvalidError):
        store = bucket.BucketStore(filesystem.FileContents(tmp_path / "store"), "file:///store")
        store.write(store.place("dataset", PROJECT, "iris"), folders.sources(source))
    with pytest.raises(errors.NotFoundError, match="there is no file or folder"):
        folders.sources(tmp_path / "missing")


class Hostile:
    """A store whose files have these paths."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    def open(self, address: Address) -> Opened:
        empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        return Opened(address, [File(path, 0, empty) for path in self._paths], lambda _: iter([b""]))


@pytest.mark.parametrize("paths", [("../escaped",), ("/tmp/escaped",), ("a/../../escaped",), ("a", "a/b"), ("a", "a")])
def test_no_path_of_a_store_leads_out_of_the_folder(tmp_path: Path, paths: tuple[str, ...]) -> None:
    before = {*tmp_path.rglob("*")}
    with pytest.raises(errors.InvalidError):
        folders.download(Hostile(*paths), Address("dataset", PROJECT, "iris", "1"), tmp_path / "target")  # type: ignore[arg-type]
    assert {*tmp_path.rglob("*")} == before


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.ConflictError):
        folders.download(Hostile("a"), Address("dataset", PROJECT, "iris", "1"), tmp_path / "target")  # type: ignore[arg-type]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_damaged_artifact_leaves_no_folder(store: bucket.BucketStore, root: Path, tmp_path: Path) -> None:
    address = publish(store, {"a": b"1", "b": b"2"})
    flip(sorted(root.rglob("files/*"))[0])
    before = {*tmp_path.iterdir()}
    with pytest.raises(errors.PermanentError, match="is damaged in the store"):
        folders.download(store, address, tmp_path / "target")
    assert {*tmp_path.iterdir()} == before


# Connections


def test_an_unknown_resource_is_refused_with_the_known_ones() -> None:
    with pytest.raises(errors.InvalidError, match=r"no artifact store has the resource 'gas'; the known ones are .*folder.*s3"):
        artifactstores.connect(Connection("gas", "http://gas"))
    with pytest.raises(errors.InvalidError, match="must configure FUSEML_ARTIFACTS_BUCKET"):
        artifactstores.connect(Connection("s3", "http://127.0.0.1:1"))
    for url in ("http://host/folder", "file://host/folder", "folder"):
        with pytest.raises(errors.InvalidError, match="must be file:///FOLDER"):
            artifactstores.connect(Connection("folder", url))


def test_the_addressing_of_buckets_is_that_of_the_record() -> None:
    variables = {"FUSEML_ARTIFACTS_BUCKET": "b", "FUSEML_S3_ADDRESSING": "sideways"}
    with pytest.raises(errors.PermanentError, match="'path' or 'virtual', not 'sideways'"):
        artifactstores.connect(Connection("s3", "http://127.0.0.1:1", variables))
    with pytest.raises(errors.PermanentError, match="'path' or 'virtual', not 'sideways'"):
        dvc_remote.Remote("s3://b", variables).blocks("s3://b", "0" * 32, is_legacy=False)


def test_no_secret_is_shown() -> None:
    connection = Connection(
        "s3", "http://127.0.0.1:1", {"AWS_SECRET_ACCESS_KEY": "canary-1", "AWS_ACCESS_KEY_ID": "a", "FUSEML_ARTIFACTS_BUCKET": "b"}
    )
    store = artifactstores.connect(connection)
    place = store.place("dataset", PROJECT, "iris")
    assert place.environment["AWS_SECRET_ACCESS_KEY"] == "canary-1"
    with contextlib.closing(store._contents), pytest.raises(errors.TemporaryError) as refused:  # type: ignore[attr-defined]
        store.write(place, sources({"a": b"1"}))
    assert "canary-1" not in repr([connection, store, place, refused.value, refused.value.details])


def test_a_name_stands_for_one_key() -> None:
    names = ["a", "A", "a/b", "a_2fb", "_h", "-a", ".a", "ä", "x" * 151, "x" * 152, "", "_", "a.", "%2f"]
    assert len({layout.escaped(name) for name in names}) == len(names)
