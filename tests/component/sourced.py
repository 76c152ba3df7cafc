"""The function `sources` over a database and a git host, beside the functions by which people change the same things."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flask
import pytest
from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit
from dulwich.refs import Ref
from dulwich.repo import Repo

from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from functions.sources import app as sources_app
from functions.sources import deps as sources_deps
from functions.workflows import app as workflows_app
from functions.workflows import deps as workflows_deps
from fuseml.domain import errors, events
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock, cloudevents, secrets
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import codesets, database, decisions, extensions, paging, workflows
from fuseml.store.tables import codeset_rows
from tests import event_keys

MAIN = "refs/heads/main"
KEYRING = secrets.Keyring([secrets.new_key()])
TOKENS = auth.Tokens({auth.digest_of("the-token"): auth.Caller("ada", "admin")})
_ticks = itertools.count()

WORKFLOW = """\
name: {name}
inputs: [{{name: code, type: codeset}}]
steps:
  - name: fit
    image: {image}
    inputs: [{{codeset: {{name: code}}}}]
"""


def record(id: str, version: str = "1.0", url: str = "http://minio:9000", secret: str = "<hidden>") -> str:
    """A record file."""
    account = {"id": "account", "configuration": {"KEY": secret}}
    service = {"id": "s3", "resource": "s3", "endpoints": [{"url": url}], "credentials": [account]}
    return json.dumps({"id": id, "product": "minio", "version": version, "services": [service]}, indent=1)


def workflow(name: str, image: str = "shell:1") -> str:
    """A workflow file."""
    return WORKFLOW.format(name=name, image=image)


class Host(EmbeddedGitHost):
    """A git host that may be away. `meanwhile` happens once, after the files of a commit were listed.

    `listed` counts the commits whose files were read.
    """

    away = False
    listed = 0
    meanwhile: Callable[[], object] | None = None

    def paths(self, project: str, codeset: str, commit: str) -> list[str]:
        self.listed += 1
        found = super().paths(project, codeset, commit)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return found

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        if self.away:
            raise errors.TemporaryError("the git host is away")
        return super().heads(project, codeset)


class Sourced:
    """`deps` are those of `sources`. `published` are the events, in order. While `away` no broker accepts any. The codesets are `demo/config` and `demo/code`."""

    def __init__(self, store: database.Database, folder: Path, *, interval: float = 0) -> None:
        self.store, self.folder = store, folder
        self.published, self.away = list[events.Event](), False
        (folder / "git").mkdir(parents=True, exist_ok=True)
        self.git = Host(folder / "git", "http://127.0.0.1:1/git")
        self.deps = deps = sources_deps.Deps(
            store=store,
            publisher=self,
            signer=event_keys.SIGNER,
            git=self.git,
            keyring=KEYRING,
            tokens=TOKENS,
            conditions=Conditions(),
            interval=interval,
        )
        self.functions: dict[str, flask.Flask] = {
            "sources": sources_app.create_app(deps),
            "extensions": extensions_app.create_app(extensions_deps.Deps(store=store, publisher=self, keyring=KEYRING, tokens=TOKENS)),
            "workflows": workflows_app.create_app(
                workflows_deps.Deps(
                    store=store, publisher=self, git=self.git, tokens=TOKENS, public_url="http://fuseml", zone="", namespace="workloads"
                )
            ),
        }

    def furnish(self) -> None:
        """Register the codesets."""
        with self.store.write() as session:
            codesets.ensure_project(session, "demo", clock.now())
            for name in ("config", "code"):
                row = codeset_rows.Codeset(
                    project="demo", name=name, url=f"http://git/demo/{name}.git", webhook_secret="x", created=clock.now()
                )
                codesets.add_codeset(session, row)
        for name in ("config", "code"):
            self.git.create_repository("demo", name)

    def publish(self, event: events.Event) -> None:
        if self.away:
            raise errors.TemporaryError("the broker is away")
        self.published.append(event)

    def types(self) -> list[str]:
        """The short types of the published events."""
        return [event.type.removeprefix(events.PREFIX).removesuffix(".v1") for event in self.published]

    def call(self, method: str, target: str, body: object = None, *, status: int = 200) -> Any:
        """The document of an answer with this status."""
        headers = {"Authorization": "Bearer the-token"}
        answer = (
            self.functions[target.split("/")[1].partition("?")[0]].test_client().open(target, method=method, json=body, headers=headers)
        )
        assert answer.status_code == status, answer.text
        return json.loads(answer.text) if answer.text else None

    def add(self, name: str = "team", *, status: int = 201, **fields: object) -> Any:
        body = {"name": name, "codeset": "demo/config", "path": "fuseml", **fields}
        return self.call("POST", "/sources", {key: value for key, value in body.items() if value is not None}, status=status)

    def sync(self, name: str = "team", *, adopt: bool = False) -> Any:
        return self.call("POST", f"/sources/{name}/sync", {"adopt": adopt})

    def diff(self, name: str = "team", *, adopt: bool = False) -> Any:
        return self.call("GET", f"/sources/{name}/diff" + ("?adopt=true" if adopt else ""))

    def commit(self, files: Mapping[str, str | bytes], branch: str = "main") -> str:
        """Move the branch of `demo/config` to a commit of exactly these files, as a push does; the commit."""
        with Repo(str(self.folder / "git" / "demo" / "config.git")) as repository:
            blobs = []
            for path, content in files.items():
                blob = Blob.from_string(content if isinstance(content, bytes) else content.encode())
                repository.object_store.add_object(blob)
                blobs.append((os.fsencode(path), blob.id, 0o100644))
            made = Commit()
            made.tree = commit_tree(repository.object_store, blobs)
            made.author = made.committer = b"Ada <ada@example.com>"
            made.author_time = made.commit_time = 1_800_000_000
            made.author_timezone = made.commit_timezone = 0
            made.message = b"a change"
            ref = Ref(f"refs/heads/{branch}".encode())
            made.parents = [repository.refs[ref]] if ref in repository.refs else []
            repository.object_store.add_object(made)
            repository.refs[ref] = made.id
            return made.id.decode()

    def pushed(self, commit: str, ref: str = MAIN) -> events.Event:
        """The event of a push to `demo/config`."""
        payload = events.CodesetPushed(project="demo", codeset="config", ref=ref, commit=commit, push=commit[:8])
        return events.event(payload, clock.now())

    def deliver(self, event: events.Event, *, status: int | None = None) -> None:
        """One delivery of an event to `sources`, whose reply is published."""
        headers, body = event_keys.encode(event)
        answer = self.functions["sources"].test_client().post(catalog.EVENTS, headers=headers, data=body)
        assert answer.status_code in ((200, 204) if status is None else (status,)), answer.text
        if answer.status_code == 200:
            self.published.append(cloudevents.decode(dict(answer.headers), answer.data))

    def tick(self) -> None:
        """One sweep of `sources`."""
        self.deliver(events.Event(events.TICK, "/test", f"tick-{next(_ticks)}", None, clock.now(), {}))

    def state(self) -> dict[str, dict[str, Any]]:
        """Kind -> name -> content of everything except what the fixture made."""
        with self.store.read() as session:
            records = extensions.with_resource(session, "s3")
            names = [row.workflow for row in workflows.current(session, paging.Page(500)).rows]
            return {
                "project": {
                    row.name: row.description
                    for name in codesets.project_names(session)
                    if name != "demo" and (row := codesets.project(session, name))
                },
                "extension": {item.id: (item.version, item.services[0].endpoints[0].url) for item in records},
                "workflow": {name: workflows.revision(session, name).document["steps"][0]["image"] for name in names},
                "assignment": {f"{row.workflow} {row.pattern}": True for row in workflows.assignments(session)},
            }

    def reasons(self, event: events.Event) -> list[str]:
        """The decisions on an event."""
        with self.store.read() as session:
            return [row.reason for row in decisions.of_event(session, event.source, event.id)]


FILES = {
    "fuseml/projects/all.yaml": "name: alpha\ndescription: Ours.\n---\nname: beta\n",
    "fuseml/registry/minio.yaml": record("minio"),
    "fuseml/workflows/train.yaml": workflow("train"),
    "fuseml/assignments/train.yaml": "workflow: train\ncodeset: demo/code\n---\nworkflow: train\npattern: code://alpha/*\n",
    "README.md": "not read",
    "other/registry/no.yaml": "not: [read",
}
STATE = {
    "project": {"alpha": "Ours.", "beta": ""},
    "extension": {"minio": ("1.0", "http://minio:9000")},
    "workflow": {"train": "shell:1"},
    "assignment": {"train code://demo/code": True, "train code://alpha/*": True},
}
NOTHING: dict[str, dict[str, Any]] = {kind: {} for kind in STATE}


@pytest.fixture
def api(sqlite_store: database.Database, tmp_path: Path) -> Sourced:
    sourced = Sourced(sqlite_store, tmp_path)
    sourced.furnish()
    return sourced


@pytest.fixture
def team(api: Sourced) -> Sourced:
    """With a source of `FILES`, and no events so far."""
    api.commit(FILES)
    assert api.add()["state"] == "synced"
    api.published.clear()
    return api


def changed(**files: str | None) -> dict[str, str]:
    """`FILES` with other contents for `registry/minio.yaml` (`minio`) and so on; None removes a file."""
    paths = {Path(path).stem if "assignments" not in path else "assigned": path for path in FILES}
    merged = {**FILES, **{paths.get(name, f"fuseml/{name.replace('__', '/')}.yaml"): text for name, text in files.items()}}
    return {path: text for path, text in merged.items() if text is not None}


def effects(answer: Any) -> list[tuple[str, str, str]]:
    return [(change["effect"], change["kind"], change["name"]) for change in answer["changes"]]
