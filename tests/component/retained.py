"""`artifacts` and the sweep of `housekeeper` over one database and one artifact store, for tests of retention."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlmodel

from functions.housekeeper import deps as housekeeper_deps
from functions.housekeeper import retention
from fuseml import artifactstores
from fuseml.artifactstores import bucket
from fuseml.domain import events
from fuseml.domain.artifact import Address
from fuseml.domain.registry import extension
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import clock
from fuseml.store import artifacts, database, extensions
from fuseml.store.tables import retention_rows
from tests import event_keys
from tests.component import endpoint, triggering
from tests.component.registered import KEYRING, NOON, Registered
from tests.contract.artifact_stores import Files, sources

TICK = events.Event(events.TICK, "/test", "tick", None, endpoint.NOON, {})
STORE = "own/store"
SWEEP = (retention.prune_artifacts, retention.delete_contents, retention.delete_anonymous, retention.discard_leftovers)


def add_store(store: database.Database, connection: artifactstores.Connection, id: str = "own") -> None:
    """Register the store `ID/store`; variables that hold a secret are sealed."""
    secret = {key: value for key, value in connection.environment.items() if key.startswith("AWS_")}
    service: dict[str, Any] = {
        "id": "store",
        "resource": connection.resource,
        "category": "artifact-store",
        "configuration": {key: value for key, value in connection.environment.items() if key not in secret},
        "endpoints": [{"url": connection.url, "type": "internal"}],
    }
    if secret:
        service["credentials"] = [{"id": "account", "scope": "global", "configuration": secret}]
    document = extension.Extension.model_validate({"id": id, "product": id, "services": [service]})
    with store.write() as session:
        extensions.add(session, extension.map_secrets(document, KEYRING.seal), NOON)


class Retained:
    """The functions, and the store as its own client. The sweep waits for nothing, unless `options` say so."""

    def __init__(self, store: database.Database, connection: artifactstores.Connection, folder: Path, *, new: bool = True) -> None:
        self.store, self.folder = store, folder
        self.api = Registered(store, new=new)
        if new:
            add_store(store, connection)
        self.contents = artifactstores.connect(connection)
        assert isinstance(self.contents, bucket.BucketStore)
        self.own: bucket.BucketStore = self.contents

    def deps(self, **options: Any) -> housekeeper_deps.Deps:
        given = {"retention_interval": 0, "contents_grace": 0, "leftovers_interval": 0} | options
        return housekeeper_deps.Deps(
            store=self.store,
            publisher=self.api,
            signer=event_keys.SIGNER,
            git=EmbeddedGitHost(self.folder / "git", "http://git"),
            engine=triggering.Engine(),
            keyring=KEYRING,
            **given,
        )

    def sweep(self, **options: Any) -> None:
        """The repairs of retention, once each. Errors are passed on."""
        for repair in SWEEP:
            repair(self.deps(**options), TICK)

    def write(self, name: str, files: Files, kind: str = "dataset") -> Address:
        """Store a version, without a record."""
        place = self.contents.place(kind, "demo", name)
        return self.contents.commit(place, self.contents.write(place, sources(files)))

    def register(self, address: Address, days: float = 0, status: int = 201) -> Any:
        """Record a stored version, as `fuseml artifact push` does."""
        where = self.contents.locate(address).uri if status == 201 else "file:///gone"
        answer = self.api.register(str(address), status=status, digest=address.version, location=where, metadata={"store": STORE})
        if status == 201:
            with self.store.write() as session:
                artifacts.get(session, str(address)).created = clock.ago(days * 86400)
        return answer

    def push(self, name: str, files: Files, days: float = 0) -> Address:
        """Store and record a version, so many days ago."""
        address = self.write(name, files)
        self.register(address, days)
        return address

    def policy(self, kind: str = "dataset", **numbers: int) -> None:
        self.api.call("PUT", f"/artifacts/retention/demo/{kind}", numbers)

    def versions(self, name: str, kind: str = "dataset") -> list[Address]:
        return [version.address for version in self.contents.versions(kind, "demo", name).versions]

    def read(self, address: Address) -> dict[str, bytes]:
        opened = self.contents.open(address)
        return {file.path: b"".join(opened.read(file)) for file in opened.files}

    def removal(self, address: Address) -> retention_rows.ArtifactRemoval | None:
        with self.store.read() as session:
            return session.get(retention_rows.ArtifactRemoval, str(address))

    def expire_leases(self) -> None:
        """Let the deletions that another process has begun be due."""
        with self.store.write() as session:
            table = retention_rows.ArtifactRemoval
            for row in session.exec(sqlmodel.select(table).where(sqlmodel.col(table.gone).is_(None))):
                row.due = ""


def age(root: Path) -> None:
    """Let everything below a folder be written long ago."""
    for path in root.rglob("*"):
        os.utime(path, (0, 0))


def files(root: Path, part: str = "files") -> list[str]:
    return sorted(path.name for path in root.rglob(f"{part}/*"))
