"""The servings under test: the embedded server's, Knative's over `knative_pods`, those of KServe and Seldon Core over small controllers, and on the
cluster that KUBECONFIG names the real ones of Knative, KServe and Seldon Core 1."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fuseml import servings
from fuseml.domain import application
from fuseml.embedded import access, model_process, model_servers, mount
from fuseml.embedded.serving import EmbeddedServing
from fuseml.runtime import auth, clock, secrets
from fuseml.servings import knative, kserve, seldon, seldon_v2
from fuseml.store import applications, database
from tests import commands, databases, waiting
from tests.component import gitea
from tests.contract import bucket_models, knative_pods, kserve_controller, mlflow_models, model_pods, on_cluster, seldon_controllers
from tests.images import image
from tests.unit import kubernetes_api

_TOKEN = "t"
_ROW = json.dumps({"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 1], "data": [0.5]}]})
_POOL = urllib3.PoolManager(maxsize=8, retries=False)


@dataclass(frozen=True)
class Model:
    """A model that predicts `answer`, whatever the data; None for one that cannot be loaded."""

    address: str
    answer: float | None
    tracking_uri: str = ""


@dataclass(frozen=True)
class Models:
    """Two versions of a model, and one that cannot be loaded."""

    first: Model
    second: Model
    broken: Model


@dataclass
class UnderTest:
    """A serving, the records that it serves, and models that its model servers can reach."""

    serving: servings.Serving
    store: database.Database
    keyring: secrets.Keyring
    models: Models
    patience: float = waiting.PATIENCE
    environment: Mapping[str, str] = field(default_factory=lambda: {"MLFLOW_TRACKING_TOKEN": "secret"})
    fields: Mapping[str, Any] = field(default_factory=dict)
    model_in_requests: Callable[[str], str] = str
    splits: bool = True
    moves_connections: bool = True
    """Whether an open connection survives the end of a pod: where no proxy is between, the model server resets it."""

    def record(self, name: str, model: Model) -> servings.ServingSpec:
        """Commit an application, as `applications` does it; the serving gets no call."""
        document = application.Application(
            name=name,
            type="predictor",
            workflow="w",
            model=model.address,
            tracking_uri=model.tracking_uri,
            environment={variable: self.keyring.seal(value) for variable, value in self.environment.items()},
            **self.fields,
        )
        with self.store.write() as session:
            row = applications.put(session, name, document.model_dump(mode="json"), clock.now())
            return self._spec(session, row)

    def register(self, name: str, model: Model) -> servings.ServingSpec:
        """Commit an application, and serve it."""
        spec = self.record(name, model)
        self.serving.apply(spec)
        return spec

    def route(self, name: str, traffic: Mapping[int, int]) -> servings.ServingSpec:
        """Commit the shares of revisions, and serve them."""
        with self.store.write() as session:
            row = applications.get(session, name)
            applications.route(session, row, traffic, clock.now())
            spec = self._spec(session, row)
        self.serving.apply(spec)
        return spec

    def forget(self, name: str) -> None:
        """Delete the record; the serving gets no call."""
        with self.store.write() as session:
            applications.delete(session, name)

    def clear(self) -> None:
        """Delete every record, and serve nothing."""
        with self.store.read() as session:
            names = [row.name for row in applications.all_applications(session)]
        for name in names:
            self.serving.remove(name)
            self.forget(name)
        self.serving.reconcile([])

    def observe(self, spec: servings.ServingSpec) -> servings.Status:
        """The status; a due step is taken, as `applications` does it."""
        status = self.serving.status(spec)
        if status.due:
            self.serving.apply(spec)
        return status

    def wait(self, spec: servings.ServingSpec, state: servings.State) -> servings.Status:
        """The status, once it has this state."""

        def reached() -> list[servings.Status]:
            status = self.observe(spec)
            return [status] if status.state == state else []

        [status] = waiting.wait_until(reached, lambda: f"{state}: {self.serving.status(spec)}", patience=self.patience, interval=0.1)
        return status

    def wait_for_answer(self, url: str, name: str, model: Model) -> None:
        """Ask until the prediction is the model's. On the embedded server the first request of an application starts it."""
        with self.store.read() as session:
            spec = self._spec(session, applications.get(session, name))
        waiting.wait_until(
            lambda: self.observe(spec) and self._answer(url, name) == (200, model.answer),
            lambda: f"an answer of {model.address}: {self._answer(url, name)}",
            patience=self.patience,
            interval=0.1,
        )

    def wait_for_end(self, url: str, name: str) -> None:
        """Ask until no model answers. On a cluster the ingress learns of a removal a moment later."""
        waiting.wait_until(
            lambda: self._answer(url, name)[0] == 404,
            lambda: f"the end of {name}: {self._answer(url, name)}",
            patience=self.patience,
            interval=0.1,
        )

    def _answer(self, url: str, name: str) -> tuple[int, Any]:
        """As `predict`; 404 where nothing listens. A Service of Kubernetes is there a moment after its pods, and goes with its name."""
        try:
            return self.predict(url, name)
        except urllib3.exceptions.NewConnectionError as error:
            return 404, str(error)

    def caller(self, url: str, name: str) -> Caller:
        """Sends requests to the application."""
        return Caller(url, self.model_in_requests(name), connects=not self.moves_connections)

    def predict(self, url: str, name: str) -> tuple[int, Any]:
        """See `predict`; `name` is the application's."""
        return predict(url, self.model_in_requests(name), connects=not self.moves_connections)

    def _spec(self, session: Any, row: applications.Application) -> servings.ServingSpec:
        spec = servings.serving_spec(session, row, self.keyring.unseal)
        assert spec is not None
        return spec


def predict(url: str, name: str, timeout: float = waiting.PATIENCE, *, connects: bool = False) -> tuple[int, Any]:
    """Status, and the prediction or the body of another answer. `url` is the application's; `connects`: by a connection of its own. Raises
    urllib3's HTTPError."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"} | ({"Connection": "close"} if connects else {})
    answer = _POOL.request("POST", f"{url}/v2/models/{name}/infer", body=_ROW, headers=headers, timeout=timeout)
    return answer.status, json.loads(answer.data)["outputs"][0]["data"][0] if answer.status == 200 else answer.data


@dataclass
class Caller:
    """Sends requests without a pause, and keeps each answer; a request without one is (0, reason)."""

    url: str
    name: str
    connects: bool = False
    answers: list[tuple[int, Any]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def _call(self) -> None:
        while not self._stopping.wait(0.02):
            try:
                self.answers.append(predict(self.url, self.name, connects=self.connects))
            except urllib3.exceptions.HTTPError as error:
                self.answers.append((0, str(error)))

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Two threads of requests, until the end of the block."""
        threads = [threading.Thread(target=self._call) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    @property
    def failures(self) -> list[tuple[int, Any]]:
        """The answers that are no prediction."""
        return [answer for answer in self.answers if answer[0] != 200]


@contextlib.contextmanager
def records(folder: Path) -> Iterator[tuple[database.Database, secrets.Keyring]]:
    """An empty database and its keys."""
    store = databases.on_sqlite(folder / "fuseml.db")
    with contextlib.closing(store):
        yield store, secrets.Keyring([secrets.new_key()])


def models_in(folder: Path) -> Models:
    """Models in folders of this machine."""

    def model(number: int, load: str) -> Model:
        path = folder / f"model-{number}"
        (path / "code").mkdir(parents=True)
        (path / "code" / f"constant_{number}.py").write_text(_CONSTANT.format(load=load, answer=float(number)))
        (path / "MLmodel").write_text(f"flavors: {{python_function: {{loader_module: constant_{number}, code: code}}}}\n")
        return Model(str(path), float(number) if load == "pass" else None)

    return Models(model(1, "pass"), model(2, "pass"), model(3, "raise ModuleNotFoundError('no module named torch')"))


_CONSTANT = """
class Constant:
    def predict(self, data):
        return data * 0 + {answer}

def _load_pyfunc(path):
    {load}
    return Constant()
"""


@contextlib.contextmanager
def embedded_serving(folder: Path) -> Iterator[UnderTest]:
    """The serving of `fuseml up`, with its model servers and its routes."""
    with records(folder) as (store, keyring):
        starter = model_process.Starter(
            folder / "apps",
            runtimes=folder / "environments",
            environment={"PATH": os.environ["PATH"], "HOME": str(folder)},
            unseal=keyring.unseal,
            tracking_url="",
            processes=access.ProcessTokens(),
        )
        apps = model_servers.ModelServers(store, starter, idle=600.0)
        tokens = auth.Tokens({auth.digest_of(_TOKEN): auth.Caller("admin", "admin")})
        routes = mount.own_app(apps, {}, tokens, lambda: {"status": "ready"}, store)
        apps.start()
        try:
            with gitea.listening(routes) as server:
                yield UnderTest(EmbeddedServing(apps, f"http://127.0.0.1:{server.port}"), store, keyring, models_in(folder))
        finally:
            apps.stop()


@contextlib.contextmanager
def knative_serving(folder: Path) -> Iterator[UnderTest]:
    """Knative's serving over processes of this machine."""
    with (
        records(folder) as (store, keyring),
        knative_pods.running(folder) as (_, url),
        contextlib.closing(knative.Cluster(kubernetes_api.NAMESPACE, url)) as cluster,
    ):
        serving = knative.KnativeServing(cluster, knative.Settings(image="ghcr.io/fuseml/model-server:v1"))
        yield UnderTest(serving, store, keyring, models_in(folder))


@contextlib.contextmanager
def real_knative_serving(folder: Path) -> Iterator[UnderTest]:
    """Knative's serving on a cluster, in a namespace of its own. Skips the test without a cluster."""
    with (
        on_cluster.own_namespace("serving-contract") as (namespace, _),
        records(folder) as (store, keyring),
        mlflow_models.tracking_server(folder) as tracking,
        contextlib.closing(knative.Cluster(namespace)) as cluster,
    ):
        serving = knative.KnativeServing(cluster, knative.Settings(image=image("SERVING"), timeout=60, patience=60, cpu="25m"))
        first, second, broken = (Model(f"models:/tiny/{version}", answer, tracking) for version, answer in ((1, 1.0), (2, 2.0), (3, None)))
        yield UnderTest(serving, store, keyring, Models(first, second, broken), patience=waiting.CLUSTER_PATIENCE)


ACCOUNT = {
    "AWS_ACCESS_KEY_ID": model_pods.KEY_ID,
    "AWS_SECRET_ACCESS_KEY": model_pods.SECRET,
    "MLFLOW_S3_ENDPOINT_URL": "http://s3.example.com:9000",
}
_IN_BUCKET = Models(*(Model(address, answer) for address, answer in model_pods.ANSWERS.items()))


@contextlib.contextmanager
def kserve_serving(folder: Path, options: Mapping[str, str]) -> Iterator[UnderTest]:
    """KServe's serving over a small controller."""
    with (
        records(folder) as (store, keyring),
        kserve_controller.running() as (_, url),
        contextlib.closing(kserve.Cluster(kubernetes_api.NAMESPACE, url)) as cluster,
    ):
        serving = kserve.KServeServing(cluster, kserve.Settings(settling=0.2))
        fields = {"served_by": "kserve-api", "options": options}
        yield UnderTest(serving, store, keyring, _IN_BUCKET, environment=ACCOUNT, fields=fields)


@contextlib.contextmanager
def seldon_serving(folder: Path) -> Iterator[UnderTest]:
    """The serving of Seldon Core 1 over a small controller."""
    with (
        records(folder) as (store, keyring),
        seldon_controllers.core_1() as (_, url),
        contextlib.closing(seldon.Cluster(kubernetes_api.NAMESPACE, url)) as cluster,
    ):
        serving = seldon.SeldonServing(cluster, seldon.Settings())
        yield UnderTest(serving, store, keyring, _IN_BUCKET, environment=ACCOUNT, fields={"served_by": "seldon-core-api"})


@contextlib.contextmanager
def seldon_v2_serving(folder: Path) -> Iterator[UnderTest]:
    """The serving of Seldon Core 2 over a small controller."""
    with (
        records(folder) as (store, keyring),
        seldon_controllers.core_2() as (controller, url),
        contextlib.closing(seldon_v2.Cluster(kubernetes_api.NAMESPACE, url)) as cluster,
    ):
        serving = seldon_v2.SeldonV2Serving(cluster, seldon_v2.Settings(settling=0.2))
        yield UnderTest(
            serving,
            store,
            keyring,
            _IN_BUCKET,
            environment=ACCOUNT,
            fields={"served_by": "seldon-core-v2-api", "options": {"gateway": controller.url}},
            model_in_requests=lambda name: f"{name}.experiment",
        )


@contextlib.contextmanager
def real_tool(
    folder: Path, definition: str, connect: Callable[[str], contextlib.AbstractContextManager[servings.Serving]], **fields: Any
) -> Iterator[UnderTest]:
    """The serving of another tool on a cluster that has its `definition`, in a namespace of its own. Skips the test without a cluster or tool."""
    with on_cluster.own_namespace("serving-contract") as (namespace, _):
        if definition not in commands.run(["kubectl", "get", "crds", "--output=name"]).stdout:
            pytest.skip(f"needs KUBECONFIG of a cluster with {definition}, and a runtime of it that serves scikit-learn by the protocol v2")
        with records(folder) as (store, keyring), bucket_models.bucket(folder) as bucket, connect(namespace) as serving:
            models = Models(*(Model(f"{bucket.address}/{name}", answer) for name, answer in bucket_models.ANSWERS.items()))
            yield UnderTest(
                serving,
                store,
                keyring,
                models,
                patience=waiting.CLUSTER_PATIENCE,
                environment=bucket.environment,
                fields={"format": "sklearn", **fields},
            )


@contextlib.contextmanager
def _kserve_on_cluster(namespace: str) -> Iterator[servings.Serving]:
    with contextlib.closing(kserve.Cluster(namespace)) as cluster:
        yield kserve.KServeServing(cluster, kserve.Settings(timeout=20, cpu="25m"))


@contextlib.contextmanager
def _seldon_on_cluster(namespace: str) -> Iterator[servings.Serving]:
    with contextlib.closing(seldon.Cluster(namespace)) as cluster:
        yield seldon.SeldonServing(cluster, seldon.Settings(cpu="25m"))


@contextlib.contextmanager
def real_kserve(folder: Path, mode: str) -> Iterator[UnderTest]:
    """KServe's serving on a cluster. Without the Gateway API its mode Standard splits no requests."""
    definition = "inferenceservices.serving.kserve.io"
    with real_tool(folder, definition, _kserve_on_cluster, served_by="kserve-api", options={"mode": mode}) as under_test:
        under_test.splits = under_test.moves_connections = mode == "Knative"
        yield under_test


@contextlib.contextmanager
def real_seldon(folder: Path) -> Iterator[UnderTest]:
    """The serving of Seldon Core 1 on a cluster."""
    with real_tool(folder, "seldondeployments.machinelearning.seldon.io", _seldon_on_cluster, served_by="seldon-core-api") as under_test:
        under_test.moves_connections = False
        yield under_test


SERVINGS: dict[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {
    "embedded": embedded_serving,
    "knative": knative_serving,
    "real knative": real_knative_serving,
    "kserve": lambda folder: kserve_serving(folder, {}),
    "kserve standard": lambda folder: kserve_serving(folder, {"mode": "Standard", "gateway": "yes"}),
    "real kserve": lambda folder: real_kserve(folder, "Knative"),
    "real kserve standard": lambda folder: real_kserve(folder, "Standard"),
    "seldon core 1": seldon_serving,
    "real seldon core 1": real_seldon,
    "seldon core 2": seldon_v2_serving,
}
"""How to bring up each serving, given an empty folder."""

PARAMS = [pytest.param(name, marks=pytest.mark.cluster if name.startswith("real ") else ()) for name in SERVINGS]
"""The servings for a fixture's `params`."""
