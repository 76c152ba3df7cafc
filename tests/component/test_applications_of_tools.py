"""Applications on KServe and Seldon Core, from their API to the objects of the tools, over real HTTP."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml import servings
from fuseml.runtime import auth, secrets
from fuseml.servings import kserve, seldon, seldon_v2
from tests import databases, waiting
from tests.contract import kserve_controller, model_pods, seldon_controllers
from tests.contract.servings import ACCOUNT
from tests.unit.kubernetes_api import NAMESPACE

K, S, S2 = "kserve-api", "seldon-core-api", "seldon-core-v2-api"
TOOLS: dict[str, tuple[Any, Callable[[str], servings.Serving]]] = {
    K: (kserve_controller.running, lambda url: kserve.KServeServing(kserve.Cluster(NAMESPACE, url), kserve.Settings())),
    S: (seldon_controllers.core_1, lambda url: seldon.SeldonServing(seldon.Cluster(NAMESPACE, url), seldon.Settings())),
    S2: (
        seldon_controllers.core_2,
        lambda url: seldon_v2.SeldonV2Serving(seldon_v2.Cluster(NAMESPACE, url), seldon_v2.Settings(settling=0.1)),
    ),
}


@dataclass
class Server:
    client: FlaskClient
    controller: model_pods.Controller
    served_by: str

    def call(self, method: str, path: str, document: object = None, status: int = 200) -> Any:
        answer = self.client.open(path, method=method, json=document, headers={"Authorization": "Bearer t"})
        assert answer.status_code == status, answer.text
        return answer.json

    def register(self, model: str, status: int = 201, **fields: Any) -> Any:
        document = {
            "name": "wine",
            "type": "predictor",
            "workflow": "mlflow-e2e",
            "model": "models:/wine/1",
            "location": f"s3://models/{model}",
            "served_by": self.served_by,
            "environment": ACCOUNT,
            **fields,
        }
        return self.call("POST", "/applications", document, status)

    def ready(self, revision: int) -> Any:
        """The application once this revision answers; a step asks for its state in this way."""

        def asked() -> Any:
            found = self.call("GET", "/applications/wine")
            answering = [share["revision"] for share in found["answering"] or ()]
            return found if found["status"] == "ready" and answering == [revision] else None

        return waiting.wait_until(asked, lambda: str(self.call("GET", "/applications/wine")), interval=0.05)


@pytest.fixture(params=TOOLS)
def server(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Server]:
    running, connected = TOOLS[request.param]
    store = databases.on_sqlite(tmp_path / "fuseml.db")
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    with running() as (controller, url), contextlib.closing(store):
        keyring = secrets.Keyring([secrets.new_key()])
        deps = Deps(store=store, tokens=tokens, keyring=keyring, serving={request.param: connected(url)})
        yield Server(create_app(deps).test_client(), controller, request.param)


def test_an_application_is_served_replaced_rolled_back_and_deleted(server: Server) -> None:
    server.register("first")
    url = server.ready(1)["url"]
    path = {K: "/wine/v2/models/wine/infer", S: "/v2/models/wine/infer", S2: "/v2/models/wine.experiment/infer"}[server.served_by]
    base = f"http://seldon-mesh.{NAMESPACE}.svc.cluster.local" if server.served_by == S2 else server.controller.url
    assert url == base + path
    server.register("second")
    assert server.ready(2)["url"] == url
    server.call("POST", "/applications/wine/rollback")
    found = server.ready(1)
    assert [share["revision"] for share in found["traffic"]] == [1]
    assert [item["status"] for item in server.call("GET", "/applications")] == ["ready"]
    server.call("DELETE", "/applications/wine", status=204)
    with server.controller.api.lock:
        server.controller.tick()
        assert server.controller.api.objects == {}


def test_what_the_tool_cannot_serve_is_refused_and_nothing_is_stored(server: Server) -> None:
    refused = server.register("first", 400, location="mlflow-artifacts:/1/abc/artifacts/model")
    assert "fetches the files of a model itself" in refused["message"]
    if server.served_by == K:
        refused = server.register("first", 400, environment={**ACCOUNT, "AWS_SESSION_TOKEN": "token"})
        assert "temporary S3 credentials" in refused["message"]
    assert server.call("GET", "/applications") == []
    assert server.controller.api.objects == {}


def test_a_split_is_made_or_refused_before_it_is_stored(server: Server) -> None:
    server.register("first")
    server.ready(1)
    server.register("second")
    server.ready(2)
    if server.served_by == S:
        refused = server.call("PUT", "/applications/wine/traffic", {"traffic": {"current": 20, "previous": 80}}, 400)
        assert "only in the gateway of a mesh" in refused["message"]
        assert [share["revision"] for share in server.call("GET", "/applications/wine")["traffic"]] == [2]
        return
    server.call("PUT", "/applications/wine/traffic", {"traffic": {"current": 20, "previous": 80}})
    waiting.wait_until(lambda: server.call("GET", "/applications/wine")["status"] == "ready", "the split", interval=0.05)
    answering = server.call("GET", "/applications/wine")["answering"]
    assert {share["revision"]: share["percent"] for share in answering} == {1: 80, 2: 20}


def test_a_model_that_cannot_be_loaded_is_shown_with_its_cause(server: Server) -> None:
    server.register("broken")
    waiting.wait_until(lambda: server.call("GET", "/applications/wine")["status"] == "failed", "the failure", interval=0.05)
    assert "cannot load s3://models/broken" in server.call("GET", "/applications/wine")["cause"]
