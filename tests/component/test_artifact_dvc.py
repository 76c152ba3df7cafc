"""Data of DVC in codesets, without its program: files and remotes in its formats, of DVC 3 and of DVC 2."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml.artifactstores import dvc_files, dvc_remote
from fuseml.artifactstores.dvc import DvcStore
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.githosts.embedded import EmbeddedGitHost
from tests import commands, s3_servers
from tests.component.githost import ENVIRONMENT, Clone
from tests.contract.artifact_stores import client_of


class CountingHost(EmbeddedGitHost):
    """A git host that lists the paths which are read from it."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root, url)
        self.lookups: list[str] = []

    def read(self, project: str, codeset: str, commit: str, path: str, limit: int) -> bytes:
        self.lookups.append(path)
        return super().read(project, codeset, commit, path, limit)


@dataclass
class Codeset:
    """A codeset on a git host whose repository is a folder, and a folder that is its remote of DVC."""

    host: CountingHost
    clone: Clone
    remote: Path

    def store(self, url: str | None = None, variables: Mapping[str, str] | None = None) -> DvcStore:
        return DvcStore(self.host, dvc_remote.Remote(url or self.remote.as_uri(), variables or {}))

    def push(self, files: Mapping[str, str], tags: tuple[str, ...] = ()) -> str:
        commit = self.clone.commit("a change", files)
        for tag in tags:
            self.clone.git("tag", "--force", tag)
        self.clone.git("push", "--quiet", "--force", "origin", "main", "--tags")
        return commit

    def stored(self, data: bytes, suffix: str = "", *, legacy: bool = False) -> str:
        """The hash of an object that is on the remote now."""
        value = hashlib.md5(data).hexdigest() + suffix
        place = self.remote / ("" if legacy else "files/md5") / value[:2] / value[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return value

    def folder(self, files: Mapping[str, bytes]) -> str:
        listed = [{"md5": self.stored(data), "relpath": path} for path, data in files.items()]
        return self.stored(json.dumps(listed).encode(), ".dir")


def config(url: object) -> str:
    return f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n"


def tracked(hash: str, path: str = "rows.csv", size: int = 4) -> str:
    return f"outs:\n- md5: {hash}\n  size: {size}\n  hash: md5\n  path: {path}\n"


@pytest.fixture
def codeset(tmp_path: Path) -> Codeset:
    host = CountingHost(tmp_path / "host", "http://127.0.0.1:1/git")
    (tmp_path / "host").mkdir()
    host.create_repository("demo", "iris")
    remote = tmp_path / "remote"
    made = Codeset(host, Clone.fresh(str(tmp_path / "host" / "demo" / "iris.git"), tmp_path / "work"), remote)
    made.push({".dvc/config": config(remote)})
    return made


def address(hash: str, path: str = "rows.csv") -> Address:
    return Address("dataset", "demo", f"iris/{path}", hash)


def contents(store: DvcStore, at: Address) -> dict[str, bytes]:
    opened = store.open(at)
    return {file.path: b"".join(opened.read(file)) for file in opened.files}


def versions(store: DvcStore, path: str = "rows.csv") -> list[str]:
    return [version.address.version for version in store.versions("dataset", "demo", f"iris/{path}").versions]


def test_a_push_that_changes_data_is_a_new_version_and_a_return_is_the_old_one(codeset: Codeset) -> None:
    store = codeset.store()
    assert versions(store) == []
    first, second = codeset.stored(b"1,2\n"), codeset.stored(b"3,4\n")
    commit = codeset.push({"rows.csv.dvc": tracked(first)})
    codeset.push({"train.py": "print(1)\n"})
    codeset.push({"rows.csv.dvc": tracked(second)})
    codeset.push({"rows.csv.dvc": tracked(first)})
    assert versions(store) == [first, second]
    described = store.describe(address(first))
    assert (described.size, described.digest) == (4, f"md5:{first}")
    assert described.about.metadata == {"path": "rows.csv", "commit": commit}
    assert contents(store, address(second)) == {"rows.csv": b"3,4\n"}
    assert store.locate(address(second)).uri == f"{codeset.remote.as_uri()}/files/md5/{second[:2]}/{second[2:]}"
    with pytest.raises(errors.NotFoundError):
        store.describe(address("a" * 32))
    with pytest.raises(errors.InvalidError, match="not the end of a page"):
        store.versions("dataset", "demo", "iris/rows.csv", "a" * 32)


def test_only_commits_that_changed_the_files_of_the_data_are_read(codeset: Codeset) -> None:
    first, second = codeset.stored(b"1,2\n"), codeset.stored(b"3,4\n")
    codeset.push({"rows.csv.dvc": tracked(first)})
    for number in range(30):
        codeset.clone.commit("code", {"train.py": f"{number}\n"})
    codeset.push({"rows.csv.dvc": tracked(second)})
    store, lookups = codeset.store(), codeset.host.lookups
    lookups.clear()
    assert versions(store) == [first, second]
    assert lookups == ["rows.csv.dvc"] * 2
    lookups.clear()
    assert store.locate(address(second)).digest == f"md5:{second}"
    assert len(lookups) == 3


def test_data_that_moves_between_a_stage_and_a_file_of_its_own_keeps_its_order(codeset: Codeset) -> None:
    hashes = [codeset.stored(data) for data in (b"1\n", b"2\n", b"3\n")]

    def lock(hash: str) -> str:
        return f"schema: '2.0'\nstages:\n  prep:\n    cmd: x\n    outs:\n    - path: rows.csv\n      hash: md5\n      md5: {hash}\n      size: 2\n"

    monday = 1_600_000_000
    for number, files in enumerate(
        [{"dvc.lock": lock(hashes[0])}, {"rows.csv.dvc": tracked(hashes[1])}, {"rows.csv.dvc": tracked(hashes[2])}]
    ):
        codeset.clone.commit("data", files)
        dated = {**ENVIRONMENT, "GIT_COMMITTER_DATE": f"{monday + number} +0000"}
        commands.run(["git", "commit", "--quiet", "--amend", "--no-edit"], dated, cwd=codeset.clone.folder)
        codeset.clone.git("push", "--quiet", "origin", "main")
    assert versions(codeset.store()) == hashes


def test_a_tag_on_a_commit_beside_the_branch_leads_to_no_version(codeset: Codeset) -> None:
    first, aside, store = codeset.stored(b"1,2\n"), codeset.stored(b"3,4\n"), codeset.store()
    codeset.push({"rows.csv.dvc": tracked(first)})
    codeset.clone.git("checkout", "--quiet", "-b", "aside")
    codeset.clone.commit("aside", {"rows.csv.dvc": tracked(aside)})
    codeset.clone.git("tag", "beside")
    codeset.clone.git("push", "--quiet", "origin", "beside")
    codeset.clone.git("checkout", "--quiet", "main")
    with pytest.raises(errors.NotFoundError):
        store.resolve("dataset", "demo", "iris/rows.csv", "beside")
    codeset.clone.git("merge", "--quiet", "--no-ff", "-m", "merged", "aside")
    codeset.push({"train.py": "1\n"})
    assert store.resolve("dataset", "demo", "iris/rows.csv", "beside") == address(aside)


def test_outputs_of_stages_and_folders_are_data(codeset: Codeset) -> None:
    whole = codeset.folder({"a.txt": b"a", "deep/ü b.txt": b""})
    out = codeset.stored(b"5\n")
    lock = (
        "schema: '2.0'\nstages:\n  prep:\n    cmd: x\n    deps:\n    - path: other.csv\n      hash: md5\n      md5: "
        + out
        + "\n      size: 2\n"
        "    outs:\n    - path: out.csv\n      hash: md5\n      md5: " + out + "\n      size: 2\n"
    )
    commit = codeset.push({"sub/raw.dvc": tracked(whole, "raw", 1) + "  nfiles: 2\n", "sub/dvc.lock": lock, "dvc.yaml": "stages: {}\n"})
    store = codeset.store()
    pushed = store.pushed("demo", "iris", commit)
    assert [(str(brought.description.address), brought.description.about.metadata) for brought in pushed.versions] == [
        (f"dataset://demo/iris/sub/out.csv/{out}", {"path": "sub/out.csv", "commit": commit}),
        (f"dataset://demo/iris/sub/raw/{whole}", {"path": "sub/raw", "commit": commit, "files": "2"}),
    ]
    assert [brought.uri for brought in pushed.versions] == [store.locate(brought.description.address).uri for brought in pushed.versions]
    assert contents(store, address(whole, "sub/raw")) == {"a.txt": b"a", "deep/ü b.txt": b""}
    assert contents(store, address(out, "sub/out.csv")) == {"out.csv": b"5\n"}
    assert store.describe(address(whole, "sub/raw")).about.metadata["files"] == "2"


def test_a_remote_of_dvc_2_is_read(codeset: Codeset) -> None:
    value = codeset.stored(b"old\n", legacy=True)
    codeset.push({"rows.csv.dvc": f"outs:\n- md5: {value}\n  size: 4\n  path: rows.csv\n"})
    assert contents(codeset.store(), address(value)) == {"rows.csv": b"old\n"}


def test_data_that_was_not_pushed_or_is_damaged_is_reported(codeset: Codeset) -> None:
    value, store = codeset.stored(b"1,2\n"), codeset.store()
    codeset.push({"rows.csv.dvc": tracked(value)})
    place = codeset.remote / "files" / "md5" / value[:2] / value[2:]
    place.write_bytes(b"1,3\n")
    with pytest.raises(errors.PermanentError, match="is damaged in the store"):
        contents(store, address(value))
    place.unlink()
    with pytest.raises(errors.NotFoundError):
        contents(store, address(value))


# Remotes


@pytest.mark.parametrize(
    "url",
    [
        "/etc",
        "/",
        "{remote}/../elsewhere",
        "{remote}x",
        "file://{remote}/%2e%2e/elsewhere",
        "file://{remote}/..%2felsewhere",
        "../remote",
        "file:///etc",
        "s3://bucket/data",
        "http://127.0.0.1:1/",
        "ssh://host/data",
        "http://{remote}",
    ],
)
def test_a_remote_that_the_record_does_not_name_is_refused(codeset: Codeset, url: str) -> None:
    value = codeset.stored(b"1,2\n")
    codeset.push({".dvc/config": config(url.format(remote=codeset.remote)), "rows.csv.dvc": tracked(value)})
    for call in (lambda: codeset.store().open(address(value)), lambda: codeset.store().locate(address(value))):
        with pytest.raises(errors.InvalidError, match="is not the one of the store's record"):
            call()


def test_the_endpoint_of_a_codeset_is_not_used(codeset: Codeset, tmp_path: Path) -> None:
    value = codeset.stored(b"1,2\n")
    stolen = config("s3://fuseml/dvc") + "    endpointurl = http://127.0.0.1:1\n    access_key_id = x\n"
    codeset.push({".dvc/config": stolen, "rows.csv.dvc": tracked(value)})
    with s3_servers.server(tmp_path) as server, contextlib.closing(client_of(server.account)) as client:
        client.put_object(Bucket=s3_servers.BUCKET, Key=f"dvc/files/md5/{value[:2]}/{value[2:]}", Body=b"1,2\n")
        account = server.account
        variables = {"AWS_ENDPOINT_URL_S3": account.endpoint, "AWS_ACCESS_KEY_ID": account.access_key}
        store = codeset.store("s3://fuseml", {**variables, "AWS_SECRET_ACCESS_KEY": account.secret_key, "AWS_REGION": "us-east-1"})
        assert contents(store, address(value)) == {"rows.csv": b"1,2\n"}
        client.delete_object(Bucket=s3_servers.BUCKET, Key=f"dvc/files/md5/{value[:2]}/{value[2:]}")
        with pytest.raises(errors.NotFoundError):
            contents(store, address(value))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server_is_a_remote(codeset: Codeset) -> None:
    whole = codeset.folder({"a.txt": b"a" * 1_000_000})
    with serving(codeset.remote) as url:
        codeset.push({".dvc/config": config(f"{url}/"), "raw.dvc": tracked(whole, "raw")})
        assert contents(codeset.store(url), address(whole, "raw")) == {"a.txt": b"a" * 1_000_000}
        codeset.push({"rows.csv.dvc": tracked("a" * 32)})
        with pytest.raises(errors.NotFoundError, match="the remote of DVC has no"):
            contents(codeset.store(url), address("a" * 32))
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        contents(codeset.store(url), address(whole, "raw"))


@pytest.mark.parametrize("listed", [b"{}", b"[1]", b'[{"md5": "x", "relpath": "a"}]', b"[", b'[{"relpath": "a"}]'])
def test_a_broken_list_of_files_is_refused(codeset: Codeset, listed: bytes) -> None:
    value = codeset.stored(listed, ".dir")
    codeset.push({"raw.dvc": tracked(value, "raw")})
    if listed == b"{}":
        assert codeset.store().open(address(value, "raw")).files == []
        return
    with pytest.raises(errors.PermanentError, match="the list of files"):
        codeset.store().open(address(value, "raw"))


@pytest.mark.parametrize("path", ["../escaped", "/etc/passwd", "a/../../b", ""])
def test_a_path_that_leads_out_of_a_folder_is_refused(codeset: Codeset, path: str) -> None:
    value = codeset.folder({path: b"x"})
    codeset.push({"raw.dvc": tracked(value, "raw")})
    with pytest.raises(errors.InvalidError, match="cannot be the path of a file"):
        codeset.store().open(address(value, "raw"))


# Files

# Each list holds the one before twice.
BOMB = "l0: &l0 [x]\n" + "".join(f"l{number}: &l{number} [*l{number - 1}, *l{number - 1}]\n" for number in range(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        "outs: [}",
        "- 1",
        "outs:\n- md5: ../../../etc\n  path: x\n",
        f"outs:\n- md5: {'a' * 32}\n  path: ../x\n",
        "wdir: /\n" + tracked("a" * 32),
        f"{BOMB}wdir: *l9\n" + tracked("a" * 32),
        f"{BOMB}outs:\n- md5: {'a' * 32}\n  path: *l9\n",
    ],
)
def test_a_broken_file_is_refused_and_hides_no_other_version(codeset: Codeset, text: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"rows\.csv\.dvc"):
        dvc_files.outputs("rows.csv.dvc", text.encode())
    value = codeset.stored(b"1,2\n")
    codeset.push({"rows.csv.dvc": text})
    codeset.push({"rows.csv.dvc": tracked(value)})
    assert versions(codeset.store()) == [value]


@pytest.mark.parametrize("text", ["", "[core]\n", "[core]\nremote = x\n", "[core\n", config("")])
def test_a_configuration_without_a_remote_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"\.dvc/config"):
        dvc_files.remote(text)


@pytest.mark.parametrize("text", ["password = canary\n", "[core]\ncanary\n", "[core\ncanary"])
def test_the_text_of_a_broken_configuration_is_in_no_message(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a configuration of DVC") as caught:
        dvc_files.remote(text)
    assert "canary" not in caught.value.message


def test_a_name_of_gto_leads_to_text_only() -> None:
    with pytest.raises(errors.InvalidError, match=r"dvc\.yaml: a value of 'path' is not text"):
        dvc_files.artifacts("dvc.yaml", f"{BOMB}artifacts:\n  rows:\n    path: *l9\n".encode())


@pytest.mark.parametrize("name", ["iris", "iris/", "iris/../x", "iris//x", "iris/./x"])
def test_a_name_without_codeset_or_path_is_refused(codeset: Codeset, name: str) -> None:
    with pytest.raises(errors.InvalidError, match="names no data of DVC"):
        codeset.store().versions("dataset", "demo", name)


# Tags


def test_tags_of_git_and_of_gto_lead_to_the_data_at_their_commits(codeset: Codeset) -> None:
    first, second, store = codeset.stored(b"1,2\n"), codeset.stored(b"3,4\n"), codeset.store()
    declared = "artifacts:\n  measurements:\n    path: rows.csv\n    type: dataset\n  other:\n    path: else.csv\n"
    codeset.push(
        {"rows.csv.dvc": tracked(first), "dvc.yaml": declared}, ("v1", "measurements@v1.0.0", "measurements#prod#1", "other@v9.0.0")
    )
    codeset.push({"rows.csv.dvc": tracked(second)}, ("v2", "measurements@v1.1.0", "measurements#prod#2", "measurements#dev#3"))
    codeset.push({"train.py": "1\n"}, ("measurements#dev!#4",))
    resolved = {
        tag: store.resolve("dataset", "demo", "iris/rows.csv", tag).version
        for tag in ("v1", "v1.0.0", "v1.1.0", "prod", "measurements@v1.0.0")
    }
    assert resolved == {"v1": first, "v1.0.0": first, "v1.1.0": second, "prod": second, "measurements@v1.0.0": first}
    for missing in ("dev", "v9.0.0", "v3", ""):
        with pytest.raises(errors.NotFoundError):
            store.resolve("dataset", "demo", "iris/rows.csv", missing)
    assert {"v1", "v1.0.0"} <= {*store.tags(address(first))}
    assert {"v2", "v1.1.0", "prod"} <= {*store.tags(address(second))}
    assert "prod" not in store.tags(address(first))
