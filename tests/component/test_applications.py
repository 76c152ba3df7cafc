"""Applications from their API to Knative's, over real HTTP: every record is served, also after a failure in between."""

from __future__ import annotations

import base64
import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml import servings
from fuseml.domain import application, errors
from fuseml.domain.registry import extension
from fuseml.runtime import auth, secrets
from fuseml.servings import knative, record
from fuseml.servings.knative import render
from fuseml.store import applications, extensions
from tests import databases
from tests.unit import kubernetes_api
from tests.unit.kubernetes_api import NAMESPACE, Api, Fault

SETTINGS = knative.Settings(image="ghcr.io/fuseml/model-server:v1")
WINE = {
    "name": "wine",
    "type": "predictor",
    "workflow": "mlflow-e2e",
    "project": "demo",
    "model": "models:/wine/1",
    "tracking_uri": "http://mlflow",
    "environment": {"MLFLOW_TRACKING_PASSWORD": "canary-1"},
}


@dataclass
class Cluster:
    """Knative's controller over the Kubernetes API stand-in: a revision is created at once, and is `loading`, `broken` or ready."""

    api: Api
    loading: bool = False
    broken: str = ""

    def changed(self, api: Api, service: dict[str, Any]) -> None:
        """Reconcile a Service."""
        if service.get("kind") != "Service":
            return
        template = service["spec"]["template"]
        name = template["metadata"]["name"]
        if ("revisions", name) not in api.objects:
            api.put("revisions", {"metadata": {"name": name, "labels": template["metadata"]["labels"]}})
        condition = "Unknown" if self.loading else "False" if self.broken else "True"
        message = f'Revision "{name}" failed with message: {self.broken}.' if self.broken else ""
        before = service.get("status", {}).get("traffic", [])
        service["status"] = {
            "observedGeneration": service["metadata"]["generation"],
            "url": f"http://{service['metadata']['name']}.{NAMESPACE}.example.com",
            "traffic": service["spec"]["traffic"] if condition == "True" else before,
            "conditions": [
                {"type": "ConfigurationsReady", "status": condition, "message": message},
                {"type": "RoutesReady", "status": condition, "reason": "RevisionMissing"},
            ],
        }

    def service(self) -> Any:
        return self.api.objects["services", "wine"]

    def secret(self) -> dict[str, str]:
        data = self.api.objects["secrets", "wine"]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@dataclass
class Server:
    client: FlaskClient
    deps: Deps
    cluster: Cluster

    def call(self, method: str, path: str, document: object = None, status: int = 200) -> Any:
        answer = self.client.open(path, method=method, json=document, headers={"Authorization": "Bearer t"})
        assert answer.status_code == status, answer.text
        return answer.json

    def register(self, **fields: object) -> Any:
        return self.call("POST", "/applications", {**WINE, **fields}, 201)

    def specs(self) -> list[servings.ServingSpec]:
        with self.deps.store.read() as session:
            specs = [servings.serving_spec(session, row, self.deps.keyring.unseal) for row in applications.all_applications(session)]
        return [spec for spec in specs if spec is not None]

    def sweep(self) -> None:
        self.deps.serving[application.BUILT_IN].reconcile(self.specs())


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    api = Api()
    cluster = Cluster(api)
    api.changed = cluster.changed
    store = databases.on_sqlite(tmp_path / "fuseml.db")
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    with kubernetes_api.serving(api) as url, contextlib.closing(store), contextlib.closing(knative.Cluster(NAMESPACE, url)) as connected:
        serving = knative.KnativeServing(connected, SETTINGS)
        deps = Deps(store=store, tokens=tokens, keyring=secrets.Keyring([secrets.new_key()]), serving={application.BUILT_IN: serving})
        yield Server(create_app(deps).test_client(), deps, cluster)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("allowed", range(4))
def test_the_sweep_completes_a_removal_that_broke_off_or_serves_the_application_again(server: Server, allowed: int, is_known: bool) -> None:
    serving = server.deps.serving[application.BUILT_IN]
    server.register()
    first = len(server.cluster.api.requests)
    server.cluster.api.faults = lambda number, method, path: Fault() if number >= first + allowed else None
    with contextlib.suppress(errors.TemporaryError):
        if is_known:
            serving.remove("wine")
        else:
            serving.reconcile([])
    server.cluster.api.faults = lambda number, method, path: None
    serving.reconcile(server.specs() if is_known else [])
    served = {("services", "wine"), ("secrets", "wine")}
    assert served & server.cluster.api.objects.keys() == (served if is_known else set())


def test_a_registered_application_is_served_and_its_record_holds_the_address(server: Server) -> None:
    response = server.register()
    assert (response["status"], response["revision"], response["url"]) == (
        "ready",
        1,
        f"http://wine.{NAMESPACE}.example.com/v2/models/wine/infer",
    )
    assert response["k8s_namespace"] == NAMESPACE
    assert response["k8s_resources"] == [{"name": "wine", "kind": "Service.serving.knative.dev"}, {"name": "wine", "kind": "Secret"}]
    assert response["traffic"] == [{"revision": 1, "percent": 100, "model": "models:/wine/1"}]
    assert response["answering"] == response["traffic"]
    assert server.call("GET", "/applications")[0]["url"] == response["url"]
    assert server.cluster.secret() == {"1.MLFLOW_TRACKING_PASSWORD": "canary-1"}


def test_secrets_are_sealed_and_hidden(server: Server) -> None:
    response = server.register()
    assert response["environment"] == {"MLFLOW_TRACKING_PASSWORD": "<hidden>"}
    with server.deps.store.read() as session:
        row = applications.get(session, "wine")
        assert "canary" not in str([row.document, *(former.document for former in applications.revisions(session, "wine"))])
    assert "canary" not in str(server.cluster.service())


def test_the_same_registration_changes_nothing_and_hidden_keeps_the_stored_value(server: Server) -> None:
    server.register()
    generation = server.cluster.service()["metadata"]["generation"]
    assert server.register()["revision"] == 1
    assert server.register(environment={"MLFLOW_TRACKING_PASSWORD": "<hidden>"})["revision"] == 1
    assert server.cluster.service()["metadata"]["generation"] == generation
    refused = server.call("POST", "/applications", {**WINE, "environment": {"OTHER": "<hidden>"}}, 400)
    assert refused["message"] == "environment: no stored value for OTHER; send the value instead of <hidden>"


@pytest.mark.parametrize(
    "change",
    [
        {"tracking_uri": "http://evil:5000"},
        {"tracking_uri": "https://mlflow:5000"},
        {"tracking_uri": "http://mlflow:5001"},
        {"runtime": "registry.evil.example.org/server:1"},
        {"environment": {"MLFLOW_TRACKING_PASSWORD": "<hidden>", "MLFLOW_S3_ENDPOINT_URL": "http://evil:9000"}},
        {"environment": {"MLFLOW_TRACKING_PASSWORD": "<hidden>", "MLFLOW_TRACKING_URI": "http://evil:5000"}},
    ],
)
def test_a_kept_secret_of_an_application_is_not_sent_to_a_new_address(server: Server, change: dict[str, Any]) -> None:
    server.register(tracking_uri="http://mlflow:5000")
    kept = {**WINE, "tracking_uri": "http://mlflow:5000", "environment": {"MLFLOW_TRACKING_PASSWORD": "<hidden>"}}
    refused = server.call("POST", "/applications", {**kept, **change}, 400)
    assert refused["message"].startswith("environment.MLFLOW_TRACKING_PASSWORD: the stored secret was not given for the new address in ")
    assert server.call("GET", "/applications/wine")["revision"] == 1
    given = {name: "canary-1" if value == "<hidden>" else value for name, value in {**kept, **change}["environment"].items()}
    assert server.register(**{**kept, **change, "environment": given})["revision"] == 2


def test_traffic_targets_a_new_model_by_revision_name(server: Server) -> None:
    server.register()
    server.cluster.loading = True
    waiting = server.register(model="models:/wine/2", environment={"MLFLOW_TRACKING_PASSWORD": "canary-2"})
    assert (waiting["revision"], waiting["status"], waiting["cause"]) == (2, "starting", "RevisionMissing")
    assert waiting["traffic"] == [{"revision": 2, "percent": 100, "model": "models:/wine/2"}]
    assert waiting["answering"] == [{"revision": 1, "percent": 100, "model": "models:/wine/1"}]
    target = server.cluster.service()["spec"]["traffic"]
    assert [(render.number(entry["revisionName"]), entry["percent"]) for entry in target] == [(2, 100)]
    assert server.cluster.secret() == {"1.MLFLOW_TRACKING_PASSWORD": "canary-1", "2.MLFLOW_TRACKING_PASSWORD": "canary-2"}


def test_a_model_that_cannot_be_loaded_is_reported_with_its_cause(server: Server) -> None:
    server.register()
    server.cluster.broken = "Container failed with: no module named torch"
    response = server.register(model="models:/wine/2")
    assert (response["status"], response["cause"]) == ("failed", "Container failed with: no module named torch.")


def test_a_cause_is_bounded(server: Server) -> None:
    server.cluster.broken = f"Container failed with: no module {'x' * 100_000}"
    assert len(server.register()["cause"]) <= 1000


def test_requests_are_split_and_rolled_back_among_servable_revisions(server: Server) -> None:
    server.register()
    server.register(model="models:/wine/2")
    shared = server.call("PUT", "/applications/wine/traffic", {"traffic": {"current": 90, "previous": 10}})
    assert [(share["model"], share["percent"]) for share in shared["traffic"]] == [("models:/wine/1", 10), ("models:/wine/2", 90)]
    targets = server.cluster.service()["spec"]["traffic"]
    assert [(render.number(entry["revisionName"]), entry["percent"]) for entry in targets] == [(1, 10), (2, 90)]
    assert {("revisions", entry["revisionName"]) for entry in targets} <= server.cluster.api.objects.keys()
    back = server.call("POST", "/applications/wine/rollback")
    assert [(share["revision"], share["percent"]) for share in back["traffic"]] == [(1, 100)]
    assert "no revision before 1" in server.call("POST", "/applications/wine/rollback", status=409)["message"]
    assert server.register(model="models:/wine/3")["traffic"] == [{"revision": 3, "percent": 100, "model": "models:/wine/3"}]
    for name in [name for kind, name in server.cluster.api.objects if kind == "revisions" and render.number(name) == 1]:
        server.cluster.api.delete("revisions", name)
    refused = server.call("PUT", "/applications/wine/traffic", {"traffic": {"1": 100}}, 400)
    assert "there are current, previous, 2, 3" in refused["message"]


def test_deleting_leaves_no_object_even_if_the_service_was_deleted_before(server: Server) -> None:
    server.register()
    server.cluster.api.delete("services", "wine")
    assert server.call("GET", "/applications/wine")["status"] == "starting"
    server.call("DELETE", "/applications/wine", status=204)
    assert [kind for kind, _ in server.cluster.api.objects if kind != "revisions"] == []
    server.call("DELETE", "/applications/wine", status=404)


def test_the_sweep_restores_lost_services_and_deletes_those_without_a_record(server: Server) -> None:
    server.cluster.api.faults = lambda number, method, path: Fault(503)
    assert server.call("POST", "/applications", WINE, 503)["temporary"]
    server.cluster.api.faults = lambda number, method, path: None
    server.sweep()
    assert server.call("GET", "/applications/wine")["status"] == "ready"
    # A sweep without changes takes one request.
    server.cluster.api.requests.clear()
    server.sweep()
    assert [(method, path.rpartition("/")[2]) for method, path, _ in server.cluster.api.requests] == [("GET", "services")]
    server.cluster.api.delete("services", "wine")
    server.sweep()
    assert ("services", "wine") in server.cluster.api.objects
    with server.deps.store.write() as session:
        applications.delete(session, "wine")
    server.sweep()
    assert [kind for kind, _ in server.cluster.api.objects if kind != "revisions"] == []


def test_an_unservable_application_does_not_block_the_others(server: Server) -> None:
    server.call("POST", "/applications", {**WINE, "name": "beer", "runtime": "fuseml.local/mlflow-trainer:3f2a"}, 400)
    server.register()
    server.cluster.api.delete("services", "wine")
    with pytest.raises(errors.InvalidError, match="'beer' cannot be served on a cluster"):
        server.sweep()
    assert ("services", "wine") in server.cluster.api.objects


def test_a_list_shows_status_and_answering_revisions_by_one_request_to_the_cluster(server: Server) -> None:
    server.register()
    server.register(name="beer")
    server.register(name="gone")
    server.register(name="recorded", model=None, served_by="kserve-api", environment={})
    server.cluster.api.delete("services", "gone")
    server.cluster.broken = "Container failed with: no module named torch"
    server.register(name="beer", model="models:/beer/2")
    alone = {name: server.call("GET", f"/applications/{name}") for name in ("beer", "gone", "recorded", "wine")}
    assert {name: (shown["status"], shown["answering"]) for name, shown in alone.items()} == {
        "beer": ("failed", [{"revision": 1, "percent": 100, "model": "models:/wine/1"}]),
        "gone": ("starting", []),
        "recorded": (None, None),
        "wine": ("ready", [{"revision": 1, "percent": 100, "model": "models:/wine/1"}]),
    }
    server.cluster.api.requests.clear()
    assert server.call("GET", "/applications") == list(alone.values())
    assert [(method, path.rpartition("/")[2]) for method, path, _ in server.cluster.api.requests] == [("GET", "services")]


def test_the_status_is_unknown_while_the_cluster_is_unreachable(server: Server) -> None:
    server.register()
    server.register(name="recorded", model=None, served_by="kserve-api", environment={})
    server.cluster.api.faults = lambda number, method, path: Fault(503)
    response = server.call("GET", "/applications/wine")
    assert (response["status"], response["answering"]) == ("starting", None)
    assert response["cause"].startswith("its status is not known: ")
    recorded, wine = server.call("GET", "/applications")
    assert (recorded["status"], recorded["answering"], recorded["cause"]) == (None, None, None)
    assert (wine["status"], wine["answering"]) == ("starting", None)
    assert wine["cause"].startswith("its status is not known: ")


def test_an_unknown_serving_is_refused_with_the_configured_ones(server: Server) -> None:
    refused = server.call("POST", "/applications", {**WINE, "served_by": "kserve-api"}, 400)
    assert "no serving 'kserve-api' is configured" in refused["message"]
    assert "fuseml-serving" in refused["message"]
    assert server.call("GET", "/applications") == []


@pytest.mark.parametrize(
    ("fields", "way_out"),
    [
        ({"model_server": "triton"}, "the model server 'triton' reads no model of the format 'mlflow'"),
        ({"format": "openvino"}, "resolve to kserve-api (triton or openvino)"),
        ({"resources": {"limits": {"memory": "much"}}}, "limits.memory: 'much' is not a quantity"),
        ({"runtime_version": "1.7:latest"}, "runtime_version"),
    ],
)
def test_a_model_server_that_does_not_fit_is_refused_before_anything_is_stored(
    server: Server, fields: dict[str, object], way_out: str
) -> None:
    refused = server.call("POST", "/applications", {**WINE, **fields}, 400)
    assert way_out in refused["message"]
    assert server.call("GET", "/applications") == []
    assert server.cluster.api.objects == {}


def test_the_address_of_predictions_is_that_of_the_model_server(server: Server) -> None:
    assert server.register(model_server="mlflow")["url"].endswith("/invocations")


def test_an_application_without_a_model_is_only_recorded(server: Server) -> None:
    response = server.register(model=None, served_by="kserve-api", url="http://kserve.example.com/wine", environment={})
    assert (response["status"], response["url"]) == (None, "http://kserve.example.com/wine")
    assert server.cluster.api.objects == {}
    refused = server.call("POST", "/applications/wine/rollback", status=409)
    assert "no model that FuseML serves" in refused["message"]
    server.call("DELETE", "/applications/wine", status=204)


def test_steps_find_the_serving_in_the_registry_and_a_new_address_replaces_the_old_one(server: Server) -> None:
    store = server.deps.store
    for url, revision in (("http://one", 1), ("http://one", 1), ("http://other", 2)):
        record.register(store, url)
        with store.read() as session:
            registered = extensions.get(session, record.EXTENSION)
        assert registered.revision == revision
        (service,) = registered.services
        assert (service.resource, service.category) == (application.BUILT_IN, "prediction-serving")
        assert service.endpoints[0].configuration == {"FUSEML_API_URL": url, "FUSEML_API_TOKEN": extension.STEP_TOKEN}
        assert (service.credentials, service.auth_required) == ((), False)
        # Clients of the original's API refuse parts without the ids of their owners.
        assert (service.extension_id, service.endpoints[0].extension_id, service.endpoints[0].service_id) == ("fuseml", "fuseml", "serving")
        assert registered.status.registered and service.status.registered


def test_the_record_of_a_former_release_loses_its_permanent_token(server: Server) -> None:
    store = server.deps.store
    endpoint = {"url": "http://one", "type": "internal", "configuration": {"FUSEML_API_URL": "http://one"}}
    credentials = {"id": "workload", "scope": "global", "configuration": {"FUSEML_API_TOKEN": "sealed"}}
    service = {"id": "serving", "resource": application.BUILT_IN, "endpoints": [endpoint], "credentials": [credentials]}
    with store.write() as session:
        former = extension.Extension.model_validate({"id": record.EXTENSION, "services": [service], "revision": 1})
        extensions.add(session, former, "2026-01-01T00:00:00Z")
    record.register(store, "http://one")
    with store.read() as session:
        assert "sealed" not in extensions.get(session, record.EXTENSION).model_dump_json()


def test_the_record_of_a_former_release_gets_the_ids_of_owners_in_its_parts(server: Server) -> None:
    store = server.deps.store
    record.register(store, "http://one")
    with store.write() as session:
        registered = extensions.get(session, record.EXTENSION)
        (service,) = registered.services
        bare = service.model_copy(update={"extension_id": ""})
        extensions.replace(session, registered.model_copy(update={"services": (bare,), "revision": 2}), "2026-01-01T00:00:00Z")
    record.register(store, "http://one")
    with store.read() as session:
        mended = extensions.get(session, record.EXTENSION)
    assert (mended.revision, mended.services[0].extension_id, mended.status.registered) == (3, "fuseml", registered.status.registered)


VISIBILITY = "networking.knative.dev/visibility"


def test_an_application_is_inside_the_cluster_until_it_is_made_public_and_again_when_it_is_taken_back(server: Server) -> None:
    assert (server.register()["public"], server.cluster.service()["metadata"]["labels"][VISIBILITY]) == (False, "cluster-local")
    answer = server.call("PUT", "/applications/wine/visibility", {"public": True})
    assert (answer["public"], answer["revision"]) == (True, 1)
    assert VISIBILITY not in server.cluster.service()["metadata"]["labels"]
    # A later registration keeps it, unless it says otherwise.
    assert server.register(model="models:/wine/2")["public"] is True
    assert VISIBILITY not in server.cluster.service()["metadata"]["labels"]
    assert server.register(model="models:/wine/3", public=False)["public"] is False
    assert server.cluster.service()["metadata"]["labels"][VISIBILITY] == "cluster-local"
    assert server.register(model="models:/wine/4", public=True)["public"] is True
    assert server.call("PUT", "/applications/wine/visibility", {"public": False})["public"] is False
    assert server.cluster.service()["metadata"]["labels"][VISIBILITY] == "cluster-local"
    server.call("PUT", "/applications/none/visibility", {"public": True}, 404)


def test_the_sweep_repairs_the_openness_of_an_application(server: Server) -> None:
    server.register()
    del server.cluster.service()["metadata"]["annotations"]
    del server.cluster.service()["metadata"]["labels"][VISIBILITY]
    server.sweep()
    assert server.cluster.service()["metadata"]["labels"][VISIBILITY] == "cluster-local"


def test_an_application_of_a_former_release_is_taken_inside(server: Server) -> None:
    server.register()
    with server.deps.store.write() as session:
        row = applications.get(session, "wine")
        row.document = {key: value for key, value in row.document.items() if key != "public"}
    (spec,) = server.specs()
    assert spec.public is False
    assert server.call("GET", "/applications/wine")["public"] is None
