"""The predictor step against stand-ins of the API and of an application whose model is being replaced."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.steps import model_digest

from . import steps

NAME = "workspace-wine-mlflow-e2e"
MODEL = "models:/wine/2"
DIGEST = "sha256:" + "0" * 64
REPLACEMENT = {"revision": 3, "status": "starting", "run": "mlflow-e2e-2", "model": "models:/wine/3"}
REPLACED = (
    f"the application '{NAME}' was replaced by mlflow-e2e-2, which serves models:/wine/3:"
    " give the workflow a 'concurrency' group if its runs must not overlap"
)


class Platform(http.server.ThreadingHTTPServer):
    """Registers applications. Responds with `answers` in turn for the metadata, and with `records` in turn for the application, a pair with its
    status; the last one is repeated. `state` is that of the server of applications, which has none by default."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.applications: list[Any] = []
        self.tokens: list[str | None] = []
        self.answers: list[tuple[int, object]] = []
        self.records: list[object] = [{"revision": 2}]
        self.state: object = None
        self.refusal: tuple[int, object] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Platform

    def do_POST(self) -> None:
        self.server.tokens.append(self.headers["Authorization"])
        self.server.applications.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(*(self.server.refusal or (201, {**self.server.applications[-1], "revision": 2})))

    def do_GET(self) -> None:
        if "/api/2.0/mlflow/" not in self.path:
            self.server.tokens.append(self.headers["Authorization"])
        if self.path == f"/apps/{NAME}/v2/health/ready":
            self.answer(200, {"ready": True})
        elif self.path == f"/apps/{NAME}/v2/models/{NAME}":
            self.answer(*(self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]))
        elif self.path == "/mlflow/api/2.0/mlflow/registered-models/alias?name=wine&alias=champion":
            self.answer(200, {"model_version": {"name": "wine", "version": "2"}})
        elif self.path == "/mlflow/api/2.0/mlflow/model-versions/get?name=wine&version=2":
            self.answer(200, {"model_version": {"tags": [{"key": "fuseml.digest", "value": DIGEST}, {"key": "other", "value": "x"}]}})
        elif self.path.startswith("/applications/"):
            record = self.server.records.pop(0) if len(self.server.records) > 1 else self.server.records[0]
            self.answer(*(record if isinstance(record, tuple) else (200, record)))
        elif self.path == f"/apps/{NAME}" and self.server.state is not None:
            self.answer(200, self.server.state)
        else:
            self.answer(404, {"message": f"nothing at {self.path}"})

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def serving(model: str) -> tuple[int, object]:
    return 200, {"name": NAME, "versions": ["1"], "platform": "mlflow", "parameters": {"model_uri": model}}


def predict(platform: Platform, tmp_path: Path, **variables: str) -> steps.CompletedStep:
    settings = {
        "FUSEML_API_URL": platform.url,
        "FUSEML_APPS_URL": f"{platform.url}/apps/",
        "FUSEML_API_TOKEN": "t0ken",
        "FUSEML_MODEL": MODEL,
        "FUSEML_TIMEOUT": "20",
        "MLFLOW_TRACKING_URI": platform.url,
        "TASK_RESULT": "prediction-url",
    }
    return steps.run("predictor", steps.codeset(tmp_path / "wine"), **{**settings, **variables})


def test_the_digest_of_the_model_goes_along_and_the_token_of_the_step_stays_here(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving(MODEL)]
    account = {"MLFLOW_TRACKING_TOKEN": "t0ken", "AWS_ACCESS_KEY_ID": "ada"}
    ended = predict(platform, tmp_path, MLFLOW_TRACKING_URI=f"{platform.url}/mlflow", **account)
    assert ended.code == 0, ended.err
    (registered,) = platform.applications
    assert registered["digest"] == DIGEST
    assert registered["environment"] == {"AWS_ACCESS_KEY_ID": "ada"}


def test_batches_are_options_of_the_model_server(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving(MODEL)]
    ended = predict(platform, tmp_path, FUSEML_BATCH_SIZE="64", FUSEML_BATCH_WAIT="20")
    assert ended.code == 0, ended.err
    assert platform.applications[0]["environment"] == {"FUSEML_BATCH_SIZE": "64", "FUSEML_BATCH_WAIT": "20"}


@pytest.mark.parametrize(("name", "value"), [("batch-size", "0"), ("batch-size", "x"), ("batch-wait", "60001")])
def test_invalid_batches_are_refused(name: str, value: str, platform: Platform, tmp_path: Path) -> None:
    ended = predict(platform, tmp_path, **{f"FUSEML_{name.upper().replace('-', '_')}": value})
    assert (ended.code, f"the input '{name}' must be a number of" in ended.err, platform.applications) == (1, True, [])


def test_an_alias_is_resolved_before_the_registration_which_names_both(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving(MODEL)]
    moving = {"FUSEML_MODEL": "models:/wine@champion", "FUSEML_FOLLOW": "true", "MLFLOW_TRACKING_URI": f"{platform.url}/mlflow"}
    ended = predict(platform, tmp_path, **moving)
    assert ended.code == 0, ended.err
    (registered,) = platform.applications
    assert {name: registered[name] for name in ("model", "requested", "follow", "digest")} == {
        "model": MODEL,
        "requested": "models:/wine@champion",
        "follow": True,
        "digest": DIGEST,
    }
    assert (ended.outputs["model-version"], ended.outputs["model-digest"]) == ("2", DIGEST)
    assert f"models:/wine@champion, now {MODEL} ({DIGEST})" in ended.out


def test_an_alias_that_does_not_exist_registers_nothing(platform: Platform, tmp_path: Path) -> None:
    ended = predict(platform, tmp_path, FUSEML_MODEL="models:/wine@unknown", MLFLOW_TRACKING_URI=f"{platform.url}/mlflow")
    assert (ended.code, platform.applications) == (1, [])
    assert "registered-models/alias" in ended.err


def test_a_model_in_another_store_is_held_by_the_digest_of_its_files(platform: Platform, tmp_path: Path) -> None:
    model = tmp_path / "store" / "main" / "wine"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}")
    platform.answers = [serving(model.as_uri())]
    ended = predict(platform, tmp_path, FUSEML_MODEL=model.as_uri())
    assert ended.code == 0, ended.err
    (registered,) = platform.applications
    assert (registered["model"], registered["digest"]) == (model.as_uri(), model_digest.of_folder(model))
    assert "requested" not in registered


def test_the_step_ends_once_the_new_model_is_served(platform: Platform, tmp_path: Path) -> None:
    starting = 503, {"name": "unavailable", "message": "the model server is starting", "temporary": True}
    platform.answers = [serving("models:/wine/1"), starting, serving(MODEL)]
    ended = predict(platform, tmp_path, FUSEML_RUNTIME="fuseml.local/mlflow-trainer:0123")
    assert ended.code == 0, ended.err
    assert ended.outputs == {
        "prediction-url": f"{platform.url}/apps/{NAME}/v2/models/{NAME}/infer",
        "model-version": "2",
        "model-digest": "",
    }
    assert len(platform.answers) == 1
    assert platform.applications == [
        {
            "name": NAME,
            "type": "predictor",
            "description": "models:/wine/2, trained by mlflow-e2e-1 from workspace/wine",
            "url": ended.outputs["prediction-url"],
            "workflow": "mlflow-e2e",
            "k8s_namespace": "",
            "k8s_resources": [],
            "project": "workspace",
            "codeset": "wine",
            "run": "mlflow-e2e-1",
            "model": MODEL,
            "runtime": "fuseml.local/mlflow-trainer:0123",
            "tracking_uri": platform.url,
            "served_by": "fuseml-serving",
            "environment": {},
        }
    ]
    assert set(platform.tokens) == {"Bearer t0ken"}
    assert "t0ken" not in ended.out + ended.err


def test_the_record_provides_an_address_that_is_not_known_before(platform: Platform, tmp_path: Path) -> None:
    url = f"http://{NAME}.models.example.com/v2/models/{NAME}/infer"
    platform.records = [
        {"revision": 2, "status": "starting", "cause": "the model is being loaded"},
        {"revision": 2, "status": "ready", "url": url},
    ]
    secrets = {"MLFLOW_TRACKING_PASSWORD": "pa55word", "AWS_ACCESS_KEY_ID": "reader", "HARMLESS": "no"}
    ended = predict(platform, tmp_path, FUSEML_APPS_URL="", FUSEML_SERVING="fuseml-serving", **secrets)
    assert ended.code == 0, ended.err
    assert ended.outputs == {"prediction-url": url, "model-version": "2", "model-digest": ""}
    (registered,) = platform.applications
    assert registered["url"] == ""
    assert registered["environment"] == {"MLFLOW_TRACKING_PASSWORD": "pa55word", "AWS_ACCESS_KEY_ID": "reader"}
    assert "pa55word" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("record", "cause"),
    [
        (
            {"revision": 2, "status": "failed", "cause": "no module named torch"},
            f"the application '{NAME}' cannot serve {MODEL}: no module named torch",
        ),
        (REPLACEMENT, REPLACED),
    ],
    ids=["it failed", "it was replaced"],
)
def test_a_permanent_problem_in_the_record_ends_the_step(platform: Platform, tmp_path: Path, record: object, cause: str) -> None:
    platform.records = [record]
    ended = predict(platform, tmp_path, FUSEML_APPS_URL="")
    assert (ended.code, ended.err) == (1, f"{cause}\n")


def test_an_application_that_another_run_replaces_ends_the_step(platform: Platform, tmp_path: Path) -> None:
    """Where the application is read as its clients do, too: two runs of one workflow replace each other's model in any order."""
    platform.answers = [serving("models:/wine/1"), serving("models:/wine/1"), serving("models:/wine/3")]
    platform.records = [{"revision": 2}, REPLACEMENT]
    ended = predict(platform, tmp_path)
    assert (ended.code, ended.outputs, ended.err) == (1, {}, f"{REPLACED}\n")


@pytest.mark.parametrize("record", [{"revision": 2}, (503, {"message": "busy"}), (404, {"message": "gone", "temporary": False})])
def test_a_new_model_that_cannot_be_served_ends_the_step_whether_or_not_the_api_answers(
    platform: Platform, tmp_path: Path, record: object
) -> None:
    platform.answers = [serving("models:/wine/1")]
    platform.records, platform.state = [record], {"failed": "no module named torch"}
    ended = predict(platform, tmp_path)
    cause = f"the application '{NAME}' cannot serve {MODEL} and keeps the former model: no module named torch"
    assert (ended.code, ended.err) == (1, f"{cause}\n")


def test_a_server_without_a_state_does_not_hide_a_replacement(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving("models:/wine/1")]
    platform.records = [(503, {"message": "busy"}), REPLACEMENT]
    assert predict(platform, tmp_path).err == f"{REPLACED}\n"


def test_a_preview_has_a_name_of_its_own(platform: Platform, tmp_path: Path) -> None:
    platform.records = [{}]
    predict(platform, tmp_path, FUSEML_PREVIEW="feature-1a2b3c", FUSEML_APPS_URL="", FUSEML_TIMEOUT="1")
    assert (platform.applications[0]["name"], platform.applications[0]["preview"]) == (f"{NAME}-feature-1a2b3c", "feature-1a2b3c")


def test_without_code_each_registered_model_has_an_application_of_its_own(platform: Platform, tmp_path: Path) -> None:
    platform.records = [{}] * 3
    expected = {
        "models:/wine/2": "workspace-wine-mlflow-e2e",
        "models:/Rosé/1": "workspace-ros-mlflow-e2e-49a049a0",
        "s3://x/m": "workspace-mlflow-e2e",
    }
    for number, model in enumerate(expected):
        folder = tmp_path / str(number)
        folder.mkdir()
        predict(platform, folder, FUSEML_ENV_CODESET="", FUSEML_MODEL=model, FUSEML_APPS_URL="", FUSEML_TIMEOUT="1")
    assert [item["name"] for item in platform.applications] == list(expected.values())


def test_the_token_does_not_go_to_another_host(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving(MODEL)]
    ended = predict(platform, tmp_path, FUSEML_APPS_URL=f"http://localhost:{platform.server_port}/apps")
    assert ended.code == 0, ended.err
    assert platform.tokens == ["Bearer t0ken", None, None]


def test_an_unservable_model_fails_at_once_with_the_servers_message(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [(500, {"name": "fault", "message": "cannot load models:/wine/2: no module named torch", "temporary": False})]
    ended = predict(platform, tmp_path)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err == f"the application '{NAME}' cannot serve models:/wine/2: cannot load models:/wine/2: no module named torch\n"


def test_a_timeout_reports_the_last_problem(platform: Platform, tmp_path: Path) -> None:
    platform.answers = [serving("models:/wine/1")]
    ended = predict(platform, tmp_path, FUSEML_TIMEOUT="1")
    assert ended.code == 1
    assert ended.err == f"the application '{NAME}' does not serve models:/wine/2 after 1 s: it still serves models:/wine/1\n"


def test_a_refused_registration_is_the_cause(platform: Platform, tmp_path: Path) -> None:
    platform.refusal = 403, {"name": "forbidden", "message": "the project workspace is not yours", "temporary": False}
    ended = predict(platform, tmp_path)
    assert ended.code == 1
    assert ended.err == f"POST {platform.url}/applications: 403: the project workspace is not yours\n"


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"FUSEML_MODEL": ""}, "the input 'model' is missing"),
        ({"FUSEML_APP_NAME": "My App"}, "the input 'app-name' is 'My App': use lower-case letters"),
        ({"FUSEML_TIMEOUT": "soon"}, "the input 'timeout' must be a number of seconds, not 'soon'"),
        ({"FUSEML_API_URL": ""}, "FUSEML_API_URL is not set: give the workflow step an extension"),
    ],
)
def test_an_invalid_input_is_reported_in_one_line(platform: Platform, variables: dict[str, str], cause: str, tmp_path: Path) -> None:
    ended = predict(platform, tmp_path, **variables)
    assert (ended.code, ended.err.count("\n"), platform.applications) == (1, 1, [])
    assert cause in ended.err
