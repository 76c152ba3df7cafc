"""The demo's scenario against a fake server with canned responses, and its handling of the server's process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import output
from fuseml.cli.demo import checkout, scenario, screen, server
from fuseml.client import api, git, shapes
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, Request
from tests.waiting import wait_until

_ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass
class Recorder:
    """A screen that records its output."""

    steps: list[str] = field(default_factory=list)
    failed: str = ""
    shown: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[screen.Note]:
        note = screen.Note(title)
        try:
            yield note
        except BaseException:
            self.failed = title
            raise
        self.steps.append(title)
        self.shown.append(note.result)

    def run(self, title: str, snapshots: Iterable[shapes.Run]) -> shapes.Run:
        self.steps.append(title)
        return list(snapshots)[-1]

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        self.shown.append(f"{title}: {[[output.text(column.read(row)) for column in columns] for row in rows]}")

    def lines(self, title: str, lines: Sequence[str]) -> None:
        self.shown.append(f"{title}: {list(lines)}")


@dataclass
class FakeServer:
    """A server as far as the scenario needs it: a push or an assignment starts a run, which succeeds."""

    repository: Path
    assigned: bool = False
    mlflow: Iterator[str] = field(default_factory=lambda: iter(["starting", "starting", "ready"]))
    run_state: str = "succeeded"
    ignores_pushes: bool = False
    keeps_old_model: bool = False
    same_prediction: bool = False
    extension: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def routes(self) -> dict[tuple[str, str], canned_api.Route]:
        return {
            ("POST", "/projects"): Answer({"name": "demo"}, 201),
            ("POST", "/codesets"): Answer(
                {"codeset": {"name": "diabetes", "url": f"file://{self.repository}"}, "username": "u", "password": "p"}, 201
            ),
            ("POST", "/workflows"): Answer({"name": "mlflow-e2e", "steps": [{"name": "trainer"}]}, 201),
            ("GET", "/readyz"): self._readiness,
            ("GET", "/mlflow/version"): Answer(b"3.17.2"),
            ("POST", "/extensions"): self._register,
            ("POST", "/workflows/assignments"): self._assign,
            ("GET", "/runs"): self._list_runs,
            ("GET", "/runs/mlflow-e2e-1"): lambda _: Answer(self._runs()[-1]),
            ("GET", "/runs/mlflow-e2e-2"): lambda _: Answer(self._runs()[0]),
            ("GET", "/runs/mlflow-e2e-1/logs/trainer"): Answer(b"one\ntwo\n", headers={"Fuseml-Log-Complete": "true"}),
            ("GET", "/artifacts"): lambda request: Answer([{"address": f"model://demo/diabetes/{request.query['run'][0][-1]}"}]),
            ("GET", "/applications"): self._applications,
            ("GET", "/apps/a/v2/models/a"): Answer({"inputs": [{"name": "bmi", "datatype": "FP64", "shape": [-1]}]}),
            ("POST", "/apps/a/v2/models/a/infer"): self._infer,
        }

    def commits(self) -> list[str]:
        return commands.run(["git", "rev-list", "main"], cwd=self.repository, environment=_ENVIRONMENT).stdout.split()

    def _readiness(self, _: Request) -> Answer:
        status = next(self.mlflow)
        mlflow = {"status": status, "url": f"{self.url}/mlflow"} if status == "ready" else {"status": status, "message": "no disk"}
        return Answer({"status": "ready", "components": {"mlflow": mlflow}})

    def _register(self, request: Request) -> Answer:
        self.extension = json.loads(request.body)
        return Answer(self.extension, 201)

    def _assign(self, request: Request) -> Answer:
        assert request.query == {"name": ["mlflow-e2e"], "codesetProject": ["demo"], "codesetName": ["diabetes"]}
        self.assigned = True
        return Answer(status=201)

    def _runs(self) -> list[dict[str, object]]:
        commits = [] if not self.assigned else self.commits()[-1:] if self.ignores_pushes else self.commits()
        step = {"name": "trainer", "state": self.run_state, "outputs": {"metrics": '{"rmse": 53.5, "note": "text"}'}}
        runs: list[dict[str, object]] = [
            {
                "name": f"mlflow-e2e-{number}",
                "workflow": "mlflow-e2e",
                "commit": commit,
                "state": self.run_state,
                "cause": "exit code 1",
                "steps": [step],
            }
            for number, commit in enumerate(reversed(commits), 1)
        ]
        return runs[::-1]

    def _list_runs(self, request: Request) -> Answer:
        commit = request.query.get("commit", [""])[0]
        return Answer([run for run in self._runs() if commit in ("", run["commit"])])

    def _version(self) -> int:
        return 1 if self.keeps_old_model else len(self.commits())

    def _applications(self, _: Request) -> Answer:
        run = f"mlflow-e2e-{len(self.commits())}"
        return Answer(
            [{"name": "a", "run": run, "model": f"models:/diabetes/{self._version()}", "url": f"{self.url}/apps/a/v2/models/a/infer"}]
        )

    def _infer(self, _: Request) -> Answer:
        return Answer({"outputs": [{"name": "o", "data": [150.0 if self.same_prediction else 150.0 + self._version()]}]})


@dataclass(frozen=True)
class Stage:
    fake: FakeServer
    page: Recorder
    scenario: scenario.Scenario


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    repository = tmp_path / "diabetes.git"
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", repository], environment=_ENVIRONMENT)
    fake, page = FakeServer(repository), Recorder()
    with canned_api.serve(fake.routes(), token=None) as running:
        fake.url = running.url
        ticks = iter(range(1_000_000))
        yield Stage(
            fake,
            page,
            scenario.Scenario(
                api.Client(running.url),
                page,
                tmp_path / "checkout",
                lambda registration: git.Remote(registration["codeset"]["url"], environment=_ENVIRONMENT),
                clock=lambda: float(next(ticks)),
                sleep=lambda _: None,
            ),
        )


def test_the_scenario_leads_from_an_empty_server_to_a_second_model(stage: Stage) -> None:
    first, second = stage.scenario.run()
    assert (first.model, second.model) == ("models:/diabetes/1", "models:/diabetes/2")
    assert (first.value, second.value) == (151.0, 152.0)
    assert stage.page.steps == [
        "Create a project and a codeset",
        "Push the example's code with git",
        "Create the workflow",
        "Wait for the embedded MLflow",
        "Register MLflow as an extension",
        "Assign the workflow to the codeset",
        "The first run",
        "Request a prediction for a patient",
        "Change a hyperparameter and push",
        "The second run",
        "Request a prediction for a patient",
        "Compare both predictions",
    ]
    output = "\n".join(stage.page.shown)
    assert "[['rmse', '53.5']]" in output
    assert "model://demo/diabetes/2" in output


def test_mlflow_is_registered_with_its_real_urls_and_version(stage: Stage) -> None:
    stage.scenario.run()
    record = stage.fake.extension
    url = f"{stage.fake.url}/mlflow"
    assert (record["id"], record["product"], record["version"]) == ("mlflow", "mlflow", "3.17.2")
    endpoints = {(service["resource"], service["category"]): service["endpoints"][0] for service in record["services"]}
    assert endpoints["mlflow-tracking", "experiment-tracking"]["configuration"] == {"MLFLOW_TRACKING_URI": url}
    assert endpoints["mlflow-artifacts", "model-store"]["url"] == f"{url}/api/2.0/mlflow-artifacts"


def test_the_second_push_changes_only_one_default(stage: Stage) -> None:
    stage.scenario.run()
    diff = commands.run(["git", "diff", "--unified=0", "main~1", "main"], cwd=stage.fake.repository, environment=_ENVIRONMENT).stdout
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2
    assert all("alpha" in line for line in changed)


def test_a_failed_run_fails_the_scenario_with_its_cause_and_the_end_of_its_log(stage: Stage) -> None:
    stage.fake.run_state = "failed"
    with pytest.raises(errors.PermanentError, match="run mlflow-e2e-1 failed: exit code 1"):
        stage.scenario.run()
    assert "End of the log of trainer: ['one', 'two']" in stage.page.shown


def test_a_failed_mlflow_fails_the_scenario_at_once(stage: Stage) -> None:
    stage.fake.mlflow = iter(["starting", "failed"])
    with pytest.raises(errors.PermanentError, match="no disk"):
        stage.scenario.run()
    assert stage.page.failed == "Wait for the embedded MLflow"


def test_a_push_that_starts_no_run_fails_the_scenario(stage: Stage) -> None:
    stage.fake.ignores_pushes = True
    with pytest.raises(errors.TemporaryError, match="the push started no run"):
        stage.scenario.run()


def test_an_application_with_the_old_model_fails_the_scenario(stage: Stage) -> None:
    stage.fake.keeps_old_model = True
    with pytest.raises(errors.TemporaryError, match="no application serves the model of run mlflow-e2e-2"):
        stage.scenario.run()


def test_an_unchanged_prediction_fails_the_scenario(stage: Stage) -> None:
    stage.fake.same_prediction = True
    with pytest.raises(errors.PermanentError, match="predict the same value"):
        stage.scenario.run()
    assert stage.page.failed == "Compare both predictions"


def test_the_row_of_the_scenario_is_the_first_of_the_real_data_set() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_diabetes()
    assert list(scenario.ROW) == data.feature_names
    assert list(scenario.ROW.values()) == pytest.approx(list(data.data[0]), abs=1e-14)
    assert data.target[0] == scenario.MEASURED


def test_the_shipped_example_has_the_default_that_the_scenario_changes(tmp_path: Path) -> None:
    checkout.unpack_example(tmp_path)
    before = (tmp_path / "MLproject").read_text()
    after, old, new = checkout.change_default(before, scenario.PARAMETER, 10)
    assert float(new) == pytest.approx(10 * float(old))
    assert after == before.replace(f"default: {old}", f"default: {new}")
    assert checkout.workflow_text().startswith(f"name: {checkout.WORKFLOW}")


@pytest.mark.parametrize(
    ("parameter", "changed"),
    [
        ("alpha: {type: float, default: 0.1}  # small", "alpha: {type: float, default: 1}  # small"),
        ("alpha:\n        default: '0.5'\n        type: float", "alpha:\n        default: 5\n        type: float"),
    ],
)
def test_only_the_default_is_changed_in_any_notation(parameter: str, changed: str) -> None:
    document = "# é\nentry_points:\n  main:\n    parameters:\n      {}\n    command: train --alpha {{alpha}} # default: 0.1\n"
    assert checkout.change_default(document.format(parameter), "alpha", 10)[0] == document.format(changed)


@pytest.mark.parametrize("document", ["", "entry_points: {main: {}}", "entry_points: {main: {parameters: {alpha: {default: big}}}}", "[]"])
def test_a_project_without_the_hyperparameter_is_an_error(document: str) -> None:
    with pytest.raises(errors.InvalidError, match="no numeric default"):
        checkout.change_default(document, "alpha", 10)


@pytest.mark.parametrize("prediction", [[], [1.0, 2.0], ["high"], [float("nan")], [None]])
def test_a_prediction_that_is_not_one_number_is_refused(prediction: list[object]) -> None:
    with pytest.raises(errors.PermanentError, match="not one finite number"):
        scenario.number_in(prediction)


# The server's process

_SERVER = """
import pathlib, signal, subprocess, sys, time
home = pathlib.Path(sys.argv[-1])
(home / "token").write_text("home-token\\n")
{extra}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
(home / "url").write_text("http://127.0.0.1:1\\n")
print("up", flush=True)
time.sleep(60)
"""
_CHILD = 'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(home)], start_new_session=True)'


def command(extra: str = "") -> list[str]:
    return [sys.executable, "-c", _SERVER.format(extra=extra)]


def test_a_server_is_started_with_a_clean_environment_and_stopped(tmp_path: Path) -> None:
    record_variables = "import os; (home / 'variables').write_text(' '.join(os.environ) + os.environ['TMPDIR'])"
    running = server.start(tmp_path, {"PATH": os.environ["PATH"], "FUSEML_TOKEN": "mine"}, command(record_variables))
    assert (running.url, running.token) == ("http://127.0.0.1:1", "home-token")
    variables = (tmp_path / "variables").read_text()
    assert "FUSEML_TOKEN" not in variables
    assert variables.endswith(str(tmp_path / "tmp"))
    assert os.getsid(running.process.pid) == running.process.pid
    assert running.stop() == []
    assert running.process.returncode == 0


def test_surviving_processes_of_the_server_are_killed_and_reported(tmp_path: Path) -> None:
    running = server.start(tmp_path, _ENVIRONMENT, command(_CHILD))
    killed = running.stop()
    assert len(killed) == 1
    assert "time.sleep(60)" in killed[0]
    wait_until(lambda: server.processes_of(running.process.pid, tmp_path) == {}, "its processes to end")


def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    running = server.start(tmp_path, _ENVIRONMENT, [sys.executable, "-c", _SERVER.format(extra="").replace("sys.exit(0)", "None")])
    killed = running.stop(timeout=0.3)
    assert "did not end" in killed[0]
    assert running.process.returncode == -9


def test_a_server_that_ends_at_its_start_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(errors.PermanentError, match=r"ended with exit code 3: .*no port"):
        server.start(tmp_path, _ENVIRONMENT, command("print('no port', flush=True); sys.exit(3)"))


def test_a_server_that_does_not_start_in_time_is_killed(tmp_path: Path) -> None:
    with pytest.raises(errors.TemporaryError, match="within 0"):
        server.start(tmp_path, _ENVIRONMENT, command("time.sleep(60)"), timeout=0.3)
    assert server.processes_of(-1, tmp_path) == {}


def test_unrelated_processes_are_not_counted(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as unrelated:
        assert server.processes_of(-1, tmp_path) == {}
        unrelated.kill()
