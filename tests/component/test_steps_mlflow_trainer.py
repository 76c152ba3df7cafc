"""The trainer step against a real MLflow server: command, records, selection of the model, failures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain.runs import causes
from tests.waiting import PATIENCE

from . import conftest, steps

API = "/api/2.0/mlflow"


def run_of(server: str, codeset: str) -> Any:
    """The newest MLflow run of a codeset of the project `workspace`."""
    experiment = steps.call(f"{server}{API}/experiments/get-by-name", experiment_name=f"workspace.{codeset}")["experiment"]
    return steps.call(f"{server}{API}/runs/search", {"experiment_ids": [experiment["experiment_id"]], "max_results": 1})["runs"][0]


def tags(item: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in item["tags"]}


def test_the_shipped_example_has_the_metrics_of_scikit_learn(trained: conftest.Trained) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score, root_mean_squared_error
    from sklearn.model_selection import train_test_split

    assert trained.ended.code == 0, trained.ended.err
    x_train, x_test, y_train, y_test = train_test_split(*load_diabetes(return_X_y=True, as_frame=True), test_size=0.25, random_state=42)
    predicted = Ridge(alpha=1.0).fit(x_train, y_train).predict(x_test)
    metrics = json.loads(trained.ended.outputs["metrics"])
    assert metrics == pytest.approx({"r2": r2_score(y_test, predicted), "rmse": root_mean_squared_error(y_test, predicted)})


def test_the_model_of_the_run_is_the_result(trained: conftest.Trained) -> None:
    outputs = trained.ended.outputs
    assert outputs["mlflow-model-url"] == outputs["model"] == f"models:/sklearn-diabetes/{outputs['model-version']}"
    version = steps.call(f"{trained.mlflow}{API}/model-versions/get", name="sklearn-diabetes", version=outputs["model-version"])[
        "model_version"
    ]
    assert version["run_id"] == outputs["mlflow-run"]
    recorded = tags(version)
    assert re.fullmatch("sha256:[0-9a-f]{64}", recorded.pop("fuseml.digest"))
    assert recorded == {
        "fuseml.run": "mlflow-e2e-1",
        "fuseml.project": "workspace",
        "fuseml.codeset": "sklearn-diabetes",
        "fuseml.commit": steps.COMMIT,
    }


def test_the_run_in_mlflow_records_its_origin(trained: conftest.Trained) -> None:
    run = steps.call(f"{trained.mlflow}{API}/runs/get", run_id=trained.ended.outputs["mlflow-run"])["run"]
    assert run["info"]["status"] == "FINISHED"
    assert {(item["key"], item["value"]) for item in run["data"]["params"]} == {("alpha", "1.0")}
    run_tags = tags(run["data"])
    assert run_tags["mlflow.runName"] == run_tags["fuseml.run"] == "mlflow-e2e-1"
    assert run_tags["mlflow.source.name"] == "workspace/sklearn-diabetes"
    assert run_tags["mlflow.source.type"] == "PROJECT"
    assert run_tags["mlflow.project.entryPoint"] == "main"
    assert run_tags["mlflow.source.git.commit"] == run_tags["fuseml.commit"] == steps.COMMIT
    assert run_tags["fuseml.workflow"] == "mlflow-e2e"


def test_the_log_reports_the_duration_of_the_training(trained: conftest.Trained) -> None:
    assert re.search(r"the command exited with code 0 after [\d.]+ s", trained.ended.out)


def test_a_failing_command_fails_the_step_and_the_mlflow_run(mlflow_server: str, tmp_path: Path) -> None:
    project = "entry_points: {main: {parameters: {code: {default: 3}}, command: \"python -c 'raise SystemExit({code})'\"}}"
    folder = steps.codeset(tmp_path / "failing", MLproject=project)
    ended = steps.run("mlflow_trainer", folder, MLFLOW_TRACKING_URI=mlflow_server)
    assert (ended.code, ended.outputs) == (1, {})
    assert re.fullmatch(r"the training command failed with exit code 3 after [\d.]+ s: python -c 'raise SystemExit\(3\)'\n", ended.err)
    assert run_of(mlflow_server, "failing")["info"]["status"] == "FAILED"


def test_a_program_that_makes_no_model_is_a_training_of_its_own(mlflow_server: str, tmp_path: Path) -> None:
    code = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('rows', 7)\n"
    ended = steps.run(
        "mlflow_trainer", steps.codeset(tmp_path / "prepare", train__py=code), MLFLOW_TRACKING_URI=mlflow_server, FUSEML_MODEL="none"
    )
    assert ended.code == 0, ended.err
    assert (set(ended.outputs), json.loads(ended.outputs["metrics"])) == ({"mlflow-run", "metrics", "artifacts"}, {"rows": 7.0})


TRAPS = {
    # The trainer reads calls of set_experiment in the code, but not one that is made up.
    "experiment": (
        "getattr(mlflow, 'set_' + 'experiment')('mine')\nwith mlflow.start_run():\n    pass",
        r"mlflow\.\S+MlflowException: Cannot start run with ID .* \(train\.py:3\); FuseML has started the MLflow run; remove set_experiment .*",
    ),
    "skops": (
        "from sklearn.ensemble import RandomForestRegressor\nmodel = RandomForestRegressor(2).fit([[1.0], [2.0]], [1.0, 2.0])\n"
        "mlflow.sklearn.log_model(model, name='model', serialization_format='skops')",
        r"mlflow\.\S+MlflowException: The saved sklearn model references untrusted types.* "
        r"\(train\.py:4\); log the model with skops_trusted_types=\[.*",
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_the_cause_of_a_failed_training_is_its_exception_with_advice(mlflow_server: str, tmp_path: Path, trap: str) -> None:
    code, cause = TRAPS[trap]
    project = "entry_points: {main: {parameters: {alpha: {default: one}}, command: 'python train.py'}}"
    folder = steps.codeset(tmp_path / f"trapped-{trap}", MLproject=project, train__py=f"import mlflow, mlflow.sklearn\n{code}\n")
    ended = steps.run("mlflow_trainer", folder, MLFLOW_TRACKING_URI=mlflow_server)
    assert ended.code == 1
    assert re.fullmatch(cause, causes.explain(causes.ORDINARY, ended.out + ended.err, [str(folder)]))


def test_an_exception_that_the_training_handled_is_not_the_cause(mlflow_server: str, tmp_path: Path) -> None:
    code = "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()\n"
    folder = steps.codeset(tmp_path / "handled", MLproject="entry_points: {main: {command: 'python train.py 2>&1'}}", train__py=code)
    ended = steps.run("mlflow_trainer", folder, MLFLOW_TRACKING_URI=mlflow_server)
    cause = causes.explain(causes.ORDINARY, ended.out + ended.err, [str(folder)])
    assert "ZeroDivisionError: division by zero" in ended.out
    assert cause.splitlines()[-1].startswith("the training logged no model")
    assert "exited with code 1: " in cause


def test_a_stopped_step_stops_its_command_and_kills_the_mlflow_run(mlflow_server: str, tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "stopped", MLproject="entry_points: {main: {command: 'echo started; exec sleep 60'}}")
    variables = steps.environment(folder, {"MLFLOW_TRACKING_URI": mlflow_server})
    with subprocess.Popen(steps.command("mlflow_trainer"), cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "started\n" for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert run_of(mlflow_server, "stopped")["info"]["status"] == "KILLED"


LOGS_WITHOUT_MLFLOW = textwrap.dedent(
    """
    import json, os, urllib.request
    def post(path, body):
        request = urllib.request.Request(os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))
    run, experiment = os.environ["MLFLOW_RUN_ID"], os.environ["MLFLOW_EXPERIMENT_ID"]
    for name in ("model", "other"):
        created = post("logged-models", {"experiment_id": experiment, "name": name, "source_run_id": run})
        print(name, created["model"]["info"]["model_id"])
    """
)


def test_an_unregistered_model_is_found_by_its_name(mlflow_server: str, tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "logged", MLproject="name: logged", train__py=LOGS_WITHOUT_MLFLOW)
    ended = steps.run(
        "mlflow_trainer",
        folder,
        MLFLOW_TRACKING_URI=mlflow_server,
        FUSEML_MLFLOW_ENTRYPOINT="train.py",
        FUSEML_MLFLOW_ARTIFACT_PATH="model",
    )
    assert ended.code == 0, ended.err
    logged = dict(line.split() for line in ended.out.splitlines() if re.match(r"(model|other) m-", line))
    assert ended.outputs["model"] == f"models:/{logged['model']}"
    assert "model-version" not in ended.outputs


def test_a_training_without_a_model_fails(mlflow_server: str, tmp_path: Path) -> None:
    folder = steps.codeset(tmp_path / "forgetful", MLproject="entry_points: {main: {command: 'true'}}")
    ended = steps.run("mlflow_trainer", folder, MLFLOW_TRACKING_URI=mlflow_server)
    assert ended.code == 1
    assert ended.err.startswith("the training logged no model: call mlflow.<flavour>.log_model in it")


@pytest.mark.parametrize(
    ("project", "variables", "cause"),
    [
        ("entry_points: {main: {parameters: {}}}", {}, "MLproject: entry_points.main.command: is missing"),
        ("entry_points: {main: {command: a}}", {"FUSEML_PARAMETERS": "beta=1 --gamma"}, "the input 'parameters' must be name=value pairs"),
        ("entry_points: {main: {command: a}}", {"FUSEML_METRIC": "r2"}, "the input 'metric' is 'r2'; write max:NAME or min:NAME"),
        ("entry_points: {main: {command: a}}", {"FUSEML_MLFLOW_ENTRYPOINT_ARGS": "beta"}, "must be name=value pairs"),
        ("entry_points: {main: {command: a, parameters: {f: path}}}", {"FUSEML_F": "x.csv"}, "no file 'x.csv' in the codeset"),
        ("entry_points: {main: {command: a}}", {}, "MLFLOW_TRACKING_URI must be the http(s) URL of an MLflow server"),
        ("entry_points: {main: {command: a}}", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "no answer"),
    ],
)
def test_an_invalid_project_or_input_is_reported_in_one_line(project: str, variables: dict[str, str], cause: str, tmp_path: Path) -> None:
    ended = steps.run("mlflow_trainer", steps.codeset(tmp_path / "wrong", MLproject=project), **variables)
    assert (ended.code, ended.err.count("\n"), ended.outputs) == (1, 1, {})
    assert cause in ended.err
