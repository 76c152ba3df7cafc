"""Applications on a real cluster: registered, called, replaced under load, split, rolled back, scaled to zero and back, deleted.

FUSEML_TEST_IMAGE_SERVING is an image with the model server. Pods reach this process for their models as FUSEML_TEST_HOST (`host.local`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml.domain import application
from fuseml.runtime import auth, secrets
from fuseml.servings import knative
from fuseml.store import database
from tests.contract import mlflow_models, on_cluster, servings
from tests.images import image

from .deployment import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

NAME = "tiny"


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server with the models, as pods see it."""
    with mlflow_models.tracking_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with on_cluster.own_namespace("serving") as (name, _):
        yield name


@dataclass
class Fuseml:
    """The function, its serving and its tracking server."""

    client: FlaskClient
    serving: knative.KnativeServing
    namespace: str
    tracking: str

    def call(self, method: str, path: str, document: object = None) -> Any:
        answer = self.client.open(path, method=method, json=document, headers={"Authorization": "Bearer t"})
        assert answer.status_code < 300, answer.text
        return answer.json

    def register(self, version: int) -> Any:
        return self.call(
            "POST",
            "/applications",
            {
                "name": NAME,
                "type": "predictor",
                "workflow": "w",
                "project": "demo",
                "run": f"w-{version}",
                "model": f"models:/tiny/{version}",
                "tracking_uri": self.tracking,
                "environment": {"MLFLOW_TRACKING_TOKEN": f"secret-{version}"},
            },
        )

    def get(self) -> Any:
        return self.call("GET", f"/applications/{NAME}")

    def url(self) -> str:
        return str(self.get()["url"].partition("/v2/")[0])

    def wait_for(self, status: str) -> float:
        return wait_until(lambda: self.get()["status"] == status, lambda: f"{status}: {self.get()}")


@pytest.fixture(scope="module")
def fuseml(namespace: str, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuseml]:
    store = database.Database(f"sqlite:///{tmp_path_factory.mktemp('db')}/fuseml.db")
    store.migrate()
    cluster = knative.Cluster(namespace)
    serving = knative.KnativeServing(cluster, knative.Settings(image=image("SERVING"), timeout=60, retention="0s", patience=60, cpu="25m"))
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    deps = Deps(store=store, tokens=tokens, keyring=secrets.Keyring([secrets.new_key()]), serving={application.BUILT_IN: serving})
    with contextlib.closing(store), contextlib.closing(cluster):
        yield Fuseml(create_app(deps).test_client(), serving, namespace, tracking)


def test_an_application_is_served_replaced_split_and_rolled_back(fuseml: Fuseml, capsys: pytest.CaptureFixture[str]) -> None:
    report: list[str] = []

    # Registered and called.
    assert fuseml.register(1)["revision"] == 1
    report.append(f"registered to ready {fuseml.wait_for('ready'):.1f} s")
    view = fuseml.get()
    assert view["environment"] == {"MLFLOW_TRACKING_TOKEN": "<hidden>"}
    assert view["k8s_namespace"] == fuseml.namespace
    assert [resource["kind"] for resource in view["k8s_resources"]] == ["Service.serving.knative.dev", "Secret"]
    url = fuseml.url()
    assert view["url"] == f"{url}/v2/models/{NAME}/infer"
    assert servings.predict(url, NAME) == (200, 1.0)

    # Replaced under load.
    caller = servings.Caller(url, NAME)
    with caller.calling():
        fuseml.register(2)
        report.append(f"replaced to ready {fuseml.wait_for('ready'):.1f} s")
        wait_until(lambda: caller.answers[-1] == (200, 2.0), "the new model to answer")
        time.sleep(2)
    assert caller.failures == []
    assert {value for _, value in caller.answers} == {1.0, 2.0}
    report.append(f"{len(caller.answers)} requests meanwhile, none failed")

    # Split, and rolled back.
    fuseml.call("PUT", f"/applications/{NAME}/traffic", {"traffic": {"current": 50, "previous": 50}})
    fuseml.wait_for("ready")
    wait_until(lambda: {servings.predict(url, NAME)[1] for _ in range(12)} == {1.0, 2.0}, "both to answer")
    caller = servings.Caller(url, NAME)
    with caller.calling():
        rolled = fuseml.call("POST", f"/applications/{NAME}/rollback")
        assert [(share["revision"], share["percent"], share["model"]) for share in rolled["traffic"]] == [(1, 100, "models:/tiny/1")]
        report.append(f"rolled back in {fuseml.wait_for('ready'):.1f} s")
        time.sleep(2)
    assert caller.failures == []
    assert {servings.predict(url, NAME)[1] for _ in range(8)} == {1.0}

    # A model that cannot be loaded changes no answer.
    fuseml.register(3)
    report.append(f"broken model reported after {fuseml.wait_for('failed'):.1f} s")
    cause = fuseml.get()["cause"]
    assert "cannot load" in cause, cause
    assert servings.predict(url, NAME) == (200, 1.0)
    fuseml.call("PUT", f"/applications/{NAME}/traffic", {"traffic": {"1": 100}})
    fuseml.wait_for("ready")

    with capsys.disabled():
        sys.stderr.write("\n" + "\n".join(report) + "\n")


def test_an_idle_application_scales_to_zero_and_answers_again(fuseml: Fuseml, capsys: pytest.CaptureFixture[str]) -> None:
    from kubernetes import client

    fuseml.register(2)
    fuseml.wait_for("ready")
    core = client.CoreV1Api()
    asleep = wait_until(
        lambda: not core.list_namespaced_pod(fuseml.namespace, label_selector=f"fuseml.io/application={NAME}").items, "no pods"
    )
    started = time.monotonic()
    assert servings.predict(fuseml.url(), NAME) == (200, 2.0)
    with capsys.disabled():
        sys.stderr.write(f"\nscaled to zero after {asleep:.0f} s, answered from zero in {time.monotonic() - started:.1f} s\n")
    core.api_client.close()


def test_deleting_an_application_leaves_no_object_even_if_its_service_was_deleted_before(fuseml: Fuseml) -> None:
    from kubernetes import client

    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    where = ("serving.knative.dev", "v1", fuseml.namespace, "services")
    custom.delete_namespaced_custom_object(*where, NAME)
    assert fuseml.get()["status"] == "starting"
    fuseml.call("DELETE", f"/applications/{NAME}")
    assert custom.list_namespaced_custom_object(*where)["items"] == []
    assert [secret.metadata.name for secret in core.list_namespaced_secret(fuseml.namespace).items] == []
    fuseml.register(1)
    # A process can die between the cluster and the database: the sweep deletes a Service without a record.
    fuseml.serving.reconcile([])
    assert custom.list_namespaced_custom_object(*where)["items"] == []
    core.api_client.close()
    custom.api_client.close()
