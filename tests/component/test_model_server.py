"""The model server as a process, with a model of the trainer step: both protocols predict as scikit-learn does."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import textwrap
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3.exceptions

from fuseml.steps import loaded_model, model_server
from fuseml.steps.inference import descriptors
from tests import commands
from tests.waiting import PATIENCE, wait_until

from . import conftest, steps


@dataclass(frozen=True)
class ModelServer:
    """A running model server."""

    url: str
    model: str
    process: subprocess.Popen[str]
    grpc_port: int | None = None

    def call(self, path: str, body: object = None, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and decoded body of any response."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode()


@contextlib.contextmanager
def serve(model: str, log: Path, *arguments: str, **variables: str) -> Iterator[ModelServer]:
    command = [*steps.command("model_server"), "--model", model, "--name", "wine", *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env={**steps.BARE, **variables}, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            report = json.loads(line)
            yield ModelServer(f"http://127.0.0.1:{report['port']}", report["model"], process, report.get("grpc_port"))
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(trained: conftest.Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    log = tmp_path_factory.mktemp("served") / "log"
    with serve(
        trained.ended.outputs["model"], log, "--max-body", "100000", "--grpc-port", "0", MLFLOW_TRACKING_URI=trained.mlflow
    ) as running:
        yield running


@pytest.fixture(scope="module")
def direct() -> tuple[Any, list[float]]:
    """Rows of the example's data, and the predictions of the same model in scikit-learn."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import train_test_split

    x_train, x_test, y_train, _ = train_test_split(*load_diabetes(return_X_y=True, as_frame=True), test_size=0.25, random_state=42)
    rows = x_test.head(3)
    return rows, Ridge(alpha=1.0).fit(x_train, y_train).predict(rows).tolist()


def columns(rows: Any) -> list[dict[str, object]]:
    return [{"name": name, "shape": [len(rows)], "datatype": "FP64", "data": rows[name].tolist()} for name in rows]


def test_it_reports_its_model_once_it_is_ready(server: ModelServer, trained: conftest.Trained) -> None:
    assert server.model == trained.ended.outputs["model"]
    assert server.call("/v2/health/live") == (200, {"live": True})
    assert server.call("/v2/health/ready") == (200, {"ready": True})
    assert server.call("/v2/models/wine/ready") == (200, {"name": "wine", "ready": True})
    assert server.call("/v2")[1]["name"] == "fuseml-model-server"


def test_the_metadata_names_model_version_and_signature(
    server: ModelServer, trained: conftest.Trained, direct: tuple[Any, list[float]]
) -> None:
    version = trained.ended.outputs["model-version"]
    status, metadata = server.call("/v2/models/wine")
    assert status == 200
    assert (metadata["name"], metadata["platform"], metadata["versions"]) == ("wine", "mlflow", [version])
    assert metadata["parameters"] == {"model_uri": server.model}
    assert metadata["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in direct[0]]
    assert metadata["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1]}]
    assert server.call(f"/v2/models/wine/versions/{version}") == (200, metadata)


def test_the_open_inference_protocol_predicts_as_scikit_learn_does(server: ModelServer, direct: tuple[Any, list[float]]) -> None:
    rows, expected = direct
    status, answer = server.call("/v2/models/wine/infer", {"id": "42", "inputs": columns(rows)})
    assert (status, answer["id"], answer["model_name"]) == (200, "42", "wine")
    [output] = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP64", [3])
    assert output["data"] == pytest.approx(expected)
    matrix = {"inputs": [{"name": "predict", "shape": list(rows.shape), "datatype": "FP64", "data": rows.to_numpy().ravel().tolist()}]}
    assert server.call("/v2/models/wine/infer", matrix)[1]["outputs"] == answer["outputs"]


def test_mlflows_own_protocol_predicts_the_same(server: ModelServer, direct: tuple[Any, list[float]]) -> None:
    rows, expected = direct
    status, answer = server.call("/invocations", {"dataframe_split": {"columns": list(rows), "data": rows.to_numpy().tolist()}})
    assert status == 200
    assert answer["predictions"] == pytest.approx(expected)
    assert server.call("/invocations", rows.to_csv(index=False).encode(), "text/csv") == (200, answer)
    assert server.call("/invocations", b"x", "text/plain")[0] == 415
    assert server.call("/invocations", {"nonsense": 1})[0] == 400
    assert server.call("/ping")[0] == server.call("/health")[0] == 200
    assert server.call("/version")[1].startswith("3.")


def test_grpc_predicts_the_same(server: ModelServer, direct: tuple[Any, list[float]]) -> None:
    rows, expected = direct
    messages = descriptors.classes()
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows)], "contents": {"fp64_contents": rows[name].tolist()}}
        for name in rows.columns
    ]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages["ModelInferRequest"].SerializeToString,
            response_deserializer=messages["ModelInferResponse"].FromString,
        )
        answer = call(messages["ModelInferRequest"](model_name="wine", inputs=inputs), timeout=PATIENCE)
    assert list(answer.outputs[0].contents.fp64_contents) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v2/models/wine/infer", b"{", 400, "the body is not JSON"),
        ("/v2/models/wine/infer", b"[" * 50_000, 400, "the body is not JSON"),
        ("/v2/models/wine/infer", {"inputs": []}, 400, 'a list of tensors under "inputs"'),
        ("/v2/models/wine/infer", {"inputs": [{"name": "age", "shape": [1], "datatype": "FP64", "data": [1]}]}, 400, "'sex' is missing"),
        ("/v2/models/wine/infer", b"x" * 200_000, 413, "larger than 100000 bytes"),
        ("/v2/models/wine/infer", None, 405, "Method Not Allowed"),
        ("/v2/models/beer/infer", {"inputs": []}, 404, "no model 'beer'"),
        ("/v2/models/wine/versions/99", None, 404, "version 99"),
        ("/nowhere", None, 404, "Not Found"),
    ],
)
def test_an_invalid_request_is_explained(path: str, body: object, status: int, message: str, server: ModelServer) -> None:
    code, answer = server.call(path, body)
    assert code == status
    assert message in answer["error"]


def test_a_connection_of_the_server_sends_at_once() -> None:
    with model_server.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_missing_model_ends_the_server_with_its_reason(mlflow_server: str, tmp_path: Path) -> None:
    command = [*steps.command("model_server"), "--model", "models:/no-such-model/1", "--name", "wine"]
    environment = {**steps.BARE, "MLFLOW_TRACKING_URI": mlflow_server}
    ended = commands.run(command, environment=environment, code=1)
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("cannot load models:/no-such-model/1: RestException: RESOURCE_DOES_NOT_EXIST")


def _digest(trained: conftest.Trained) -> str:
    """The digest that the trainer recorded."""
    name, version = trained.ended.outputs["model"].removeprefix("models:/").split("/")
    found = steps.call(f"{trained.mlflow}/api/2.0/mlflow/model-versions/get", name=name, version=version)["model_version"]
    return str({tag["key"]: tag["value"] for tag in found["tags"]}["fuseml.digest"])


def test_the_model_with_the_recorded_digest_is_served_to_requests_with_the_key_only(trained: conftest.Trained, tmp_path: Path) -> None:
    variables = {"MLFLOW_TRACKING_URI": trained.mlflow, "FUSEML_MODEL_DIGEST": _digest(trained), "FUSEML_MODEL_SERVER_KEY": "the key"}
    with serve(trained.ended.outputs["model"], tmp_path / "log", **variables) as running:
        for path, body in (("/v2/health/ready", None), ("/ping", None), ("/v2/models/wine/infer", {}), ("/invocations", b"x" * 1000)):
            status, answer = running.call(path, body)
            assert (status, "for the FuseML server only" in answer["error"]) == (401, True), path
        request = urllib.request.Request(f"{running.url}/v2/health/ready", headers={"X-FuseML-Key": "the key"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert json.loads(answer.read()) == {"ready": True}


def test_a_model_whose_code_is_not_in_the_environment_names_what_is_missing(tmp_path: Path) -> None:
    flavor = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"}
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "pickle", "sklearn_version": "1"}
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor, "sklearn": sklearn}, "model_uuid": "m"}))
    (tmp_path / "model.pkl").write_bytes(b"c__main__\nNoSuchNet\n.")
    ended = commands.run([*steps.command("model_server"), "--model", tmp_path.as_uri(), "--name", "wine"], steps.BARE, code=1)
    cause = "AttributeError: Can't get attribute 'NoSuchNet' on .*; a class or function of the model is not in its runtime: .* code_paths"
    assert re.match(f"cannot load {tmp_path.as_uri()}: {cause}", ended.stderr.splitlines()[-1])


def test_a_model_with_another_digest_ends_the_server_before_it_is_loaded(trained: conftest.Trained) -> None:
    model = trained.ended.outputs["model"]
    command = [*steps.command("model_server"), "--model", model, "--name", "wine"]
    wrong = "sha256:" + "0" * 64
    environment = {**steps.BARE, "MLFLOW_TRACKING_URI": trained.mlflow, "FUSEML_MODEL_DIGEST": wrong}
    ended = commands.run(command, environment=environment, code=1)
    assert (
        f"the files of {model} were changed: their digest is {_digest(trained)}, and {wrong} was recorded" in ended.stderr.splitlines()[-1]
    )
    assert "Traceback" not in ended.stderr


class _Relay(socketserver.BaseRequestHandler):
    """Sends the bytes of a connection to the tracking server at `target`, and back."""

    target: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.target) as onward:
            back = threading.Thread(target=self._copy, args=(onward, self.request))
            back.start()
            self._copy(self.request, onward)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def starting_late(url: str, started: Callable[[], bool]) -> Iterator[str]:
    """The address of a tracking server that refuses connections until `started`, and is then that of `url`."""
    address, ended = urllib.parse.urlsplit(url), threading.Event()
    relay = type("Relay", (_Relay,), {"target": (address.hostname, address.port)})

    def listen() -> None:
        wait_until(lambda: ended.is_set() or started(), "a refused connection")
        with socketserver.ThreadingTCPServer(("127.0.0.1", port), relay) as server:
            server.daemon_threads, server.timeout = True, 0.02
            while not ended.is_set():
                server.handle_request()

    port, thread = _free_port(), threading.Thread(target=listen)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_tracking_server_that_is_still_starting_is_tried_again(trained: conftest.Trained, tmp_path: Path) -> None:
    model, log = trained.ended.outputs["model"], tmp_path / "log"
    with (
        starting_late(trained.mlflow, lambda: log.exists() and "is not reachable yet and is tried again" in log.read_text()) as url,
        serve(model, log, "--patience", str(PATIENCE), MLFLOW_TRACKING_URI=url, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0") as running,
    ):
        assert running.call("/v2/health/ready") == (200, {"ready": True})
    assert "Traceback" not in log.read_text()


def test_without_patience_an_unreachable_tracking_server_ends_the_server_with_its_reason() -> None:
    command = [*steps.command("model_server"), "--model", "models:/wine/1", "--name", "wine", "--patience", "0"]
    unreachable = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{_free_port()}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    ended = commands.run(command, environment={**steps.BARE, **unreachable}, code=1)
    assert ended.stderr.splitlines()[-1].startswith("cannot load models:/wine/1: MlflowException: API request to http://127.0.0.1:")
    assert "tried again" not in ended.stderr


class _WrappingError(Exception):
    """As MLflow raises its own error in place of that of the connection."""


def _raised(*chain: Exception) -> Exception:
    """The last error, raised while the ones before it were handled."""
    for former, error in itertools.pairwise(chain):
        error.__context__ = former
    return chain[-1]


_POOL = urllib3.HTTPConnectionPool("mlflow")


@pytest.mark.parametrize(
    ("chain", "unreachable"),
    [
        ([ConnectionRefusedError(111, "refused")], True),
        ([ConnectionResetError(104, "reset"), urllib3.exceptions.ProtocolError("aborted"), _WrappingError()], True),
        ([TimeoutError("timed out")], True),
        ([urllib3.exceptions.ReadTimeoutError(_POOL, "/", "timed out"), _WrappingError()], True),
        ([urllib3.exceptions.MaxRetryError(_POOL, "/", urllib3.exceptions.ResponseError("too many 503")), _WrappingError()], True),
        ([_WrappingError("RESOURCE_DOES_NOT_EXIST")], False),
        ([ModuleNotFoundError("no module named torch")], False),
        ([PermissionError(13, "denied"), _WrappingError()], False),
        ([FileNotFoundError(2, "MLmodel")], False),
        ([ssl.SSLCertVerificationError("self-signed"), urllib3.exceptions.MaxRetryError(_POOL, "/"), _WrappingError()], False),
        ([urllib3.exceptions.SSLError("self-signed"), urllib3.exceptions.MaxRetryError(_POOL, "/"), _WrappingError()], False),
    ],
    ids=lambda value: " > ".join(type(error).__name__ for error in value) if isinstance(value, list) else "",
)
def test_only_errors_of_the_connection_are_tried_again(chain: list[Exception], unreachable: bool) -> None:
    assert loaded_model._is_unreachable(_raised(*chain)) is unreachable


SLOW = textwrap.dedent(
    """
    import pathlib, threading, time
    print("models may print while they load")
    folder, together = pathlib.Path(FOLDER), threading.Barrier(3, timeout=PATIENCE)

    class Slow:
        def predict(self, data):
            if data[0] == 3:
                (folder / "begun").touch()
                while not (folder / "gate").exists():
                    time.sleep(0.02)
            else:
                together.wait()
            if data[0] < 0:
                raise ArithmeticError("below zero")
            return data * 2

    def _load_pyfunc(path):
        return Slow()
    """
)


def test_requests_run_concurrently_and_are_finished_before_the_server_ends(tmp_path: Path) -> None:
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "slow_model.py").write_text(
        SLOW.replace("FOLDER", repr(str(tmp_path))).replace("PATIENCE", str(PATIENCE))
    )
    (tmp_path / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: slow_model, code: code}}\n")

    def double(number: float) -> tuple[int, Any]:
        tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [number]}
        return running.call("/v2/models/wine/infer", {"inputs": [tensor]})

    with serve(str(tmp_path / "model"), tmp_path / "log") as running, concurrent.futures.ThreadPoolExecutor(6) as clients:
        # The model answers none of them before all three are there.
        answers = [clients.submit(double, number) for number in (1.0, 2.0, -1.0)]
        assert [answer.result()[1].get("outputs", [{}])[0].get("data") for answer in answers] == [[2.0], [4.0], None]
        assert answers[2].result() == (
            400,
            {
                "error": "the model failed: ArithmeticError: below zero; the model has no signature: send one tensor of shape [rows, columns], "
                'or one tensor for each column and "parameters": {"content_type": "pd"} in the request'
            },
        )
        assert running.call("/v2/models/wine")[1]["versions"] == ["1"]
        last = clients.submit(double, 3.0)
        wait_until((tmp_path / "begun").exists, "the last request")
        running.process.send_signal(signal.SIGTERM)
        (tmp_path / "gate").touch()
        assert last.result()[1]["outputs"][0]["data"] == [6.0]
        assert running.process.wait(PATIENCE) == 0
        assert running.process.stdout is not None
        assert running.process.stdout.read() == ""  # the report stays the only line
