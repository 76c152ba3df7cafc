"""The artifact stores under test: those of FuseML, and that of the example of a plugin."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml import artifactstores
from fuseml import plugins as seams
from fuseml.artifactstores import Connection, Source, dvc_files, dvc_remote, git
from fuseml.artifactstores import dvc as dvc_store
from fuseml.contents import object_store, s3
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.steps import model_digest
from tests import (
    agents,
    commands,
    lakefs_server,
    mlflow_servers,
    mlrun_server,
    object_servers,
    oci_registries,
    pachyderm_server,
    plugins,
    s3_servers,
)
from tests.component import githost
from tests.contract import githosts

PROJECT = "demo"
SECRET = "canary-41c09be2"
"""A part of the secrets in the connection of a store, where it has some."""

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class UnderTest:
    """A store, and the tool's own ways around it.

    `publish` makes a version of a name from files as the users of the tool do; `damage` flips a bit in the stored contents of a version.
    """

    store: artifactstores.ArtifactStore
    kind: str
    publish: Callable[[str, Files], Address]
    damage: Callable[[Address], None] | None = None
    unwritten: str = "sha256:" + "0" * 64
    """A digest of contents that the store does not have."""
    tag: Callable[[Address, str], None] | None = None
    """The tool's own way to tag a version, where the store has none."""
    below: str = ""
    """The end of names, where the store's consist of several parts."""
    moment: float = 0.001
    """The seconds that the store's times differ by at least."""


def sources(files: Files) -> list[Source]:
    """Files in memory, in blocks of an odd length."""

    def blocks(data: bytes) -> Iterator[bytes]:
        return (data[start : start + 9999] for start in range(0, len(data), 9999))

    return [Source(path, functools.partial(blocks, data)) for path, data in files.items()]


def written(store: artifactstores.ArtifactStore, kind: str) -> Callable[[str, Files], Address]:
    """Publication by the store's own operations."""

    def publish(name: str, files: Files) -> Address:
        place = store.place(kind, PROJECT, name)
        return store.commit(place, store.write(place, sources(files)))

    return publish


@contextlib.contextmanager
def folder(at: Path) -> Iterator[UnderTest]:
    """A folder of this machine."""
    store = artifactstores.connect(Connection("folder", (at / "an artifact store").as_uri(), {"TOKEN": SECRET}))

    def damage(address: Address) -> None:
        for path in at.rglob(f"{address.name}/files/*"):
            flip(path)

    yield UnderTest(store, "dataset", written(store, "dataset"), damage)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def bucket_store(name: str, account: s3.Account) -> artifactstores.ArtifactStore:
    """The store of a bucket, as a binding of its record configures it."""
    variables = {
        "AWS_ACCESS_KEY_ID": account.access_key,
        "AWS_SECRET_ACCESS_KEY": account.secret_key,
        "AWS_REGION": account.region,
        "FUSEML_ARTIFACTS_BUCKET": f"{name}/deep/prefix",
        "TOKEN": SECRET,
    }
    return artifactstores.connect(Connection("s3", account.endpoint, variables))


def _bucket(name: str, account: s3.Account, client: Any) -> UnderTest:
    store = bucket_store(name, account)

    def damage(address: Address) -> None:
        for item in client.list_objects_v2(Bucket=name).get("Contents", []):
            if f"{address.name}/files/" in item["Key"]:
                data = bytearray(client.get_object(Bucket=name, Key=item["Key"])["Body"].read())
                data[len(data) // 2] ^= 1
                client.put_object(Bucket=name, Key=item["Key"], Body=bytes(data))

    return UnderTest(store, "dataset", written(store, "dataset"), damage)


def client_of(account: s3.Account) -> Any:
    """boto3's client, for what the product does not do."""
    import boto3.session

    keys = {"aws_access_key_id": account.access_key, "aws_secret_access_key": account.secret_key}
    return boto3.session.Session().client("s3", endpoint_url=account.endpoint, region_name=account.region, **keys)


@contextlib.contextmanager
def bucket(at: Path) -> Iterator[UnderTest]:
    """A bucket of moto's server."""
    with s3_servers.server(at) as server, contextlib.closing(client_of(server.account)) as client:
        yield _bucket(s3_servers.BUCKET, server.account, client)


@contextlib.contextmanager
def named_bucket(at: Path) -> Iterator[UnderTest]:
    """A bucket of the server at FUSEML_S3. Skips the test without one."""
    with s3_servers.bucket() as (name, account), contextlib.closing(client_of(account)) as client:
        yield _bucket(name, account, client)


@contextlib.contextmanager
def gcs(at: Path) -> Iterator[UnderTest]:
    """A bucket of fake-gcs-server, which FUSEML_GCS names. Skips the test without it."""
    with object_servers.google(at) as server:
        store = artifactstores.connect(
            Connection("gcs", f"gs://{object_servers.BUCKET}/deep/prefix", {"TOKEN": SECRET, **server.variables})
        )
        yield UnderTest(store, "dataset", written(store, "dataset"), _damage_object(server.objects))


@contextlib.contextmanager
def azure(at: Path) -> Iterator[UnderTest]:
    """A container of Azurite, which FUSEML_AZURITE names. Skips the test without it."""
    with object_servers.azurite(at) as server:
        variables = {"TOKEN": SECRET, **server.variables}
        store = artifactstores.connect(Connection("azure-blob", f"azure://{object_servers.BUCKET}/deep/prefix", variables))
        yield UnderTest(store, "dataset", written(store, "dataset"), _damage_object(server.objects))


def _damage_object(objects: object_store.Objects) -> Callable[[Address], None]:
    def damage(address: Address) -> None:
        for item in objects.list("", "", 1000):
            if f"{address.name}/files/" in item.path:
                data = bytearray(objects.read(item.path, 0, item.size))
                data[len(data) // 2] ^= 1
                objects.write(item.path, bytes(data), new=False)

    return damage


@contextlib.contextmanager
def mlflow(at: Path) -> Iterator[UnderTest]:
    """A real MLflow server. Models are logged by its REST API, as its client does it."""
    with mlflow_servers.server(at) as url:
        store = artifactstores.connect(Connection("mlflow-tracking", url, {"TOKEN": SECRET}, PROJECT))

        def publish(name: str, files: Files) -> Address:
            files = {**files, "MLmodel": b"flavors: {python_function: {loader_module: x}}\n"}
            address = store.commit(store.place("model", PROJECT, name), f"models:/{mlflow_servers.log(url, files)}")
            digests = {path: hashlib.sha256(data).digest() for path, data in files.items()}
            # As FuseML's steps do.
            store.label(address, "fuseml.digest", model_digest.of_digests(digests))
            return address

        def damage(_: Address) -> None:
            for path in (at / "artifacts").rglob("data.csv"):
                flip(path)

        yield UnderTest(store, "model", publish, damage, unwritten="models:/m-" + "0" * 32)


def _of_git(at: Path, host: githosts.UnderTest, store: artifactstores.ArtifactStore) -> UnderTest:
    def publish(name: str, files: Files) -> Address:
        folder = at / name
        if not folder.exists():
            githost.Clone.fresh(host.register(name), folder)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        clone = githost.Clone(folder)
        commit = clone.commit("a version")
        clone.git("push", "--quiet", "origin", "main")
        return store.commit(store.place("code", PROJECT, name), f"sha1:{commit}")

    return UnderTest(store, "code", publish, unwritten="0" * 40, tag=lambda address, tag: _git_tag(at, address, tag))


def _git_tag(at: Path, address: Address, tag: str) -> None:
    clone = githost.Clone(at / address.name)
    clone.git("tag", tag, address.version)
    clone.git("push", "--quiet", "origin", tag)


@contextlib.contextmanager
def embedded_git(at: Path) -> Iterator[UnderTest]:
    """The git host of the embedded server."""
    with githosts.embedded_host(at) as host:
        yield _of_git(at, host, git.GitStore(host.host))


@contextlib.contextmanager
def fake_gitea(at: Path) -> Iterator[UnderTest]:
    """The fake Gitea."""
    with githosts.fake_gitea(at) as host:
        yield _of_git(at, host, git.GitStore(host.host, resource="gitea", has_pages=True))


@contextlib.contextmanager
def real_gitea(at: Path) -> Iterator[UnderTest]:
    """The real Gitea of the program FUSEML_GITEA. Skips the test without it."""
    with githosts.real_gitea(at) as host:
        yield _of_git(at, host, git.GitStore(host.host, resource="gitea", has_pages=True))


@contextlib.contextmanager
def dvc(at: Path) -> Iterator[UnderTest]:
    """Data of the real DVC, which FUSEML_DVC names or the path has, on the embedded git host. Skips the test without it."""
    program = os.environ.get("FUSEML_DVC") or shutil.which("dvc")
    if program is None:
        pytest.skip("needs DVC: FUSEML_DVC, the path of its program")
    remote = at / "remote"
    with githosts.embedded_host(at) as host:
        store = dvc_store.DvcStore(host.host, dvc_remote.Remote(remote.as_uri(), {}), {"TOKEN": SECRET})

        def run(clone: githost.Clone, *arguments: str) -> None:
            environment = {**githost.ENVIRONMENT, "HOME": str(at), "DVC_NO_ANALYTICS": "1"}
            commands.run([program, *arguments], environment, cwd=clone.folder)

        def publish(name: str, files: Files) -> Address:
            codeset, _, path = name.partition("/")
            if not (at / codeset).exists():
                fresh = githost.Clone.fresh(host.register(codeset), at / codeset)
                run(fresh, "init", "--quiet")
                run(fresh, "remote", "add", "--quiet", "--default", "store", str(remote))
            clone = githost.Clone(at / codeset)
            shutil.rmtree(clone.folder / path, ignore_errors=True)
            for file, data in files.items():
                (clone.folder / path / file).parent.mkdir(parents=True, exist_ok=True)
                (clone.folder / path / file).write_bytes(data)
            run(clone, "add", "--quiet", path)
            run(clone, "push", "--quiet")
            clone.commit("a version")
            clone.git("push", "--quiet", "origin", "main")
            [output] = dvc_files.outputs(f"{path}.dvc", (clone.folder / f"{path}.dvc").read_bytes())
            return Address("dataset", PROJECT, name, output.hash)

        def damage(address: Address) -> None:
            for file in store.open(address).files:
                hash = file.digest.removeprefix("md5:")
                flip(remote / "files" / "md5" / hash[:2] / hash[2:])

        def tag(address: Address, tag: str) -> None:
            clone = githost.Clone(at / address.name.partition("/")[0])
            clone.git("tag", tag, store.describe(address).about.metadata["commit"])
            clone.git("push", "--quiet", "origin", tag)

        yield UnderTest(store, "dataset", publish, damage, tag=tag, below="/data")


@contextlib.contextmanager
def oci(at: Path) -> Iterator[UnderTest]:
    """The real registry of the distribution project, Debian's docker-registry. Skips the test without it."""
    with oci_registries.server(at) as url:
        variables = {"FUSEML_IMAGE_PREFIX": "team", "REGISTRY_USERNAME": "ada", "REGISTRY_PASSWORD": SECRET}
        store = artifactstores.connect(Connection("oci-registry", url, variables))
        numbers = itertools.count()

        def publish(name: str, files: Files) -> Address:
            digest = oci_registries.push(url, f"team/{PROJECT}/{name}", f"build-{next(numbers)}", [*files.values()])
            return store.commit(store.place("runnable", PROJECT, name), digest)

        yield UnderTest(store, "runnable", publish)


def lakefs_variables() -> dict[str, str]:
    """The variables of a record of the contract server of lakeFS."""
    key, secret = lakefs_server.ACCOUNT
    return {"FUSEML_LAKEFS_REPOSITORY": f"{lakefs_server.REPOSITORY}/team", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}


@contextlib.contextmanager
def lakefs(at: Path) -> Iterator[UnderTest]:
    """The contract server of lakeFS."""
    with lakefs_server.running() as server:
        store = artifactstores.connect(Connection("lakefs", server.url, lakefs_variables(), PROJECT))

        def damage(address: Address) -> None:
            tree = server.commits[address.version].tree
            for path, data in tree.items():
                if f"/{address.name}/" in path:
                    flipped = bytearray(data)
                    flipped[len(data) // 2] ^= 1
                    tree[path] = bytes(flipped)

        yield UnderTest(store, "dataset", written(store, "dataset"), damage)


@contextlib.contextmanager
def mlrun(at: Path) -> Iterator[UnderTest]:
    """The contract server of MLRun, to which MLRun's client has logged."""
    with mlrun_server.running() as server:
        store = artifactstores.connect(Connection("mlrun", server.url, {"V3IO_ACCESS_KEY": mlrun_server.ACCOUNT}, PROJECT))

        def publish(name: str, files: Files) -> Address:
            return store.commit(store.place("dataset", PROJECT, name), server.log(PROJECT, name, "dataset", files))

        yield UnderTest(store, "dataset", publish, unwritten="0" * 40)


@contextlib.contextmanager
def pachyderm(at: Path) -> Iterator[UnderTest]:
    """The contract server of Pachyderm, whose own client has put files."""
    with pachyderm_server.running() as server:
        store = artifactstores.connect(Connection("pachyderm", server.url, {"PACHYDERM_AUTH_TOKEN": pachyderm_server.ACCOUNT}, PROJECT))

        def publish(name: str, files: Files) -> Address:
            return store.commit(store.place("dataset", PROJECT, name), server.put(PROJECT, name, files))

        yield UnderTest(store, "dataset", publish, unwritten="0" * 32)


@contextlib.contextmanager
def agent(at: Path) -> Iterator[UnderTest]:
    """The shipped store agent, as gunicorn serves it."""
    with agents.store(at) as running:
        store = artifactstores.connect(Connection("fuseml-artifact-store", running.url, {"FUSEML_AGENT_TOKEN": running.token}))

        def damage(address: Address) -> None:
            for path in running.folder.rglob(f"{address.name}/files/*"):
                flip(path)

        yield UnderTest(store, "dataset", written(store, "dataset"), damage)


@contextlib.contextmanager
def plugin(at: Path) -> Iterator[UnderTest]:
    """The store of the shipped example of a plugin, in a SQLite database."""
    with plugins.on_path(plugins.install_example(at / "package")):
        seam: seams.Seam[artifactstores.Connector] = seams.Seam(
            artifactstores.PLUGINS.group, artifactstores.PLUGINS.contract, (), refusal=errors.PermanentError, own=errors.FusemlError
        )
        connect = seam.get("sqlite")
        assert connect is not None
        folder = at / "an artifact store"
        folder.mkdir()
        store = connect(Connection("sqlite", folder.as_uri(), {"TOKEN": SECRET}))

        def damage(address: Address) -> None:
            with contextlib.closing(sqlite3.connect(folder / "artifacts.db")) as database, database:
                query = "SELECT blocks.rowid, data FROM blocks JOIN contents USING (upload) WHERE key LIKE ?"
                for row, data in database.execute(query, (f"%/{address.name}/files/%",)).fetchall():
                    database.execute("UPDATE blocks SET data = ? WHERE rowid = ?", (bytes([data[0] ^ 1]) + data[1:], row))

        yield UnderTest(store, "dataset", written(store, "dataset"), damage)


STORES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {
    "folder": folder,
    "bucket": bucket,
    "named bucket": named_bucket,
    "gcs": gcs,
    "azure": azure,
    "mlflow": mlflow,
    "embedded git": embedded_git,
    "gitea": fake_gitea,
    "real gitea": real_gitea,
    "dvc": dvc,
    "oci": oci,
    "lakefs": lakefs,
    "mlrun": mlrun,
    "pachyderm": pachyderm,
    "agent": agent,
    "plugin": plugin,
}
