"""Git LFS on the embedded git host: contents by HTTP and by git-lfs itself, and checkouts with the contents of pointers."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.client import git as client
from fuseml.domain import errors
from fuseml.githosts import lfs, limits, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from tests import commands
from tests.waiting import PATIENCE, wait_until

from . import githost

server, clone = githost.server, githost.clone

ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
CONTENT = b"0.5 0.25\n" * 1000
OID = hashlib.sha256(CONTENT).hexdigest()
LFS = "/git/workspace/mnist.git/info/lfs"
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")


def pointer(content: bytes = CONTENT) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"


def request(
    server: githost.Server, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        given = {"Authorization": githost.BASIC, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body=body, headers=given)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def batch(server: githost.Server, operation: str, *objects: object, code: int = 200, **fields: object) -> dict[str, Any]:
    body = json.dumps({"operation": operation, "transfers": ["basic"], "objects": objects, **fields}).encode()
    status, headers, answer = request(server, "POST", f"{LFS}/objects/batch", body, Content_Type="application/vnd.git-lfs+json")
    assert (status, headers["Content-Type"]) == (code, "application/vnd.git-lfs+json"), answer
    document: dict[str, Any] = json.loads(answer)
    return document


def put(server: githost.Server, content: bytes = CONTENT, oid: str = "") -> tuple[int, str]:
    status, _, body = request(server, "PUT", f"{LFS}/objects/{oid or hashlib.sha256(content).hexdigest()}", content)
    return status, str(json.loads(body).get("message", ""))


def unfinished(server: githost.Server) -> list[Path]:
    return list((server.root / "workspace" / "mnist.git" / "lfs" / "tmp").glob("*"))


def test_a_content_is_uploaded_once_and_downloaded_in_parts(server: githost.Server) -> None:
    described = {"oid": OID, "size": len(CONTENT)}
    address = f"http://127.0.0.1:{server.port}{LFS}/objects/{OID}"
    assert batch(server, "upload", described)["objects"] == [{**described, "actions": {"upload": {"href": address}}}]
    assert batch(server, "download", described)["objects"][0]["error"]["code"] == 404
    assert [put(server), put(server)] == [(200, ""), (200, "")]
    assert batch(server, "upload", described)["objects"] == [described]
    assert batch(server, "download", described)["objects"] == [{**described, "actions": {"download": {"href": address}}}]
    assert request(server, "GET", f"{LFS}/objects/{OID}")[::2] == (200, CONTENT)
    status, _, rest = request(server, "GET", f"{LFS}/objects/{OID}", Range="bytes=8000-")
    assert (status, rest) == (206, CONTENT[8000:])
    assert request(server, "GET", f"{LFS}/objects/{OID}", Range="bytes=9999-")[0] == 416
    assert unfinished(server) == []


def test_contents_are_addressed_by_the_name_that_the_client_uses(server: githost.Server) -> None:
    server.serve(
        smart_http.SmartHttp(
            server.host,
            authorise=lambda *_: True,
            deliver=server.deliveries.append,
            secret=lambda *_: githost.SECRET,
            urls=["https://ml.example.com"],
        )
    )
    body = json.dumps({"operation": "upload", "objects": [{"oid": OID, "size": 1}]}).encode()
    _, _, answer = request(server, "POST", f"{LFS}/objects/batch", body, Host="ml.example.com")
    assert json.loads(answer)["objects"][0]["actions"]["upload"]["href"] == f"https://ml.example.com{LFS}/objects/{OID}"


def test_only_the_content_of_its_name_is_stored(server: githost.Server) -> None:
    status, message = put(server, b"something else", OID)
    assert status == 400
    assert "has the SHA-256 " + hashlib.sha256(b"something else").hexdigest() in message
    assert request(server, "GET", f"{LFS}/objects/{OID}")[0] == 404
    assert unfinished(server) == []


def test_an_upload_that_ends_early_leaves_nothing(server: githost.Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("PUT", f"{LFS}/objects/{OID}")
    connection.putheader("Authorization", githost.BASIC)
    connection.putheader("Content-Length", str(len(CONTENT)))
    connection.endheaders(CONTENT[:100])
    wait_until(lambda: len(unfinished(server)) == 1, "the upload to begin")
    connection.close()
    wait_until(lambda: not unfinished(server), "the end of the upload")
    assert not server.host.lfs_objects("workspace", "mnist").any()


def test_a_killed_upload_is_removed_at_the_next_start(tmp_path: Path) -> None:
    host = EmbeddedGitHost(tmp_path, "http://127.0.0.1/git")
    host.create_repository("demo", "code")
    program = "import pathlib, sys; from fuseml.githosts import lfs; "
    program += "lfs.Objects(pathlib.Path(sys.argv[1])).add(sys.argv[2], sys.stdin.buffer.raw, 1 << 20)"
    repository = tmp_path / "demo" / "code.git"
    temporary = repository / "lfs" / "tmp"
    with subprocess.Popen([sys.executable, "-c", program, repository, OID], stdin=subprocess.PIPE) as uploading:
        assert uploading.stdin is not None
        uploading.stdin.write(CONTENT[:100])
        uploading.stdin.flush()
        wait_until(lambda: bool(list(temporary.glob("*"))), "the upload to begin")
        uploading.kill()
    assert list(temporary.glob("*")) != []
    EmbeddedGitHost(tmp_path, "http://127.0.0.1/git").recover()
    assert list(temporary.glob("*")) == []
    assert not host.lfs_objects("demo", "code").has(lfs.Pointer(OID, len(CONTENT)))


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        (b"{", 400, "is not JSON"),
        (b'{"operation": "delete", "objects": []}', 400, "operation 'upload' or 'download'"),
        (b'{"operation": "upload", "objects": {}}', 400, "a list of at most 1000"),
        (b'{"operation": "upload", "objects": [], "hash_algo": "md5"}', 400, "'sha256' only"),
        (b" " * (1 << 21), 413, "more than 1048576 bytes"),
    ],
)
def test_a_wrong_request_is_refused_with_a_message(server: githost.Server, document: bytes, code: int, message: str) -> None:
    status, headers, body = request(server, "POST", f"{LFS}/objects/batch", document)
    assert (status, headers["Content-Type"]) == (code, "application/vnd.git-lfs+json")
    assert message in json.loads(body)["message"]


@pytest.mark.parametrize("item", [None, {}, {"oid": "../../../x", "size": 1}, {"oid": OID, "size": -1}, {"oid": OID, "size": True}])
def test_a_wrong_object_gets_an_error_of_its_own(server: githost.Server, item: object) -> None:
    wrong, right = batch(server, "upload", item, {"oid": OID, "size": 1})["objects"]
    assert wrong["error"]["code"] == 422
    assert "actions" in right


def test_contents_have_the_limit_of_a_push(server: githost.Server) -> None:
    host = EmbeddedGitHost(server.root, "http://127.0.0.1/git", limits.Limits(pack=100))
    server.serve(smart_http.SmartHttp(host, authorise=lambda *_: True, deliver=server.deliveries.append, secret=lambda *_: githost.SECRET))
    [answer] = batch(server, "upload", {"oid": OID, "size": len(CONTENT)})["objects"]
    assert "more than 100 bytes" in answer["error"]["message"]
    assert put(server)[0] == 413
    assert not host.lfs_objects("workspace", "mnist").any()


@pytest.mark.parametrize(("method", "path"), [("POST", "objects/batch"), ("PUT", f"objects/{OID}"), ("GET", f"objects/{OID}")])
def test_without_credentials_nothing_is_served(server: githost.Server, method: str, path: str) -> None:
    put(server)
    status, headers, body = request(server, method, f"{LFS}/{path}", Authorization="Basic YWRhOndyb25n")
    assert (status, headers["LFS-Authenticate"]) == (401, smart_http.CHALLENGE)
    assert CONTENT not in body


def test_contents_belong_to_one_codeset_and_go_with_it(server: githost.Server) -> None:
    put(server)
    server.host.create_repository("workspace", "other")
    assert not server.host.lfs_objects("workspace", "other").any()
    server.host.delete_repository("workspace", "mnist")
    assert put(server)[0] == 404
    server.host.create_repository("workspace", "mnist")
    assert not server.host.lfs_objects("workspace", "mnist").any()


def test_a_codeset_that_is_removed_during_an_upload_stays_removed(server: githost.Server) -> None:
    reading, writing = os.pipe()
    failures: list[Exception] = []

    def upload() -> None:
        try:
            with os.fdopen(reading, "rb", buffering=0) as stream:
                server.host.lfs_objects("workspace", "mnist").add(OID, stream, 1 << 20)
        except errors.NotFoundError as error:
            failures.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    os.write(writing, CONTENT)
    wait_until(lambda: len(unfinished(server)) == 1, "the upload to begin")
    server.host.delete_repository("workspace", "mnist")
    os.close(writing)
    thread.join(PATIENCE)
    assert len(failures) == 1
    assert not (server.root / "workspace" / "mnist.git").exists()


def export(server: githost.Server, clone: githost.Clone, folder: Path, **files: str) -> Path:
    commit = clone.commit("large files", {".gitattributes": ATTRIBUTES, **files})
    clone.git("push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, folder)
    return folder


def test_a_checkout_has_the_contents_of_pointers(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    put(server)
    out = export(server, clone, tmp_path / "out", **{"data/weights.bin": pointer(), "other.bin": "plain\n"})
    assert (out / "data/weights.bin").read_bytes() == CONTENT
    assert (out / "other.bin").read_text() == "plain\n"


def test_a_missing_content_fails_the_checkout_with_the_file_and_the_way_out(
    server: githost.Server, clone: githost.Clone, tmp_path: Path
) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        export(server, clone, tmp_path / "out", **{"a.bin": pointer(), "b.bin": pointer(b"x")})
    assert "the content of a.bin (8.8 KiB, Git LFS) is missing on this git host, as are 1 others" in caught.value.message
    assert f"git lfs push --all http://127.0.0.1:{server.port}/git/workspace/mnist.git" in caught.value.message


@pytest.mark.parametrize(
    "configuration", ["[lfs]\n\tfetchexclude = data\n", "[lfs]\n\tfetchexclude = *.bin\n", "[lfs]\n\tfetchinclude = models/**\n"]
)
def test_excluded_files_stay_pointers(server: githost.Server, clone: githost.Clone, tmp_path: Path, configuration: str) -> None:
    out = export(server, clone, tmp_path / "out", **{".lfsconfig": configuration, "data/a.bin": pointer()})
    assert (out / "data/a.bin").read_text() == pointer()


def test_another_lfs_server_is_named_and_not_asked(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    configuration = "[lfs]\n\turl = https://user:canary@lfs.example.com/team/x\n"
    with pytest.raises(errors.InvalidError) as caught:
        export(server, clone, tmp_path / "out", **{".lfsconfig": configuration, "a.bin": pointer()})
    assert ".lfsconfig names the server lfs.example.com, which is not asked" in caught.value.message
    assert "canary" not in caught.value.message


def test_pointers_that_no_attribute_names_are_plain_files(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    commit = clone.commit("a fixture", {"tests/pointer.txt": pointer()})
    clone.git("push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert (tmp_path / "out/tests/pointer.txt").read_text() == pointer()


def test_contents_count_for_the_limit_of_a_checkout(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    put(server)
    commit = clone.commit("large", {".gitattributes": ATTRIBUTES, "a.bin": pointer()})
    clone.git("push", "--quiet", "origin", "main")
    host = EmbeddedGitHost(server.root, "http://127.0.0.1/git", limits.Limits(checkout=8000))
    with pytest.raises(errors.TooLargeError):
        host.export("workspace", "mnist", commit, tmp_path / "out")


def test_a_damaged_content_is_not_checked_out(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    put(server)
    server.host.lfs_objects("workspace", "mnist").path(OID).write_bytes(b"x" * len(CONTENT))
    with pytest.raises(errors.PermanentError, match="is damaged"):
        export(server, clone, tmp_path / "out", **{"a.bin": pointer()})


def lfs_clone(clone: githost.Clone) -> None:
    clone.git("lfs", "install", "--local")
    clone.git("lfs", "track", "*.bin")
    (clone.folder / "weights.bin").write_bytes(CONTENT)


@needs_lfs
def test_git_lfs_pushes_and_clones(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    lfs_clone(clone)
    commit = clone.commit("weights")
    pushed = clone.push("origin", "main")
    assert pushed.returncode == 0, pushed.stderr
    assert "hint" not in pushed.stderr
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert (tmp_path / "out/weights.bin").read_bytes() == CONTENT
    server.host.add_repository("workspace", "mnist", commit, tmp_path / "out")
    assert githost.git("status", "--porcelain", cwd=tmp_path / "out") == ""
    other = githost.Clone.of(server.url(), tmp_path / "other")
    other.git("lfs", "install", "--local")
    other.git("lfs", "pull")
    assert (other.folder / "weights.bin").read_bytes() == CONTENT


@needs_lfs
def test_the_client_pushes_the_contents_of_a_folder(server: githost.Server, tmp_path: Path) -> None:
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    (folder / ".gitattributes").write_text(ATTRIBUTES)
    (folder / "weights.bin").write_bytes(CONTENT)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    commands.run(["git", "lfs", "install", "--skip-repo"], environment=environment)
    url = f"http://127.0.0.1:{server.port}/git/workspace/mnist.git"
    pushed = client.Remote(url, "ada", githost.PASSWORD, environment).push_folder(folder, "weights")
    server.host.export("workspace", "mnist", pushed.commit, tmp_path / "out")
    assert (tmp_path / "out/weights.bin").read_bytes() == CONTENT
