"""Contract of contents: a folder, buckets of moto's server and of the server at FUSEML_S3, and object stores (`tests/object_servers.py`)."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuseml.contents import Contents, filesystem, object_store, s3
from fuseml.domain import errors
from tests import object_servers, s3_servers, waiting

KEY = "runs/1f0c/trainer.log"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(scope="module")
def named() -> Iterator[tuple[str, s3.Account]]:
    with s3_servers.bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.Objects]:
    with object_servers.google(tmp_path_factory.mktemp("gcs")) as started:
        yield started.objects


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.Objects]:
    with object_servers.azurite(tmp_path_factory.mktemp("azure")) as started:
        yield started.objects


Fetch = Callable[[str], bytes]


@pytest.fixture(params=["folder", "bucket", "named", "gcs", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Contents, Fetch]]:
    """A new store, and a function that opens its links."""
    if request.param == "folder":
        yield filesystem.FileContents(tmp_path / "contents"), fetch
        return
    if request.param in ("gcs", "azure"):
        yield object_store.ObjectContents(request.getfixturevalue(request.param), tmp_path.name), fetch
        return
    if request.param == "named":
        name, account = request.getfixturevalue("named")
        bucket, fetcher = s3.S3Contents(name, tmp_path.name, account), fetch
    else:
        server: s3_servers.Server = request.getfixturevalue("server")
        bucket, fetcher = s3.S3Contents(s3_servers.BUCKET, tmp_path.name, server.account), server.fetch
    yield bucket, fetcher
    bucket.close()


@pytest.fixture
def contents(store: tuple[Contents, Fetch]) -> Contents:
    return store[0]


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def read(contents: Contents, key: str = KEY, offset: int = 0, limit: int | None = None) -> bytes:
    return b"".join(contents.get(key, offset, limit))


def test_stored_bytes_are_read_unchanged(contents: Contents) -> None:
    every = bytes(range(256)) * 3
    assert contents.put(KEY, [every[:1], b"", every[1:]]) == len(every)
    assert (read(contents), contents.size(KEY)) == (every, len(every))


def test_any_range_can_be_read_and_is_empty_behind_the_end(contents: Contents) -> None:
    contents.put(KEY, [b"0123456789"])
    parts = [(0, None), (3, None), (3, 4), (8, 9), (0, 0), (3, 0), (10, None), (10, 5), (99, None), (99, 1)]
    assert [read(contents, KEY, *part) for part in parts] == [
        b"0123456789",
        b"3456789",
        b"3456",
        b"89",
        b"",
        b"",
        b"",
        b"",
        b"",
        b"",
    ]


def test_empty_contents_exist(contents: Contents) -> None:
    assert contents.put(KEY, []) == 0
    assert (read(contents), read(contents, offset=1), contents.size(KEY)) == (b"", b"", 0)


def test_a_second_put_replaces_the_contents(contents: Contents) -> None:
    contents.put(KEY, [b"long and old"])
    contents.put(KEY, [b"new"])
    assert (read(contents), contents.size(KEY)) == (b"new", 3)


def test_missing_contents_are_not_found_and_can_be_deleted(contents: Contents) -> None:
    for call in (lambda: read(contents), lambda: read(contents, limit=0), lambda: read(contents, offset=5), lambda: contents.size(KEY)):
        with pytest.raises(errors.NotFoundError, match=KEY):
            call()
    contents.delete(KEY)
    contents.put(KEY, [b"x"])
    contents.put("runs/1f0c/trainer.log2", [b"y"])
    contents.delete(KEY)
    with pytest.raises(errors.NotFoundError):
        contents.size(KEY)
    assert read(contents, "runs/1f0c/trainer.log2") == b"y"


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a/.hidden", "a\\b", "a\0b", "a\nb", "-a", "x" * 501, "ä"]
)
def test_an_invalid_key_is_refused(contents: Contents, key: str) -> None:
    for call in (
        lambda: contents.put(key, [b"x"]),
        lambda: read(contents, key),
        lambda: contents.size(key),
        lambda: contents.delete(key),
        lambda: contents.link(key, 60),
    ):
        with pytest.raises(errors.InvalidError, match="cannot be a key"):
            call()


def test_a_failed_put_leaves_the_former_contents(contents: Contents) -> None:
    contents.put(KEY, [b"old"])

    def failing(size: int) -> Iterator[bytes]:
        yield b"x" * size
        raise errors.TemporaryError("the engine is away")

    for size in (10, s3.PART + 10):
        with pytest.raises(errors.TemporaryError, match="the engine is away"):
            contents.put(KEY, failing(size))
        assert read(contents) == b"old"


def test_large_contents_are_streamed(contents: Contents) -> None:
    block, count = b"0123456789abcdef" * 4096 + b"!", 300
    consumed = 0

    def blocks() -> Iterator[bytes]:
        nonlocal consumed
        for _ in range(count):
            consumed += 1
            yield block

    size = contents.put(KEY, blocks())
    assert size == contents.size(KEY) == len(block) * count > 2 * s3.PART
    digest, longest = hashlib.sha256(), 0
    for piece in contents.get(KEY):
        digest.update(piece)
        longest = max(longest, len(piece))
    assert digest.digest() == hashlib.sha256(block * count).digest()
    assert longest < s3.PART
    assert read(contents, KEY, len(block) * 200, 5) == b"01234"


def test_concurrent_puts_leave_one_of_the_contents_complete(contents: Contents) -> None:
    bodies = [bytes([65 + number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=contents.put, args=(KEY, [body[:50_000], body[50_000:]])) for body in bodies] + [
        threading.Thread(target=contents.put, args=(f"runs/other/{number}", [body])) for number, body in enumerate(bodies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(contents) in bodies
    assert [read(contents, f"runs/other/{number}") for number in range(8)] == bodies


def test_a_link_is_opened_without_an_account(store: tuple[Contents, Fetch], request: pytest.FixtureRequest) -> None:
    contents, fetch = store
    if "gcs" in request.node.name:
        pytest.skip("needs an account of Google, which signs links")
    contents.put(KEY, [b"a log\n"])
    assert fetch(contents.link(KEY, 60)) == b"a log\n"


def test_only_the_first_creation_of_a_key_stores(contents: Contents) -> None:
    stored: list[bytes] = []

    def create(data: bytes) -> None:
        if contents.create(KEY, data):
            stored.append(data)

    threads = [threading.Thread(target=create, args=(f"writer {number}".encode(),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read(contents)] == stored
    assert not contents.create(KEY, b"late")
    contents.delete(KEY)
    assert contents.create(KEY, b"")
    assert read(contents) == b""


def test_keys_are_listed_in_the_order_of_their_bytes_by_pages(contents: Contents) -> None:
    below = ["p/a-b", "p/a.c/x", "p/a/0", "p/a/b/deep", "p/a0", "p/aZ", "p/b", "p/z/1", "p/z/2"]
    for key in [*below, "p2/other", "q"]:
        contents.put(key, [b"x" * len(key)])
    listed = contents.entries("p")
    assert [(entry.key, entry.size) for entry in listed] == [(key, len(key)) for key in below]
    assert all(abs(entry.modified - time.time()) < 3600 for entry in listed)
    for limit in (1, 2, 4, 100):
        paged: list[str] = []
        while page := contents.entries("p", paged[-1] if paged else "", limit):
            assert len(page) <= limit
            paged += [entry.key for entry in page]
        assert paged == below
    assert [entry.key for entry in contents.entries("p", "p/a/a")] == below[3:]
    assert [entry.key for entry in contents.entries("p/a")] == ["p/a/0", "p/a/b/deep"]
    assert contents.entries("none") == contents.entries("q") == contents.entries("p", "p/z/2") == []


def test_renewed_contents_have_the_present_as_their_time(contents: Contents, request: pytest.FixtureRequest) -> None:
    assert not contents.renew(KEY)
    contents.put(KEY, [b"kept"])
    [before] = contents.entries("runs")
    # The times of S3 are whole seconds.
    waiting.wait_until(lambda: time.time() > before.modified + 1.1, "the next second")
    renewed = contents.renew(KEY)
    # The server at FUSEML_S3 may be one that keeps the time.
    assert renewed or "named" in request.node.name
    [after] = contents.entries("runs")
    assert (after.modified > before.modified) == renewed
    assert read(contents) == b"kept"


def test_unfinished_writes_are_discarded_once_they_are_old(contents: Contents, request: pytest.FixtureRequest) -> None:
    begun, going_on = threading.Event(), threading.Event()

    def blocks() -> Iterator[bytes]:
        yield b"x" * (2 * s3.PART)
        yield b"x" * s3.PART
        begun.set()
        going_on.wait(waiting.PATIENCE)
        raise errors.TemporaryError("the engine is away")

    def write() -> None:
        with pytest.raises(errors.FusemlError):
            contents.put(KEY, blocks())

    # These stores delete unfinished uploads themselves.
    is_remote = any(name in request.node.name for name in ("gcs", "azure"))
    contents.put("runs/other", [b"finished"])
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(waiting.PATIENCE)
        # Moto dates every upload in progress to 2010.
        assert "bucket" in request.node.name or contents.discard_unfinished(3600) == 0
        assert contents.discard_unfinished(-3600) == (0 if is_remote else 1)
        assert contents.discard_unfinished(-3600) == 0
    finally:
        going_on.set()
        writer.join()
    assert [entry.key for entry in contents.entries("runs")] == ["runs/other"]
    assert read(contents, "runs/other") == b"finished"
