"""Contents in a bucket, where things go wrong: credentials, buckets, connections. Against a real S3 server, and ones that misbehave."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fuseml import contents
from fuseml.contents import filesystem, s3
from fuseml.domain import errors
from fuseml.runtime.settings import Settings
from tests import commands
from tests import s3 as servers

CANARY = "canary-7f3a9c51e2"
Call = Callable[[contents.Contents], object]
CALLS: dict[str, Call] = {
    "put": lambda store: store.put("a", [b"x"]),
    "put in parts": lambda store: store.put("a", [b"x" * (s3.PART + 1)]),
    "get": lambda store: list(store.get("a")),
    "size": lambda store: store.size("a"),
    "delete": lambda store: store.delete("a"),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@contextlib.contextmanager
def bucket(account: s3.Account, name: str = servers.BUCKET) -> Iterator[s3.S3Contents]:
    store = s3.S3Contents(name, "", account)
    yield store
    store.close()


@each_call
def test_a_wrong_secret_is_refused_and_in_no_message(server: servers.Server, call: Call) -> None:
    with bucket(dataclasses.replace(server.account, secret_key=CANARY)) as store:
        with pytest.raises(errors.PermanentError, match=r"does not accept our credentials .*AWS_SECRET_ACCESS_KEY") as refused:
            call(store)
        assert CANARY not in repr([refused.value, refused.value.details, refused.value.__cause__, server.account])


@each_call
def test_an_unknown_account_is_refused(server: servers.Server, call: Call) -> None:
    unknown = dataclasses.replace(server.account, access_key="AKIAUNKNOWN")
    with bucket(unknown) as store, pytest.raises(errors.PermanentError, match=r"does not accept our credentials .*AWS_ACCESS_KEY_ID"):
        call(store)


@pytest.mark.parametrize(("call", "verb"), [(CALLS["put"], "write"), (CALLS["get"], "read"), (CALLS["delete"], "delete")])
def test_who_may_not_is_told_what_to_grant(server: servers.Server, call: Call, verb: str) -> None:
    with bucket(server.reader) as store, pytest.raises(errors.PermanentError, match=f"does not let us {verb} 'a' in the bucket 'fuseml'"):
        call(store)


@each_call
def test_a_missing_bucket_is_named(server: servers.Server, call: Call) -> None:
    with (
        bucket(server.account, "nowhere") as store,
        pytest.raises(errors.PermanentError, match="has no bucket 'nowhere': create it") as missing,
    ):
        call(store)
    assert not isinstance(missing.value, errors.NotFoundError)


def test_an_upload_that_fails_leaves_no_parts_behind(server: servers.Server) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * (2 * s3.PART)
        raise errors.TemporaryError("the engine is away")

    with bucket(server.account) as store, pytest.raises(errors.TemporaryError):
        store.put("large", failing())
    assert server.unfinished() == 0


def test_a_connection_that_breaks_in_the_middle_may_be_tried_again(tmp_path: Path) -> None:
    with servers.server(tmp_path) as server, bucket(server.account) as store:
        store.put("large", (b"x" * s3.PART for _ in range(6)))
        reading = store.get("large")
        next(reading)

        def blocks() -> Iterator[bytes]:
            yield b"x" * (2 * s3.PART)
            server.kill()
            yield b"x" * s3.PART

        with pytest.raises(errors.TemporaryError, match=r"the S3 store at 127\.0\.0\.1:\d+ cannot be reached to write 'other'"):
            store.put("other", blocks())
        with pytest.raises(errors.TemporaryError, match="cannot be reached to read 'large'"):
            list(reading)
        with pytest.raises(errors.TemporaryError, match="cannot be reached to read 'a'"):
            store.size("a")


@contextlib.contextmanager
def answering(status: int, code: str) -> Iterator[s3.Account]:
    """A server that gives everybody one answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield s3.Account(endpoint=f"http://me:{CANARY}@127.0.0.1:{server.server_port}", access_key="a", secret_key=CANARY)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "kind", "told"),
    [
        (503, "SlowDown", errors.TemporaryError, r"cannot read 'a' now \(SlowDown\)"),
        (429, "TooManyRequests", errors.TemporaryError, "now"),
        (403, "RequestTimeTooSkewed", errors.TemporaryError, "now"),
        (403, "ExpiredToken", errors.PermanentError, "does not accept our credentials"),
        (400, "AuthorizationHeaderMalformed", errors.PermanentError, "another region .*AWS_REGION"),
        (418, "Teapot", errors.PermanentError, r"refuses to read 'a' \(Teapot\)"),
    ],
)
def test_what_a_server_says_is_told_by_what_it_means(status: int, code: str, kind: type[errors.FusemlError], told: str) -> None:
    with answering(status, code) as account, bucket(account) as store:
        for name in ("get", "size"):
            with pytest.raises(kind, match=told) as refused:
                CALLS[name](store)
            assert CANARY not in refused.value.message


def test_an_account_is_whole_and_a_bucket_addressed_by_a_known_way() -> None:
    with pytest.raises(errors.PermanentError, match="both, or neither"):
        s3.S3Contents("b", "", s3.Account(access_key="a"))
    with pytest.raises(errors.PermanentError, match="'path' or 'virtual', not 'sideways'"):
        s3.S3Contents("b", "", s3.Account(addressing="sideways"))
    nonsense = s3.Account(endpoint="nonsense", access_key="a", secret_key="b")
    with bucket(nonsense) as store, pytest.raises(errors.PermanentError, match="check AWS_ENDPOINT_URL_S3"):
        store.size("a")


@pytest.mark.parametrize(
    ("addressing", "endpoint", "host", "path"),
    [
        ("", "http://s3.local:9000", "s3.local:9000", "/models/p/a"),
        ("virtual", "http://s3.local:9000", "models.s3.local:9000", "/p/a"),
        ("path", "", "s3.eu-central-1.amazonaws.com", "/models/p/a"),
        ("", "", "models.s3.eu-central-1.amazonaws.com", "/p/a"),
    ],
)
def test_buckets_are_addressed_as_the_server_wants_it(addressing: str, endpoint: str, host: str, path: str) -> None:
    account = s3.Account(endpoint=endpoint, region="eu-central-1", addressing=addressing, access_key="a", secret_key=CANARY)
    store = s3.S3Contents("models", "p", account)
    url = urlsplit(store.link("a", 60))
    store.close()
    assert (url.netloc, url.path) == (host, path)
    assert "X-Amz-Expires=60" in url.query
    assert CANARY not in url.query


# Where contents are


@pytest.mark.parametrize(
    "url", ["http://x", "bucket", "s3://", "s3:///x", "file://host/x", "file:x", "s3://b/p?x=1", f"s3://me:{CANARY}@b/p", "s3://[b"]
)
def test_a_url_that_names_no_store_is_refused_unseen(url: str) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_CONTENTS_URL") as refused:
        contents.connect(Settings(contents_url=url))
    assert CANARY not in refused.value.message


def test_stores_are_made_from_settings(server: servers.Server, tmp_path: Path) -> None:
    assert contents.connect(Settings()) is None
    folder = contents.connect(Settings(contents_url=f"file://{tmp_path}/a%20b"))
    assert isinstance(folder, filesystem.FileContents)
    folder.put("x", [b"1"])
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"
    variables = {
        "FUSEML_CONTENTS_URL": f"s3://{servers.BUCKET}/deep/prefix/",
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_ACCESS_KEY_ID": server.account.access_key,
        "AWS_SECRET_ACCESS_KEY": server.account.secret_key,
    }
    settings = Settings.from_env(variables)
    assert server.account.secret_key not in repr(settings)
    made = contents.connect(settings)
    assert isinstance(made, s3.S3Contents)
    made.put("x", [b"1"])
    made.close()
    with bucket(server.account) as whole:
        assert list(whole.get("deep/prefix/x")) == [b"1"]


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    program = """
import sys
from fuseml import contents
from fuseml.runtime.settings import Settings
contents.connect(Settings(contents_url="s3://b/p"))
assert not {"boto3", "botocore"} & set(sys.modules)
"""
    commands.python(program)
