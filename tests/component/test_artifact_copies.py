"""Copies of artifacts in other stores: which store takes one, what is recorded of it, and when it goes; on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from fuseml.domain import errors, events, plans
from fuseml.domain.artifact import Address
from fuseml.domain.plans import conversions
from fuseml.domain.registry import artifact_stores
from fuseml.domain.registry.selector import Context, Selector
from fuseml.runtime import catalog, clock
from fuseml.store import artifact_copies, artifacts, database, runs
from fuseml.usecases import stores
from tests import event_keys
from tests.component import retained
from tests.component.registered import NOON, STEP, Registered, path
from tests.component.retained import Retained, age
from tests.component.test_step_artifacts import add, add_bucket
from tests.contract.artifact_stores import sources

DIGEST = "sha256:" + "0" * 64
SOURCE = Address("dataset", "demo", "raw/letters", "7")


# The store for a copy


def chosen(
    store: database.Database,
    holder: Selector,
    wanted: Selector,
    kind: str = "dataset",
    facts: artifact_stores.FactsOf = artifactstores.facts,
) -> str:
    with store.read() as session:
        found = stores.ProjectStores(session, Context(project="demo"), "", facts)
        binding = found.copied_to(kind, found.holder(row(holder), opens=False), wanted)
        return f"{binding.extension_id}/{binding.service_id}" if binding else "where it is"


def row(holder: Selector) -> Any:
    return artifacts.Artifact(
        address=str(SOURCE),
        kind=SOURCE.kind,
        project="demo",
        name=SOURCE.name,
        version="7",
        details={"store": f"{holder.extension_id}/{holder.service_id or 'store'}"},
        created=NOON,
    )


@pytest.fixture
def registry(store: database.Database, tmp_path: Path) -> database.Database:
    Registered(store)
    add(store, "disk", "folder", (tmp_path / "disk").as_uri())
    add_bucket(store, "minio")
    add_bucket(store, "other")
    add(store, "dvc", "dvc", "s3://data/dvc", configuration={"FUSEML_GIT_URL": "file:///git"})
    add(store, "mlflow", "mlflow-tracking", "http://mlflow")
    return store


@pytest.mark.parametrize(
    ("holder", "wanted", "expected"),
    [
        ("dvc", Selector(service_resource="s3"), "minio/store"),
        ("disk", Selector(extension_id="other"), "other/store"),
        # Also where another store is the best match.
        ("other", Selector(service_resource="s3"), "where it is"),
        ("other", Selector(service_category="artifact-store"), "where it is"),
        ("other", Selector(extension_id="minio", service_id="store"), "minio/store"),
        ("minio", Selector(product="disk"), "disk/store"),
    ],
)
def test_a_copy_goes_to_the_best_store_of_the_selector_unless_the_artifact_is_in_one(
    registry: database.Database, holder: str, wanted: Selector, expected: str
) -> None:
    assert chosen(registry, Selector(extension_id=holder), wanted) == expected


@pytest.mark.parametrize(
    ("holder", "wanted", "kind", "message"),
    [
        ("dvc", {"service_resource": "gs"}, "dataset", r"stores \{service_resource: gs\}, the artifact is in dvc/store \(dvc\), and the project 'demo' has no such store for a copy of a dataset"),
        ("minio", {"extension_id": "mlflow"}, "model", "no such store for a copy of a model; register one that has the operations commit and write"),
        ("minio", {"product": "dvc"}, "dataset", "no such store for a copy of a dataset"),
    ],
)  # fmt: skip
def test_without_a_store_for_the_copy_the_refusal_names_what_is_missing(
    registry: database.Database, holder: str, wanted: dict[str, str], kind: str, message: str
) -> None:
    with pytest.raises(errors.InvalidError, match=message):
        chosen(registry, Selector(extension_id=holder), Selector.model_validate(wanted), kind)


def test_a_store_of_another_project_is_none_for_a_copy(sqlite_store: database.Database, tmp_path: Path) -> None:
    Registered(sqlite_store)
    add(sqlite_store, "disk", "folder", (tmp_path / "disk").as_uri())
    account = [{"id": "of-other", "scope": "project", "projects": ["other"], "configuration": {"AWS_ACCESS_KEY_ID": "a"}}]
    add_bucket(sqlite_store, credentials=account)
    with pytest.raises(errors.InvalidError, match=r"the store minio/store for the copy cannot be used: .*project"):
        chosen(sqlite_store, Selector(extension_id="disk"), Selector(service_resource="s3"))


def test_a_store_that_hands_out_no_contents_has_nothing_to_copy(registry: database.Database) -> None:
    def facts(binding: Any) -> artifact_stores.Facts:
        found = artifactstores.facts(binding)
        return dataclasses.replace(found, capabilities=found.capabilities - {"open"}) if binding.extension_id == "disk" else found

    with pytest.raises(errors.InvalidError, match=r"is in disk/store \(folder\), which hands out no contents to copy"):
        chosen(registry, Selector(extension_id="disk"), Selector(service_resource="s3"), facts=facts)


# Mirrors


def test_a_mirror_is_set_for_a_kind_of_a_project(store: database.Database) -> None:
    api = Registered(store)
    assert api.call("GET", "/artifacts/mirrors") == []
    body = {"store": {"service_resource": "s3"}}
    made = api.call("PUT", "/artifacts/mirrors/demo/dataset", body)
    assert (made["project"], made["kind"], made["store"], made["by"]) == ("demo", "dataset", {"service_resource": "s3"}, "ada")
    assert api.call("PUT", "/artifacts/mirrors/demo/dataset", body) == made
    assert api.call("GET", "/artifacts/mirrors?project=demo") == [made] == [api.call("GET", "/artifacts/mirrors/demo/dataset")]
    assert api.call("GET", "/artifacts/mirrors?project=other") == []
    with store.read() as session:
        for project, kind, expected in (("demo", "dataset", "s3"), ("demo", "model", None), ("other", "dataset", None)):
            found = stores.ProjectStores(session, Context(project=project), "", artifactstores.facts).mirror(kind)
            assert (found.service_resource if found else None) == expected
    api.call("DELETE", "/artifacts/mirrors/demo/dataset", status=204)
    assert "has no mirror for datasets" in api.call("DELETE", "/artifacts/mirrors/demo/dataset", status=404)["message"]


@pytest.mark.parametrize(
    ("target", "body", "status", "message"),
    [
        ("none/dataset", {"store": {"product": "minio"}}, 404, "none"),
        ("demo/code", {"store": {"product": "minio"}}, 400, "steps read no 'code' as an artifact"),
        ("demo/dataset", {"store": {}}, 400, "needs a criterion"),
        ("demo/dataset", {"store": {"ambiguity": "error"}}, 400, "needs a criterion"),
        ("demo/dataset", {"store": {"color": "red"}}, 400, "color"),
        ("demo/dataset", {}, 400, "store"),
    ],
)
def test_a_wrong_mirror_is_refused(sqlite_store: database.Database, target: str, body: object, status: int, message: str) -> None:
    api = Registered(sqlite_store)
    answer = api.call("PUT", f"/artifacts/mirrors/{target}", body, status=status)
    assert message in str(answer)
    assert api.call("GET", "/artifacts/mirrors") == []
    api.call("PUT", "/artifacts/mirrors/demo/dataset", {"store": {"product": "minio"}}, token=STEP, status=403)


# The record of a copy


class Copied:
    """A run whose step has copied an artifact to the store `own/store`, and the report of its end."""

    def __init__(self, api: Registered, folder: Path, store: artifactstores.ArtifactStore) -> None:
        self.api = api
        place = store.place("dataset", "demo", conversions.copy_name(retained.STORE, SOURCE.name))
        self.address = store.commit(place, store.write(place, sources({"letters": b"abc"})))
        self.location = store.locate(self.address).uri
        held = plans.Store(extension="own", service="store", resource="folder", url=folder.as_uri())
        step = plans.StepPlan(
            name="fit",
            image=plans.text(conversions.CONVERTER),
            fetches=(plans.Fetch(name="artifact", address=plans.text(str(SOURCE)), store=held),),
            collects=(plans.Collect(output="copy", kind="dataset", path="", store=held, copied=True),),
            cache=plans.Caching(),
        )
        plan = plans.Plan(id="of demo", run="train-1", project="demo", workflow="train", revision=1, steps=(step,))
        with api.store.write() as session:
            run = runs.get(session, "train-1")
            run.plan = plan.model_dump(mode="json")
            session.add(run)

    def report(self, **outputs: str) -> int:
        """Deliver the end of the step; the status of the answer."""
        given = {"copy": str(self.address), "copy-uri": self.location, **outputs}
        payload = events.RunStepFinished(run="train-1", workflow="train", project="demo", step="fit", state="succeeded", outputs=given)
        headers, body = event_keys.encode(dataclasses.replace(events.event(payload, NOON), id="fit"))
        return self.api.client.post(catalog.EVENTS, headers=headers, data=body).status_code

    def keep_key(self) -> None:
        """Let later runs find the step."""
        with self.api.store.write() as session:
            run = runs.get(session, "train-1")
            run.state, run.finished = "succeeded", NOON
            step = runs.steps(session, ["of demo"])[0]
            step.state, step.outputs, step.cache_key = "succeeded", {"copy": str(self.address), "copy-uri": self.location}, "key"

    def is_reusable(self) -> bool:
        with self.api.store.read() as session:
            return runs.steps(session, ["of demo"])[0].cache_key == "key"


@pytest.fixture
def system(store: database.Database, tmp_path: Path) -> Retained:
    return Retained(store, Connection("folder", (tmp_path / "store").as_uri()), tmp_path)


@pytest.fixture
def copied(system: Retained, tmp_path: Path) -> Copied:
    system.api.register(str(SOURCE), digest=f"md5:{'1' * 32}", location="s3://data/dvc", metadata={"store": "dvc/store"})
    return Copied(system.api, tmp_path / "store", system.contents)


def test_a_copy_is_a_further_place_of_its_artifact_and_no_other_artifact(system: Retained, copied: Copied) -> None:
    before = len(system.api.published)
    assert [copied.report(), copied.report()] == [204, 204]
    shown = system.api.call("GET", path(str(SOURCE)))
    assert shown["copies"] == [{"store": "own/store", "location": copied.location}]
    assert (shown["location"], shown["metadata"]) == ("s3://data/dvc", {"store": "dvc/store"})
    assert system.api.search() == [str(SOURCE)]
    assert system.api.call("GET", f"/lineage?address={SOURCE}") == []
    assert len(system.api.published) == before, "nothing starts because of a copy"


def test_a_copy_of_what_is_not_recorded_yet_is_recorded_later(system: Retained, tmp_path: Path) -> None:
    copied = Copied(system.api, tmp_path / "store", system.contents)
    assert copied.report() == 503
    system.api.register(str(SOURCE))
    assert copied.report() == 204
    assert len(system.api.call("GET", path(str(SOURCE)))["copies"]) == 1


@pytest.mark.parametrize(
    "reported", ["dataset://demo/raw/letters/{0}", "dataset://demo/anonymous/copies/own/store/other/{0}", "model://demo/x/{0}"]
)
def test_what_is_no_copy_of_the_artifact_is_not_recorded(system: Retained, copied: Copied, reported: str) -> None:
    place = system.contents.place("dataset", "demo", "raw/letters")
    system.contents.commit(place, system.contents.write(place, sources({"letters": b"abc"})))
    copied.report(copy=reported.format(copied.address.version))
    assert system.api.call("GET", path(str(SOURCE)))["copies"] == []


def test_a_copy_goes_with_its_artifact_and_no_later_run_reuses_it(system: Retained, copied: Copied, tmp_path: Path) -> None:
    copied.report()
    copied.keep_key()
    age(tmp_path / "store")
    system.sweep()
    assert system.read(copied.address) == {"letters": b"abc"}
    system.api.call("DELETE", path(str(SOURCE)), status=204)
    assert not copied.is_reusable()
    system.sweep()
    assert system.read(copied.address), "it may be in use"
    system.expire_leases()
    system.sweep()
    assert system.versions(copied.address.name) == []
    assert retained.files(tmp_path / "store" / "dataset" / "demo" / "anonymous") == []


def test_a_policy_removes_the_copies_of_what_it_removes(system: Retained, copied: Copied) -> None:
    copied.report()
    copied.keep_key()
    system.api.register(str(dataclasses.replace(SOURCE, version="8")), metadata={"store": "dvc/store"})
    with system.store.write() as session:
        artifacts.get(session, str(SOURCE)).created = clock.ago(90 * 86_400)
    add(system.store, "dvc", "dvc", "s3://data/dvc", configuration={"FUSEML_GIT_URL": "file:///git"})
    system.policy(newest=1)
    system.sweep()
    assert system.api.search() == [str(dataclasses.replace(SOURCE, version="8"))]
    assert system.versions(copied.address.name) == []
    assert not copied.is_reusable()


def test_contents_that_are_the_copy_of_another_artifact_stay(system: Retained, copied: Copied) -> None:
    copied.report()
    twin = dataclasses.replace(SOURCE, version="8")
    system.api.register(str(twin), metadata={"store": "dvc/store"})
    with system.store.write() as session:
        row = artifact_copies.ArtifactCopy(
            address=str(twin), store="own/store", copy_address=str(copied.address), location=copied.location, created=NOON
        )
        artifact_copies.record(session, row, None)
    system.api.call("DELETE", path(str(SOURCE)), status=204)
    system.expire_leases()
    system.sweep()
    assert system.read(copied.address) == {"letters": b"abc"}
    assert system.removal(copied.address) is None


def test_the_copy_of_an_artifact_that_was_deleted_meanwhile_goes(system: Retained, copied: Copied) -> None:
    system.api.call("DELETE", path(str(SOURCE)), status=204)
    assert copied.report() == 204
    system.expire_leases()
    system.sweep()
    assert system.versions(copied.address.name) == []
