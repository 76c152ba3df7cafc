"""The demo's story against a small world that behaves as the contract says, and its handling of the server process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fuseml.cli import output
from fuseml.cli.demo import checkout, screen, server, story
from fuseml.client import api, git, shapes
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, Request
from tests.waiting import wait_until

_ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass
class Page:
    """A screen that remembers what was shown."""

    steps: list[str] = field(default_factory=list)
    failed: str = ""
    told: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[screen.Note]:
        note = screen.Note(title)
        try:
            yield note
        except BaseException:
            self.failed = title
            raise
        self.steps.append(title)
        self.told.append(note.result)

    def run(self, title: str, looks: Iterable[shapes.Run]) -> shapes.Run:
        self.steps.append(title)
        return list(looks)[-1]

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        self.told.append(f"{title}: {[[output.text(column.read(row)) for column in columns] for row in rows]}")

    def lines(self, title: str, lines: Sequence[str]) -> None:
        self.told.append(f"{title}: {list(lines)}")


@dataclass
class World:
    """A FuseML that does what the contract says, as far as the story looks: a push or an assignment makes a run that succeeds."""

    repository: Path
    assigned: bool = False
    mlflow: Iterator[str] = field(default_factory=lambda: iter(["starting", "starting", "ready"]))
    run_state: str = "succeeded"
    deaf_to_pushes: bool = False
    keeps_old_model: bool = False
    same_prediction: bool = False
    extension: dict[str, object] = field(default_factory=dict)
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
        commits = [] if not self.assigned else self.commits()[-1:] if self.deaf_to_pushes else self.commits()
        step = {"name": "trainer", "state": self.run_state, "outputs": {"metrics": '{"rmse": 53.5, "note": "text"}'}}
        found = [
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
        return found[::-1]

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
    world: World
    page: Page
    story: story.Story


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    repository = tmp_path / "diabetes.git"
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", repository], environment=_ENVIRONMENT)
    world, page = World(repository), Page()
    with canned_api.serve(world.routes(), token=None) as running:
        world.url = running.url
        ticks = iter(range(1_000_000))
        yield Stage(
            world,
            page,
            story.Story(
                api.Client(running.url),
                page,
                tmp_path / "checkout",
                lambda registration: git.Remote(registration["codeset"]["url"], environment=_ENVIRONMENT),
                clock=lambda: float(next(ticks)),
                sleep=lambda _: None,
            ),
        )


def test_the_story_goes_from_an_empty_server_to_a_second_model(stage: Stage) -> None:
    first, second = stage.story.tell()
    assert (first.model, second.model) == ("models:/diabetes/1", "models:/diabetes/2")
    assert (first.prediction, second.prediction) == (151.0, 152.0)
    assert stage.page.steps == [
        "Create a project and a codeset",
        "Push the example's code with git",
        "Create the workflow",
        "Wait for the embedded MLflow",
        "Register MLflow as an extension",
        "Assign the workflow to the codeset",
        "The first run",
        "Ask the served model about a patient",
        "Change a hyperparameter and push",
        "The second run",
        "Ask the served model about a patient",
        "Compare both predictions",
    ]
    told = "\n".join(stage.page.told)
    assert "[['rmse', '53.5']]" in told
    assert "model://demo/diabetes/2" in told


def test_mlflow_is_registered_with_its_real_urls_and_version(stage: Stage) -> None:
    stage.story.tell()
    record = stage.world.extension
    url = f"{stage.world.url}/mlflow"
    assert (record["id"], record["product"], record["version"]) == ("mlflow", "mlflow", "3.17.2")
    found = {
        (service["resource"], service["category"]): service["endpoints"][0]  # type: ignore[index]
        for service in record["services"]  # type: ignore[attr-defined]
    }
    assert found["mlflow-tracking", "experiment-tracking"]["configuration"] == {"MLFLOW_TRACKING_URI": url}
    assert found["mlflow-artifacts", "model-store"]["url"] == f"{url}/api/2.0/mlflow-artifacts"


def test_the_push_of_the_story_changes_one_default_only(stage: Stage) -> None:
    stage.story.tell()
    diff = commands.run(["git", "diff", "--unified=0", "main~1", "main"], cwd=stage.world.repository, environment=_ENVIRONMENT).stdout
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2
    assert all("alpha" in line for line in changed)


def test_a_failed_run_ends_the_story_with_its_cause_and_the_end_of_its_log(stage: Stage) -> None:
    stage.world.run_state = "failed"
    with pytest.raises(errors.PermanentError, match="run mlflow-e2e-1 failed: exit code 1"):
        stage.story.tell()
    assert "End of the log of trainer: ['one', 'two']" in stage.page.told


def test_an_mlflow_that_fails_ends_the_story_at_once(stage: Stage) -> None:
    stage.world.mlflow = iter(["starting", "failed"])
    with pytest.raises(errors.PermanentError, match="no disk"):
        stage.story.tell()
    assert stage.page.failed == "Wait for the embedded MLflow"


def test_a_push_that_starts_no_run_fails_the_story(stage: Stage) -> None:
    stage.world.deaf_to_pushes = True
    with pytest.raises(errors.TemporaryError, match="the push started no run"):
        stage.story.tell()


def test_an_application_that_keeps_the_old_model_fails_the_story(stage: Stage) -> None:
    stage.world.keeps_old_model = True
    with pytest.raises(errors.TemporaryError, match="no application serves what run mlflow-e2e-2 made"):
        stage.story.tell()


def test_a_prediction_that_did_not_change_fails_the_story(stage: Stage) -> None:
    stage.world.same_prediction = True
    with pytest.raises(errors.PermanentError, match="predicts what"):
        stage.story.tell()
    assert stage.page.failed == "Compare both predictions"


def test_the_row_of_the_story_is_the_first_of_the_real_data_set() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_diabetes()
    assert list(story.ROW) == data.feature_names
    assert list(story.ROW.values()) == pytest.approx(list(data.data[0]), abs=1e-14)
    assert data.target[0] == story.MEASURED


def test_the_shipped_example_has_what_the_story_changes(tmp_path: Path) -> None:
    checkout.unpack_example(tmp_path)
    before = (tmp_path / "MLproject").read_text()
    after, old, new = checkout.change_default(before, story.PARAMETER, 10)
    assert float(new) == pytest.approx(10 * float(old))
    assert after == before.replace(f"default: {old}", f"default: {new}")
    assert checkout.workflow_text().startswith(f"name: {checkout.WORKFLOW}")


@pytest.mark.parametrize(
    ("written", "changed"),
    [
        ("alpha: {type: float, default: 0.1}  # small", "alpha: {type: float, default: 1}  # small"),
        ("alpha:\n        default: '0.5'\n        type: float", "alpha:\n        default: 5\n        type: float"),
    ],
)
def test_a_default_is_changed_wherever_it_is_written_and_nothing_else(written: str, changed: str) -> None:
    document = "# é\nentry_points:\n  main:\n    parameters:\n      {}\n    command: train --alpha {{alpha}} # default: 0.1\n"
    assert checkout.change_default(document.format(written), "alpha", 10)[0] == document.format(changed)


@pytest.mark.parametrize("document", ["", "entry_points: {main: {}}", "entry_points: {main: {parameters: {alpha: {default: big}}}}", "[]"])
def test_a_project_without_the_hyperparameter_is_told(document: str) -> None:
    with pytest.raises(errors.InvalidError, match="no numeric default"):
        checkout.change_default(document, "alpha", 10)


@pytest.mark.parametrize("answer", [[], [1.0, 2.0], ["high"], [float("nan")], [None]])
def test_an_answer_that_is_not_one_number_is_refused(answer: list[object]) -> None:
    with pytest.raises(errors.PermanentError, match="instead of one number"):
        story.number_in(answer)


# The server process.

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
    noted = "import os; (home / 'variables').write_text(' '.join(os.environ) + os.environ['TMPDIR'])"
    running = server.start(tmp_path, {"PATH": os.environ["PATH"], "FUSEML_TOKEN": "mine"}, command(noted))
    assert (running.url, running.token) == ("http://127.0.0.1:1", "home-token")
    variables = (tmp_path / "variables").read_text()
    assert "FUSEML_TOKEN" not in variables
    assert variables.endswith(str(tmp_path / "tmp"))
    assert os.getsid(running.process.pid) == running.process.pid
    assert running.stop() == []
    assert running.process.returncode == 0


def test_what_the_server_leaves_behind_is_told_and_ended(tmp_path: Path) -> None:
    running = server.start(tmp_path, _ENVIRONMENT, command(_CHILD))
    left = running.stop()
    assert len(left) == 1
    assert "time.sleep(60)" in left[0]
    wait_until(lambda: server.processes_of(running.process.pid, tmp_path) == {}, "its processes to end")


def test_a_server_that_does_not_end_is_ended(tmp_path: Path) -> None:
    running = server.start(tmp_path, _ENVIRONMENT, [sys.executable, "-c", _SERVER.format(extra="").replace("sys.exit(0)", "None")])
    left = running.stop(timeout=0.3)
    assert "did not end" in left[0]
    assert running.process.returncode == -9


def test_a_server_that_ends_at_its_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(errors.PermanentError, match=r"ended with exit code 3: .*no port"):
        server.start(tmp_path, _ENVIRONMENT, command("print('no port', flush=True); sys.exit(3)"))


def test_a_server_that_does_not_come_up_is_given_up_and_ended(tmp_path: Path) -> None:
    with pytest.raises(errors.TemporaryError, match="within 0"):
        server.start(tmp_path, _ENVIRONMENT, command("time.sleep(60)"), timeout=0.3)
    assert server.processes_of(-1, tmp_path) == {}


def test_other_peoples_processes_are_not_counted(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        assert server.processes_of(-1, tmp_path) == {}
        stranger.kill()
