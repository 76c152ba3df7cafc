"""The evaluator step with models of scikit-learn: thresholds, the comparison with a served model, and what a failure leads to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.steps import model_digest

from . import scoring, steps

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> scoring.Models:
    return scoring.save(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A codeset with rows whose `y` is that of the exact model plus 0.5, and with classes."""
    amounts = [f"{a},{b},{2 * a + 3 * b + 1.5}" for a, b in scoring.ROWS]
    classes = [f"{a},{b},{'yes' if a + b > 5 else 'no'}" for a, b in scoring.ROWS]
    return steps.codeset(
        tmp_path / "wine", amounts__csv="\n".join(["a,b,y", *amounts]) + "\n", classes__csv="\n".join(["a,b,y", *classes]) + "\n"
    )


def regress(folder: Path, capsys: pytest.CaptureFixture[str], models: scoring.Models, **inputs: str) -> steps.CompletedStep:
    return scoring.run(
        "evaluator", folder, capsys, **{"model": str(models.regression), "data": "amounts.csv", "label": "y", "chunk_rows": "7", **inputs}
    )


def test_a_model_that_meets_its_thresholds_passes(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = regress(folder, capsys, models, thresholds="rmse <= 0.6, r2 > 0.9")
    assert ended.code == 0, ended.err
    assert (ended.outputs["passed"], ended.outputs["compared-with"]) == ("true", "")
    assert json.loads(ended.outputs["metrics"]) == pytest.approx({"mae": 0.5, "rmse": 0.5, "r2": 1 - 0.25 / _variance()})
    assert "40 rows of amounts.csv:\nmetric" in ended.out
    [rmse] = [line.split() for line in ended.out.splitlines() if line.startswith("rmse")]
    assert rmse == ["rmse", "0.5", "<=", "0.6"]


def _variance() -> float:
    values = [2 * a + 3 * b for a, b in scoring.ROWS]
    return sum((value - sum(values) / len(values)) ** 2 for value in values) / len(values)


def test_a_failure_names_metric_value_and_threshold(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = regress(folder, capsys, models, thresholds="rmse <= 0.4, mae < 0.6, r2 > 0.9999")
    assert ended.code == 1
    assert ended.err.startswith(f"{models.regression} does not pass: rmse is 0.5, and <= 0.4 is required; r2 is 0.9")
    assert ended.err.endswith(", and > 0.9999 is required\n")
    assert ended.outputs["passed"] == "false"


def test_a_failure_that_asks_succeeds_with_the_question(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = regress(folder, capsys, models, thresholds="rmse <= 0.4", FUSEML_ON_FAILURE="ask", TASK_RESULT="passed")
    assert (ended.code, ended.outputs["passed"], ended.outputs["summary"]) == (0, "false", "rmse is 0.5, and <= 0.4 is required")
    assert "does not pass, an approval decides: rmse is 0.5" in ended.out


def test_a_classifier_is_measured_as_by_scikit_learn(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.sklearn
    import pandas
    from sklearn import metrics

    rows = pandas.read_csv(folder / "classes.csv")
    model = mlflow.sklearn.load_model(str(models.classifier))
    predicted, scores = model.predict(rows[["a", "b"]]), model.predict_proba(rows[["a", "b"]])
    ended = scoring.run(
        "evaluator",
        folder,
        capsys,
        model=str(models.classifier),
        data="classes.csv",
        label="y",
        thresholds="accuracy > 0.5",
        chunk_rows="9",
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.outputs["metrics"]) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(rows["y"], predicted),
            "precision": metrics.precision_score(rows["y"], predicted, pos_label="yes"),
            "recall": metrics.recall_score(rows["y"], predicted, pos_label="yes"),
            "f1": metrics.f1_score(rows["y"], predicted, pos_label="yes"),
            "roc_auc": metrics.roc_auc_score(rows["y"] == "yes", scores[:, 1]),
            "log_loss": metrics.log_loss(rows["y"], scores),
        }
    )


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "there is nothing to decide by: give the input 'thresholds' or 'compare-with'"),
        ({"thresholds": "rmse <= three"}, "the input 'thresholds', character 9: "),
        ({"thresholds": "rmse <= 3, accuracy > 0.9"}, "'accuracy' is a metric of classification, and 'rmse' one of regression"),
        ({"thresholds": "rmse <= 3", "task": "ranking"}, "the input 'task' must be classification or regression, not 'ranking'"),
        ({"thresholds": "rmse <= 3", "label": "z"}, "amounts.csv: there is no column 'z' (input 'label'); the columns are a, b, y"),
        (
            {"thresholds": "accuracy > 0.5, roc_auc > 0.5"},
            "the metric 'roc_auc' cannot be computed for this model and dataset: it needs probabil",
        ),
        ({"thresholds": "rmse <= 3", "tolerance": "-1"}, "the input 'tolerance' must be a number of at least 0"),
        ({"thresholds": "rmse <= 3", "FUSEML_ON_FAILURE": "wait"}, "must be fail or ask, not 'wait'"),
        ({"FUSEML_COMPARE_WITH": "wine"}, "'compare-with' needs FUSEML_API_URL"),
        (
            {"thresholds": "rmse <= 3", "FUSEML_COMPARE_METRICS": "speed"},
            "the input 'compare-metrics' names 'speed'; the metrics are accuracy",
        ),
        ({"thresholds": "rmse <= 3", "data": "classes.csv"}, "row 1: the label 'no' is not a finite number, and the task is regression"),
    ],
)
def test_an_invalid_input_is_reported_in_one_line(
    inputs: dict[str, str], problem: str, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = regress(folder, capsys, models, **inputs)
    assert (ended.code, ended.outputs) == (1, {})
    assert ended.err.startswith(problem) or problem in ended.err, ended.err


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("1,2,5\n1,2,\n", "amounts.csv: row 2, column 'y': the label is empty: an evaluation needs valid rows only"),
        ("1,2,5\n1,x,5\n", "amounts.csv: row 2, column 'b': 'x' is not an integer, such as 8: an evaluation needs valid rows only"),
        ("", "amounts.csv: there are no rows to evaluate"),
    ],
)
def test_an_evaluation_needs_valid_rows(
    rows: str, problem: str, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "amounts.csv").write_text("a,b,y\n" + rows)
    assert regress(folder, capsys, models, thresholds="rmse <= 3").err == problem + "\n"


# The comparison with a served model


class Api(http.server.ThreadingHTTPServer):
    """Answers `GET /applications/wine` with the record, or as FuseML answers a step for an application that it does not know."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.record: dict[str, object] | None = None
        self.tokens: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        known = self.server.record is not None and self.path == "/applications/wine"
        body = json.dumps(self.server.record if known else {"message": "no application 'wine' belongs to run mlflow-e2e-1"}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def compare(folder: Path, capsys: pytest.CaptureFixture[str], models: scoring.Models, server: Api, **inputs: str) -> steps.CompletedStep:
    account = {"FUSEML_COMPARE_WITH": "wine", "FUSEML_API_URL": f"{server.url}/", "FUSEML_API_TOKEN": "t0ken"}
    return regress(folder, capsys, models, **{**account, **inputs})


def test_the_first_deployment_has_nothing_to_compare_with(
    api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = compare(folder, capsys, models, api)
    assert (ended.code, ended.outputs["passed"], ended.outputs["compared-with"]) == (0, "true", "")
    assert "no application 'wine' of this codeset is served yet, so there is nothing to compare with" in ended.out
    assert api.tokens == {"Bearer t0ken"}
    assert "t0ken" not in ended.out + ended.err


def test_a_model_that_is_worse_than_the_served_one_fails_beyond_the_tolerance(
    api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.record = {"model": str(models.regression)}
    worse = compare(folder, capsys, models, api, model=str(models.biased))
    assert worse.err == (f"{models.biased} does not pass: rmse is 9.5, and that of the served model 0.5 (tolerance 0)\n")
    assert worse.outputs["compared-with"] == str(models.regression)
    assert f"served: {models.regression}" in worse.out
    within = compare(folder, capsys, models, api, model=str(models.biased), tolerance="9.01")
    assert (within.code, within.outputs["passed"]) == (0, "true")
    api.record = {"model": str(models.biased)}
    assert compare(folder, capsys, models, api, thresholds="mae < 1").outputs["passed"] == "true"
    other = compare(folder, capsys, models, api, model=str(models.biased), thresholds="mae < 1", FUSEML_COMPARE_METRICS="rmse")
    assert other.err == f"{models.biased} does not pass: mae is 9.5, and < 1 is required\n"


@pytest.mark.parametrize(("candidate", "served"), [("classifier", "unsure"), ("unsure", "classifier")])
def test_the_classes_of_the_served_model_leave_the_metrics_of_the_candidate_alone(
    candidate: str, served: str, api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluated(**inputs: str) -> tuple[dict[str, float], steps.CompletedStep]:
        common = {"data": "classes.csv", "model": str(getattr(models, candidate)), "FUSEML_ON_FAILURE": "ask"}
        ended = compare(folder, capsys, models, api, **{**common, **inputs})
        assert ended.code == 0, ended.err
        return json.loads(ended.outputs["metrics"]), ended

    alone, ended = evaluated(thresholds="f1 >= 0.1")
    assert ended.outputs["passed"] == "true"
    api.record = {"model": str(getattr(models, served))}
    compared, ended = evaluated(thresholds=f"f1 >= {alone['f1']!r}, accuracy >= {alone['accuracy']!r}", tolerance="1")
    assert (compared, ended.outputs["passed"]) == (alone, "true")
    [line] = [line.split() for line in ended.out.splitlines() if line.startswith("f1 ")]
    own, _ = evaluated(thresholds="f1 >= 0.1", model=api.record["model"], FUSEML_COMPARE_WITH="")  # type: ignore[arg-type]
    assert line[1:3] == [f"{alone['f1']:.6g}", f"{own['f1']:.6g}"]


def test_a_served_model_that_is_older_than_a_class_fails_no_candidate(
    api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "classes.csv").write_text("a,b,y\n3,2,maybe\n0,1,no\n9,2,yes\n")
    api.record = {"model": str(models.classifier)}
    common = {"data": "classes.csv", "model": str(models.unsure), "thresholds": "accuracy >= 0.5"}
    ended = compare(folder, capsys, models, api, **common)
    assert (ended.code, ended.outputs["passed"], "log_loss" in json.loads(ended.outputs["metrics"])) == (0, "true", True), ended.err
    ended = compare(folder, capsys, models, api, FUSEML_COMPARE_METRICS="log_loss", **common)
    assert ended.err == "the metric 'log_loss' cannot be computed for the served model: name others in the input 'compare-metrics'\n"


def test_the_revision_with_most_requests_counts_and_its_files_are_checked(
    api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = [
        {"revision": 1, "percent": 90, "model": str(models.regression)},
        {"revision": 2, "percent": 10, "model": str(models.biased)},
    ]
    api.record = {"model": str(models.biased), "traffic": shares, "digest": "sha256:" + "0" * 64}
    assert compare(folder, capsys, models, api).outputs["compared-with"] == str(models.regression)
    api.record = {"model": str(models.biased), "digest": "sha256:" + "0" * 64}
    assert f"the files of {models.biased} were changed" in compare(folder, capsys, models, api).err
    api.record = {"model": str(models.biased), "digest": model_digest.of_folder(models.biased)}
    assert compare(folder, capsys, models, api).outputs["compared-with"] == str(models.biased)
    api.record = {"type": "predictor"}
    assert "the application 'wine' is registered without a model" in compare(folder, capsys, models, api).err


def test_whole_numbers_need_the_task(api: Api, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "amounts.csv").write_text("a,b,y\n0,1,4\n0,2,7\n")
    api.record = {"model": str(models.regression)}
    assert "may be classes or amounts: add the input 'task'" in compare(folder, capsys, models, api).err
    assert compare(folder, capsys, models, api, task="regression").outputs["passed"] == "true"


def test_the_metrics_become_an_mlflow_run(
    mlflow_server: str, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = regress(folder, capsys, models, thresholds="rmse <= 0.4", FUSEML_ON_FAILURE="ask", MLFLOW_TRACKING_URI=mlflow_server)
    assert ended.code == 0, ended.err
    api = f"{mlflow_server}/api/2.0/mlflow"
    experiment = steps.call(f"{api}/experiments/get-by-name", experiment_name="workspace.wine")["experiment"]["experiment_id"]
    [run] = steps.call(f"{api}/runs/search", {"experiment_ids": [experiment], "filter": "tags.`fuseml.evaluation` = 'failed'"})["runs"]
    assert run["info"]["status"] == "FINISHED"
    assert {item["key"]: item["value"] for item in run["data"]["metrics"]} == pytest.approx(json.loads(ended.outputs["metrics"]))
    assert {item["key"]: item["value"] for item in run["data"]["params"]}["model"] == str(models.regression)
    assert f"MLflow run {run['info']['run_id']} in the experiment workspace.wine" in ended.out
