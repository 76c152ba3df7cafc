"""The housekeeper with artifact stores of the registry and codesets on a git host: ticks and pushes, and what they publish."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask

from functions.housekeeper import app as housekeeper
from functions.housekeeper import deps as housekeeper_deps
from fuseml.domain import events, times
from fuseml.domain.artifacts import search
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import catalog, clock, cloudevents, secrets
from fuseml.store import artifact_search, artifacts, codesets, database, lineage, paging, watermarks
from fuseml.store.tables import codeset_rows
from tests import commands, event_keys
from tests.component import extensions_app
from tests.component.githost import ENVIRONMENT, Clone
from tests.component.test_artifact_dvc import config, tracked

MAIN = "refs/heads/main"
_ticks = itertools.count()


class CountingHost(EmbeddedGitHost):
    """A git host that counts the questions about the files of codesets. `trouble` is raised in place of an answer."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root, url)
        self.asked: list[str] = []
        self.trouble: Exception | None = None

    def _count(self, project: str, codeset: str) -> None:
        self.asked.append(f"{project}/{codeset}")
        if self.trouble is not None:
            raise self.trouble

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        self._count(project, codeset)
        return super().changed_paths(project, codeset, before, after)

    def paths(self, project: str, codeset: str, commit: str) -> list[str]:
        self._count(project, codeset)
        return super().paths(project, codeset, commit)


class Following:
    """One housekeeper. Pushes are made by git in the folder of the repository; the sweep or `deliver` learns of them."""

    def __init__(self, folder: Path, store: database.Database, keyring: secrets.Keyring | None = None) -> None:
        self.folder, self.store = folder, store
        self.registry = extensions_app.Registry(folder, store)
        if keyring is not None:
            self.registry.keyring = keyring
        self.published = self.registry.published
        (folder / "git").mkdir(exist_ok=True)
        self.git = CountingHost(folder / "git", "http://127.0.0.1:1/git")
        self.remote = folder / "remote"
        engine = local.LocalEngine(
            root=folder / "runs",
            emit=self.published.publish,
            checkout=lambda *_: (),
            seal=lambda secret: secret,
            unseal=lambda sealed: sealed,
            environments=folder / "environments",
        )
        self.deps = housekeeper_deps.Deps(
            store=store,
            publisher=self.published,
            signer=event_keys.SIGNER,
            git=self.git,
            engine=engine,
            keyring=self.registry.keyring,
            health_interval=10_000,
        )
        self.app: flask.Flask = housekeeper.create_app(self.deps)

    def register(self, id: str, service: Mapping[str, Any]) -> None:
        """Register an artifact store as the service `store` of an extension."""
        document = {"id": id, "services": [{"id": "store", "category": "artifact-store", **service}]}
        answer = self.registry.client.post("/extensions", json=document)
        assert answer.status_code == 201, answer.text

    def register_dvc(self, id: str = "data", url: str = "", **fields: Any) -> None:
        endpoint = {"url": url or self.remote.as_uri()}
        self.register(id, {"resource": "dvc", "endpoints": [endpoint], **fields})

    def codeset(self, name: str = "iris", project: str = "demo") -> Clone:
        """Register a codeset; a clone of its repository, of which nothing is pushed."""
        self.git.create_repository(project, name)
        row = codeset_rows.Codeset(
            project=project, name=name, url=f"http://git/{project}/{name}.git", webhook_secret="x", created=clock.now()
        )
        with self.store.write() as session:
            codesets.ensure_project(session, project, clock.now())
            codesets.add_codeset(session, row)
        return Clone.fresh(str(self.folder / "git" / project / f"{name}.git"), self.folder / "clones" / project / name)

    def push(self, clone: Clone, files: Mapping[str, str], *more: Mapping[str, str]) -> str:
        """Push a commit for each set of files at once; the last commit."""
        commits = [clone.commit("a change", {".dvc/config": config(self.remote), **each}) for each in (files, *more)]
        clone.git("push", "--quiet", "--force", "origin", "main")
        return commits[-1]

    def push_old(self, clone: Clone, *more: Mapping[str, str]) -> None:
        """Push commits of an hour ago."""
        dated = {**ENVIRONMENT, "GIT_COMMITTER_DATE": f"{times.shift(clock.now(), -3600)[:19]} +0000"}
        for files in more:
            clone.commit("data", {".dvc/config": config(self.remote), **files})
            commands.run(["git", "commit", "--quiet", "--amend", "--no-edit"], dated, cwd=clone.folder)
        clone.git("push", "--quiet", "origin", "main")

    def tick(self) -> list[str]:
        """One sweep; the addresses whose recording it has published, in order."""
        before = len(self.published.events)
        self.post(events.Event(events.TICK, "/test", f"tick-{next(_ticks)}", None, clock.now(), {}))
        return self.announced(self.published.events[before:])

    @staticmethod
    def announced(published: list[events.Event]) -> list[str]:
        return sorted(event.data["address"] for event in published if event.type == events.ArtifactRecorded.TYPE)

    def event(self, commit: str, before: str | None = None, *, codeset: str = "iris", time: str = "", ref: str = MAIN) -> events.Event:
        pushed = events.CodesetPushed(project="demo", codeset=codeset, ref=ref, before=before, commit=commit, push=f"of {commit}")
        return events.event(pushed, time or clock.now())

    def deliver(self, event: events.Event, status: int = 0) -> list[str]:
        """The addresses whose recording an event has published."""
        before = len(self.published.events)
        answer = self.post(event, status)
        replied = [cloudevents.decode(dict(answer.headers), answer.data)] if answer.status_code == 200 else []
        return self.announced([*self.published.events[before:], *replied])

    def post(self, event: events.Event, status: int = 0) -> Any:
        headers, body = event_keys.encode(event)
        answer = self.app.test_client().post(catalog.EVENTS, headers=headers, data=body)
        assert answer.status_code == status or (not status and answer.status_code in (200, 204)), answer.text
        return answer

    def recorded(self) -> dict[str, artifacts.Artifact]:
        """Address -> record of every data set and model."""
        with self.store.read() as session:
            page = artifact_search.page(session, paging.Page(500), search.Search(), artifact_search.Origin())
            return {row.address: row for row in page.rows if row.kind != "code"}

    def sources(self, address: str) -> list[str]:
        with self.store.read() as session:
            return lineage.stated(session, address, "code")

    def positions(self) -> dict[str, str]:
        with self.store.read() as session:
            return watermarks.positions(session, "changes:")


def data(hash: str, path: str = "rows.csv") -> dict[str, str]:
    """The file of DVC that names the data at a path."""
    return {f"{path}.dvc": tracked(hash, path.rpartition("/")[2])}


def address(hash: str, path: str = "rows.csv", codeset: str = "iris") -> str:
    return f"dataset://demo/{codeset}/{path}/{hash}"
