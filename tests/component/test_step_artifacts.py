"""Artifacts of steps between the registry, the stores and the records; on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import reach
from fuseml.domain import errors, events, plans
from fuseml.domain.plans import artifact_planning
from fuseml.domain.registry import artifact_stores, extension
from fuseml.domain.registry.selector import Context, Selector
from fuseml.runtime import catalog
from fuseml.servings import record
from fuseml.store import database, extensions, runs
from fuseml.usecases import stores
from tests import event_keys
from tests.component.registered import KEYRING, NOON, STEP, Registered, path
from tests.contract.artifact_stores import sources

SECRET = "s3cret-of-the-bucket"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def api(store: database.Database) -> Registered:
    return Registered(store)


def add(
    store: database.Database, id: str, resource: str, url: str, kind: str = "internal", category: str = "artifact-store", **more: Any
) -> None:
    part = {"id": "store", "resource": resource, "category": category, "endpoints": [{"url": url, "type": kind}], **more}
    document = extension.Extension.model_validate({"id": id, "product": id, "services": [part]})
    with store.write() as session:
        extensions.add(session, extension.map_secrets(document, KEYRING.seal), NOON)


def add_bucket(store: database.Database, id: str = "minio", **more: Any) -> None:
    accounts = [
        {
            "id": "of-demo",
            "scope": "project",
            "projects": ["demo"],
            "configuration": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET},
        },
        {
            "id": "of-ada",
            "scope": "user",
            "users": ["ada"],
            "projects": ["other"],
            "configuration": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "of ada"},
        },
    ]
    bucket = {"FUSEML_ARTIFACTS_BUCKET": "artifacts"}
    add(store, id, "s3", "http://minio:9000", **{"credentials": accounts, "configuration": bucket, **more})


def add_own(store: database.Database, folder: Path) -> None:
    """The embedded server's own store."""
    service = {
        "id": "artifacts",
        "resource": "folder",
        "category": "artifact-store",
        "endpoints": [{"url": folder.as_uri(), "type": "internal", "configuration": {reach.VARIABLE: reach.mark(folder)}}],
    }
    record.register(store, "http://fuseml", services=[service])


def chosen(store: database.Database, kind: str = "dataset", wanted: artifact_planning.Wanted = None, project: str = "demo") -> str:
    with store.read() as session:
        return stores.ProjectStores(session, Context(project=project), "", artifactstores.facts).writer(kind, wanted).extension_id


def found(
    store: database.Database,
    address: str,
    wanted: artifact_planning.Wanted = None,
    *,
    opens: bool = True,
    facts: artifact_stores.FactsOf = artifactstores.facts,
) -> artifact_planning.Held:
    with store.read() as session:
        return stores.ProjectStores(session, Context(project="demo"), "", facts).find(address, wanted, opens=opens)


def test_a_registered_store_is_preferred_to_the_folder_of_the_server(store: database.Database, tmp_path: Path) -> None:
    with pytest.raises(errors.UnresolvedError, match="no artifact store of the project 'demo' holds a dataset"):
        chosen(store)
    add_own(store, tmp_path / "own")
    assert chosen(store) == "fuseml"
    # It holds no datasets, and takes no files.
    add(store, "mlflow", "mlflow-tracking", "http://mlflow")
    assert (chosen(store), chosen(store, "model")) == ("fuseml", "fuseml")
    add_bucket(store, endpoints=[{"url": "http://minio:9000", "type": "external"}])
    assert chosen(store) == "minio"
    assert chosen(store, wanted=Selector(extension_id="fuseml", service_id="artifacts")) == "fuseml"


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        (Selector(extension_id="mlflow"), "model", "cannot write contents for a step; choose another store"),
        (Selector(extension_id="mlflow"), "dataset", "holds no dataset; its kinds are model"),
        (Selector(extension_id="gas"), "dataset", "no artifact store has the resource 'gas'"),
        (Selector(product="none"), "dataset", "matches nothing"),
    ],
)
def test_a_store_that_cannot_take_the_files_is_refused(sqlite_store: database.Database, wanted: Selector, kind: str, message: str) -> None:
    add(sqlite_store, "mlflow", "mlflow-tracking", "http://mlflow")
    add(sqlite_store, "gas", "gas", "http://gas")
    with pytest.raises((errors.InvalidError, errors.UnresolvedError), match=message):
        chosen(sqlite_store, kind, wanted)


def test_an_artifact_is_read_where_its_record_says(api: Registered, tmp_path: Path) -> None:
    add_own(api.store, tmp_path / "own")
    add_bucket(api.store)
    for name, store in (("here", "fuseml/artifacts"), ("there", "minio/store"), ("somewhere", "")):
        api.register(
            f"dataset://demo/{name}/{DIGEST}", digest=DIGEST, location=f"s3://x/{name}", metadata={"store": store} if store else {}
        )
    api.register("model://demo/wine/3", format="mlflow", location="models:/wine/3", metadata={"extension": "mlflow"})
    api.call("PUT", path(f"dataset://demo/here/{DIGEST}", "tags", "latest"))
    held = found(api.store, "dataset://demo/here@latest")
    assert (held.address, held.asked, held.uri) == (f"dataset://demo/here/{DIGEST}", "dataset://demo/here@latest", "s3://x/here")
    assert held.binding.extension_id == "fuseml"
    assert found(api.store, f"dataset://demo/there/{DIGEST}").binding.extension_id == "minio"
    # The best store that can, or the one that the step names.
    assert found(api.store, f"dataset://demo/somewhere/{DIGEST}").binding.extension_id == "minio"
    own = Selector(extension_id="fuseml", service_id="artifacts")
    assert found(api.store, f"dataset://demo/somewhere/{DIGEST}", own).binding.extension_id == "fuseml"
    with pytest.raises(errors.InvalidError, match=r"is in the store minio/store, not in fuseml/artifacts; leave out `store`"):
        found(api.store, f"dataset://demo/there/{DIGEST}", own)
    with pytest.raises(errors.UnresolvedError, match="matches nothing"):
        found(api.store, "model://demo/wine/3", opens=False)
    add(api.store, "mlflow", "mlflow-tracking", "http://mlflow", category="experiment-tracking")
    reference = found(api.store, "model://demo/wine/3", opens=False)
    assert (reference.uri, reference.binding.configuration["MLFLOW_TRACKING_URI"]) == ("models:/wine/3", "http://mlflow")


def test_a_store_without_contents_by_path_is_read_by_reference_only(sqlite_store: database.Database) -> None:
    api = Registered(sqlite_store)
    add(sqlite_store, "cards", "model-cards", "http://cards")
    api.register("model://demo/wine/3", metadata={"store": "cards/store"})

    def facts(_: object) -> artifact_stores.Facts:
        return artifact_stores.Facts(frozenset({"model"}), frozenset({"commit"}), {})

    with pytest.raises(errors.InvalidError, match="cannot open contents for a step; refer to the artifact by `access: reference`"):
        found(sqlite_store, "model://demo/wine/3", facts=facts)
    assert found(sqlite_store, "model://demo/wine/3", opens=False, facts=facts).binding.extension_id == "cards"


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("image://demo/app/1", errors.InvalidError, "an image is run"),
        ("dataset://demo/link/1", errors.InvalidError, "is external"),
        ("dataset://demo/none/1", errors.NotFoundError, "there is no artifact"),
        ("dataset://other/hidden/1", errors.ForbiddenError, "of its own project only"),
        ("dataset://other/none/1", errors.ForbiddenError, "of its own project only"),
        ("code://demo/code/1", errors.InvalidError, "a codeset is checked out"),
    ],
)
def test_what_a_step_cannot_read_is_refused(
    sqlite_store: database.Database, address: str, error: type[errors.FusemlError], message: str
) -> None:
    api = Registered(sqlite_store)
    api.register("dataset://demo/link/1", external=True, location="http://elsewhere")
    api.register("dataset://other/hidden/1")
    with pytest.raises(error, match=message) as caught:
        found(sqlite_store, address)
    assert "hidden" not in caught.value.message


def test_users_get_the_account_that_their_project_may_use(api: Registered) -> None:
    body = {"kind": "dataset", "project": "demo", "name": "letters"}
    assert api.call("POST", "/artifacts/places", body, status=422)["name"] == "unresolved"
    add_bucket(api.store)
    place = api.call("POST", "/artifacts/places", body)
    assert (place["store"], place["resource"], place["url"]) == ("minio/store", "s3", "http://minio:9000")
    assert (place["environment"]["AWS_SECRET_ACCESS_KEY"], place["environment"]["FUSEML_ARTIFACTS_BUCKET"]) == (SECRET, "artifacts")
    other = api.call("POST", "/artifacts/places", {**body, "project": "other"})
    assert other["environment"]["AWS_SECRET_ACCESS_KEY"] == "of ada"
    address = f"dataset://demo/letters/{DIGEST}"
    api.register(address, digest=DIGEST, size=7, location="s3://artifacts/x", metadata={"store": "minio/store"})
    location = api.call("POST", "/artifacts/locations", {"address": address})
    assert {name: location[name] for name in ("address", "digest", "size", "location", "store")} == {
        "address": address,
        "digest": DIGEST,
        "size": 7,
        "location": "s3://artifacts/x",
        "store": "minio/store",
    }
    assert location["environment"]["AWS_SECRET_ACCESS_KEY"] == SECRET


def test_an_external_endpoint_is_for_users_outside_and_the_internal_one_for_steps(api: Registered) -> None:
    endpoints = [{"url": "http://inside:9000", "type": "internal"}, {"url": "https://outside", "type": "external"}]
    add_bucket(api.store, endpoints=endpoints)
    place = api.call("POST", "/artifacts/places", {"kind": "dataset", "project": "demo", "name": "letters"})
    assert (place["url"], place["environment"]["AWS_ENDPOINT_URL_S3"]) == ("https://outside", "https://outside")
    with api.store.read() as session:
        binding = stores.ProjectStores(session, Context(project="demo"), "", artifactstores.facts).writer("dataset", None)
    assert binding.url == "http://inside:9000"


@pytest.mark.parametrize(
    ("target", "body", "status", "message"),
    [
        ("places", {"kind": "dataset", "project": "none", "name": "x"}, 404, "none"),
        ("places", {"kind": "code", "project": "demo", "name": "x"}, 400, "kind"),
        ("places", {"kind": "dataset", "project": "demo", "name": "a@b"}, 400, "marks a tag"),
        ("places", {"kind": "dataset", "project": "demo", "name": "anonymous/x"}, 400, "anonymous"),
        ("locations", {"address": "dataset://demo/none/1"}, 404, "there is no artifact"),
        ("locations", {"address": "dataset://demo/x"}, 400, "names no version"),
        ("locations", {"address": "dataset://demo/link/1"}, 400, "is external"),
    ],
)
def test_the_way_to_contents_is_refused_with_the_reason(
    sqlite_store: database.Database, target: str, body: dict[str, str], status: int, message: str
) -> None:
    api = Registered(sqlite_store)
    add_bucket(sqlite_store)
    api.register("dataset://demo/link/1", external=True, location="http://elsewhere")
    assert message in api.call("POST", f"/artifacts/{target}", body, status=status)["message"]
    # A step has the artifacts that its plan names, and no others.
    assert api.call("POST", f"/artifacts/{target}", body, token=STEP, status=403)["name"] == "forbidden"


def test_a_page_is_that_of_the_tool_or_the_location_of_an_external_artifact(api: Registered) -> None:
    add(api.store, "mlflow", "mlflow-tracking", "http://mlflow")
    add_bucket(api.store)
    api.register("model://demo/wine/3", format="mlflow", location="models:/wine/3")
    api.register("dataset://demo/link/1", external=True, location="http://elsewhere")
    api.register(f"dataset://demo/x/{DIGEST}", metadata={"store": "minio/store"})
    assert api.call("GET", path("dataset://demo/link/1", "page"))["url"] == "http://elsewhere"
    assert "wine" in api.call("GET", path("model://demo/wine/3", "page"))["url"]
    assert "cannot show a page" in api.call("GET", path(f"dataset://demo/x/{DIGEST}", "page"), status=400)["message"]


class Shelf:
    """A run whose step has made a model in a folder, and the report of its end."""

    def __init__(self, api: Registered, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.connection = artifactstores.Connection("folder", folder.as_uri(), {})
        store = artifactstores.connect(self.connection)
        place = store.place("model", "demo", "churn")
        self.address = store.commit(place, store.write(place, sources({"weights": b"1234567"})))
        scratch = store.place("dataset", "demo", "anonymous/of demo/fit/folds")
        self.anonymous = store.commit(scratch, store.write(scratch, sources({"f": b"1"})))
        held = plans.Store(extension="shelf", service="store", resource="folder", url=folder.as_uri())
        read = plans.Fetch(name="data", address=plans.text(f"dataset://demo/letters/{DIGEST}"), asked="", path="/data", store=held)
        unknown = plans.Fetch(name="f", address=plans.text(str(self.anonymous)), path="/f", store=held)
        made = [
            plans.Collect(output="model", kind="model", name="churn", path="out", format="onnx", store=held),
            plans.Collect(output="folds", kind="dataset", path="folds", store=held),
        ]
        step = plans.StepPlan(name="fit", image=plans.text("i"), fetches=(read, unknown), collects=tuple(made))
        plan = plans.Plan(id="of demo", run="train-1", project="demo", workflow="train", revision=1, steps=(step,))
        with api.store.write() as session:
            row = runs.get(session, "train-1")
            row.plan = plan.model_dump(mode="json")
            session.add(row)

    def report(self, **outputs: str) -> int:
        """Deliver the end of the step; the status of the answer."""
        given = {"model": str(self.address), "folds": str(self.anonymous), "metrics": '{"r2": 0.5}', **outputs}
        payload = events.RunStepFinished(run="train-1", workflow="train", project="demo", step="fit", state="succeeded", outputs=given)
        headers, body = event_keys.encode(dataclasses.replace(events.event(payload, NOON), id="fit"))
        return self.api.client.post(catalog.EVENTS, headers=headers, data=body).status_code


def test_a_collected_artifact_is_recorded_as_its_store_describes_it(api: Registered, tmp_path: Path) -> None:
    shelf = Shelf(api, tmp_path / "shelf")
    assert [shelf.report(), shelf.report()] == [200, 200]
    recorded = api.call("GET", path(str(shelf.address)))
    facts = {name: recorded[name] for name in ("digest", "size", "format", "run", "step", "metrics", "project")}
    assert facts == {
        "digest": shelf.address.version,
        "size": 7,
        "format": "onnx",
        "run": "train-1",
        "step": "fit",
        "metrics": {"r2": 0.5},
        "project": "demo",
    }
    assert recorded["location"].startswith(f"{shelf.folder.as_uri()}/model/demo/churn/manifests/")
    assert recorded["metadata"]["store"] == "shelf/store"
    assert api.search() == [str(shelf.address)]
    [edge] = api.call("GET", f"/lineage?address={shelf.address}")
    assert (edge["source"], edge["target"], edge["step"]) == (f"dataset://demo/letters/{DIGEST}", str(shelf.address), "fit")


def test_while_the_store_is_away_nothing_is_recorded_and_the_event_comes_again(api: Registered, tmp_path: Path) -> None:
    shelf = Shelf(api, tmp_path / "shelf")
    away = artifactstores.Connection("s3", "http://127.0.0.1:1", {**ACCOUNT, "FUSEML_ARTIFACTS_BUCKET": "b"})
    held = plans.Store(
        extension="minio",
        service="store",
        resource="s3",
        url=away.url,
        variables=tuple(plans.Variable(name=name, value=plans.text(value)) for name, value in away.environment.items()),
    )
    with api.store.write() as session:
        row = runs.get(session, "train-1")
        plan = plans.Plan.model_validate(row.plan)
        [step] = plan.steps
        collects = tuple(item.model_copy(update={"store": held}) for item in step.collects)
        row.plan = plan.model_copy(update={"steps": (step.model_copy(update={"collects": collects}),)}).model_dump(mode="json")
        session.add(row)
    assert shelf.report() == 503
    assert (api.search(), api.published) == ([], [])
    with api.store.write() as session:
        row = runs.get(session, "train-1")
        row.plan = plan.model_dump(mode="json")
        session.add(row)
    assert shelf.report() == 200
    assert api.search() == [str(shelf.address)]


@pytest.mark.parametrize(
    "reported", ["model://demo/other/{0}", "model://other/churn/{0}", "dataset://demo/churn/{0}", "hello", "model://demo/../churn/{0}"]
)
def test_an_address_that_the_plan_does_not_name_is_not_recorded(api: Registered, tmp_path: Path, reported: str) -> None:
    shelf = Shelf(api, tmp_path / "shelf")
    shelf.report(model=reported.format(shelf.address.version))
    assert api.search() == []


def test_an_artifact_that_its_store_lacks_costs_no_other_its_record(api: Registered, tmp_path: Path) -> None:
    shelf = Shelf(api, tmp_path / "shelf")
    assert shelf.report(model=f"model://demo/churn/{DIGEST}", other="models:/wine/7") == 200
    assert api.search() == ["model://demo/wine/7"]


def test_an_address_that_a_step_passes_on_is_no_product_of_it(api: Registered, tmp_path: Path) -> None:
    shelf = Shelf(api, tmp_path / "shelf")
    assert shelf.report(again=f"dataset://demo/letters/{DIGEST}") == 200
    assert api.search() == [str(shelf.address)]


def test_the_record_of_the_server_gets_its_store_when_it_starts_again(sqlite_store: database.Database, tmp_path: Path) -> None:
    record.register(sqlite_store, "http://fuseml")
    add_own(sqlite_store, tmp_path / "one")
    add_own(sqlite_store, tmp_path / "one")
    with sqlite_store.read() as session:
        registered = extensions.get(session, "fuseml")
    assert ([service.id for service in registered.services], registered.revision) == (["serving", "artifacts"], 2)
