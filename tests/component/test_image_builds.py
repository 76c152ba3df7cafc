"""Runnables that are built, from their registration to the recorded image: on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from fuseml.domain import errors, events, plans
from fuseml.domain.registry import extension
from fuseml.domain.runnables import descriptor
from fuseml.runtime import auth, catalog, secrets
from fuseml.store import codesets, database, extensions, runnables
from fuseml.store.tables import codeset_rows
from fuseml.usecases import runnables as registry
from tests import event_keys, oci_registries
from tests.component.requesting import FIRST, NOON, SECOND, System, refused

HALVE: dict[str, Any] = {
    "name": "halve",
    "version": "1.0.0",
    "build": {"codeset": "code", "dockerfile": "docker/Dockerfile"},
    "command": ["halve"],
    "outputs": [{"name": "rows"}],
}
WORKFLOW = """
name: halving
steps:
  - name: halve
    runnable: halve
"""


class Builds(System):
    """The registry of images at `url` is registered, unless it is empty; `report` ends the build of a run."""

    def __init__(self, store: database.Database, folder: pathlib.Path, url: str) -> None:
        super().__init__(store, folder)
        self.url = url
        keyring = secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({}, anonymous=True)
        deps = artifacts_deps.Deps(store=store, publisher=self, signer=event_keys.SIGNER, tokens=tokens, keyring=keyring)
        self.artifacts = artifacts_app.create_app(deps).test_client()
        if url:
            self.add_registry("harbor", url)
        assert self.workflows.post("/workflows", data=WORKFLOW).status_code == 201

    def add_registry(self, id: str, url: str) -> None:
        service = extension.Service(id="images", resource="oci-registry", endpoints=(extension.Endpoint(url=url, type="internal"),))
        with self.store.write() as session:
            extensions.add(session, extension.Extension(id=id, services=(service,)), NOON)

    def register(self, **fields: object) -> descriptor.Runnable:
        with self.store.write() as session:
            row, _ = registry.register(session, "p", descriptor.load(yaml.safe_dump({**HALVE, **fields})), by="ada")
            return descriptor.Runnable.model_validate(row.document)

    def move(self, commit: str) -> None:
        with self.store.write() as session:
            codesets.record_commit(session, codesets.codeset(session, "p", "code"), "refs/heads/main", commit, NOON)

    def plan(self, status: int = 200) -> Any:
        answer = self.workflows.post("/workflows/halving/plan", json={"project": "p"})
        assert answer.status_code == status, answer.text
        return plans.Plan.model_validate(answer.json) if status == 200 else answer.json

    def report(self, run: str, digest: str, *, status: int = 200) -> None:
        """Deliver the end of the build."""
        outputs = {"image": f"{self.url.removeprefix('http://')}/p/halve@{digest}", "artifact": f"image://p/halve/{digest}"}
        payload = events.RunStepFinished(run=run, workflow="halving", project="p", step="build-halve", state="succeeded", outputs=outputs)
        headers, body = event_keys.encode(dataclasses.replace(events.event(payload, NOON), id=f"{run} {digest}"))
        answer = self.artifacts.post(catalog.EVENTS, headers=headers, data=body)
        assert answer.status_code == status, answer.text


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oci_registries.server(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def system(store: database.Database, tmp_path: pathlib.Path, url: str) -> Builds:
    return Builds(store, tmp_path, url)


@pytest.fixture
def plain(sqlite_store: database.Database, tmp_path: pathlib.Path) -> Builds:
    return Builds(sqlite_store, tmp_path, "")


def text(value: plans.Value) -> str:
    return "".join(getattr(part, "text", "<output>") for part in value)


def test_a_version_fixes_the_commit_that_is_built(system: Builds) -> None:
    assert (registered := system.register()).build
    assert registered.build.commit == FIRST
    system.move(SECOND)
    assert system.register() == registered
    newer = system.register(version="1.1.0").build
    assert newer and newer.commit == SECOND
    with pytest.raises(errors.ConflictError, match="registered with other content"):
        system.register(build={"codeset": "code", "commit": SECOND})
    system.register(version="1.2.0", build={"codeset": "p/code", "commit": FIRST})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        ({"codeset": "none"}, errors.NotFoundError, "none"),
        ({"codeset": "other/code"}, errors.ForbiddenError, "of a codeset of its own project only"),
        ({"codeset": "hidden/none"}, errors.ForbiddenError, "of a codeset of its own project only"),
        ({"codeset": "empty"}, errors.ConflictError, "nothing was pushed to the main branch of p/empty yet"),
    ],
)
def test_a_codeset_that_cannot_be_built_is_refused_at_the_registration(
    plain: Builds, build: dict[str, str], error: type[errors.FusemlError], message: str
) -> None:
    with plain.store.write() as session:
        row = codeset_rows.Codeset(project="p", name="empty", url="http://git/p/empty.git", webhook_secret="x", created=NOON)
        codesets.add_codeset(session, row)
    with pytest.raises(error, match=message):
        plain.register(build=build)
    with plain.store.read() as session:
        assert runnables.versions(session, "p", "halve") == []


def test_a_run_builds_the_image_and_later_runs_have_it_by_its_digest(system: Builds) -> None:
    system.register()
    first = system.request("/runs", {"workflow": "halving", "project": "p"})
    plan = system.plan_of(first)
    assert [step.name for step in plan.steps] == ["build-halve", "halve"]
    assert text(plan.step("halve").image) == "<output>"
    assert [(item.step, item.binding.extension_id) for item in plan.bindings] == [("build-halve", "harbor")]
    assert [step["name"] for step in first["steps"]] == ["build-halve", "halve"]
    digest = oci_registries.push(system.url, "p/halve", "build-x", [b"layer"])
    system.report(first["name"], digest)
    [image] = system.artifacts.get("/artifacts?kind=image").json  # type: ignore[misc]
    assert (image["address"], image["run"], image["step"]) == (f"image://p/halve/{digest}", first["name"], "build-halve")
    assert image["metadata"]["source"] == f"code://p/code/{FIRST}#docker/Dockerfile"
    [edge] = system.artifacts.get(f"/lineage?address={image['address']}").json  # type: ignore[misc]
    assert (edge["source"], edge["target"]) == (f"code://p/code/{FIRST}", image["address"])
    # Pushes do not matter: the version names its commit.
    system.move(SECOND)
    second = system.plan()
    assert [(step.name, text(step.image)) for step in second.steps] == [("halve", f"{system.url.removeprefix('http://')}/p/halve@{digest}")]
    # Another Dockerfile is another image, and so is another commit.
    system.register(version="1.1.0", build={"codeset": "code", "commit": FIRST})
    assert [step.name for step in system.plan().steps] == ["build-halve", "halve"]


def test_an_image_in_another_registry_or_a_deleted_one_is_built_again(system: Builds) -> None:
    system.register()
    run = system.request("/runs", {"workflow": "halving", "project": "p"})
    digest = oci_registries.push(system.url, "p/halve", "build-y", [b"other layer"])
    system.report(run["name"], digest)
    assert len(system.plan().steps) == 1
    with system.store.write() as session:
        extensions.remove(session, "harbor")
    system.add_registry("quay", "http://quay.example.com")
    assert len(system.plan().steps) == 2
    with system.store.write() as session:
        extensions.remove(session, "quay")
    system.add_registry("harbor", system.url)
    assert len(system.plan().steps) == 1
    deleted = system.artifacts.delete(f"/artifacts/image/p/halve/{digest.replace(':', '%253A')}")
    assert deleted.status_code == 204, deleted.text
    assert len(system.plan().steps) == 2


def test_an_image_that_the_registry_does_not_have_is_not_recorded(system: Builds) -> None:
    system.register()
    run = system.request("/runs", {"workflow": "halving", "project": "p"})
    system.report(run["name"], f"sha256:{'0' * 64}", status=204)
    assert system.artifacts.get("/artifacts?kind=image").json == []
    assert len(system.plan().steps) == 2


def test_a_project_without_a_registry_is_refused_with_the_way_out(plain: Builds) -> None:
    plain.register()
    message = plain.plan(422)["message"]
    assert message == (
        "step 'halve': runnable://p/halve/1.0.0 is built: the project 'p' finds no registry of images; register one (resource 'oci-registry')"
    )
    lint = plain.workflows.post("/workflows?dry_run=true&project=p", data=WORKFLOW).json["findings"]  # type: ignore[index]
    assert [(item["level"], item["path"], item["line"], item["message"]) for item in lint] == [("warning", "steps[0].runnable", 5, message)]
    answer = plain.runs.post("/runs", json={"workflow": "halving", "project": "p"})
    assert "finds no registry of images" in refused(answer, 422)


def test_a_version_of_a_former_release_without_a_commit_asks_for_another(plain: Builds) -> None:
    plain.register()
    with plain.store.write() as session:
        row = runnables.get(session, "runnable://p/halve/1.0.0")
        row.document = {**row.document, "build": {"codeset": "p/code"}}
        session.add(row)
    assert "halve 1.0.0 does not fix the commit of p/code: register another version of it" in plain.plan(400)["message"]
