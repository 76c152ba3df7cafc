"""Pipelines on a real server: a composed one trains and serves, templates start by pushes and artifacts, and come from a git repository."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

ROOT = pathlib.Path(__file__).parents[2]
DIABETES = ROOT / "shared/fuseml/examples/codesets/sklearn-diabetes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("pipelines") / "home") as running:
        running.tracking_ready()
        running.fuseml("extension", "discover", "--apply")
        yield running


@pytest.fixture(scope="module")
def composed(server: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run of a composed pipeline, `train-1`, in the project `demo`."""
    file = tmp_path_factory.mktemp("composed") / "train.yaml"
    server.fuseml("push", DIABETES, "-p", "demo", "-n", "diabetes")
    printed = server.fuseml("pipeline", "compose", "train", "mlflow-builder", "mlflow-trainer", "kserve-predictor", "--to", file)
    assert "trainer.image <- builder.image" in printed.stderr
    # Strict, a warning would be a failure; a note is none.
    assert "No problem in 1 file." in server.fuseml("workflow", "lint", file, "-p", "demo", "--strict").stderr
    server.fuseml("workflow", "create", file)
    server.fuseml("workflow", "run", "train", "-p", "demo", "-c", "diabetes", "--wait")
    return "train-1"


def test_a_composed_pipeline_builds_trains_and_serves(server: servers.Server, composed: str) -> None:
    run = server.finished_run(composed)
    assert (run["state"], [step["state"] for step in run["steps"]]) == ("succeeded", ["succeeded"] * 3)
    assert run["outputs"]["prediction-url"].startswith("http")
    assert "r2" in json.loads(run["outputs"]["metrics"])
    [application] = [item for item in server.get("/applications") if item["run"] == composed]
    assert application["project"] == "demo"


def test_a_composition_is_printed_as_the_document(server: servers.Server, tmp_path: pathlib.Path) -> None:
    command = ("pipeline", "compose", "score", "builder", "scorer", "--input", "scorer.data", "--input", "scorer.output=scored.csv")
    document = json.loads(server.fuseml(*command, "-o", "json").stdout)
    assert [item["name"] for item in document["inputs"]] == ["codeset", "model", "data", "output"]
    file = tmp_path / "score.json"
    server.fuseml(*command, "-o", "json", "--to", file)
    assert json.loads(file.read_text()) == document
    refused = server.fuseml("pipeline", "compose", "score", "scorer", code=1)
    assert "scorer.data" in refused.stderr
    assert "scorer.output" in refused.stderr
    assert "cannot be written" in server.fuseml(*command, "--to", tmp_path / "no" / "file", code=1).stderr


def test_a_pipeline_for_all_codesets_runs_on_those_that_exist_and_on_those_that_come(server: servers.Server) -> None:
    server.post("/projects?name=many")
    document = pathlib.Path(server.home.parent / "code")
    for name in ("one", "two"):
        _push(server, document / name, name)
    printed = server.fuseml("pipeline", "add", "mlflow-train", "-n", "everything", "-i", "mlflow_code=code://*", "-p", "many")
    assert "Each new version of code://many/* starts it." in printed.stdout
    _push(server, document / "three", "three")
    wait_until(lambda: len(server.get("/runs?workflow=everything")) == 3, "a run on each codeset")
    assert {run["codeset"] for run in server.get("/runs?workflow=everything")} == {"one", "two", "three"}
    server.settled()
    again = server.fuseml("pipeline", "add", "mlflow-train", "-n", "everything", "-i", "mlflow_code=code://*", "-p", "many")
    assert "was there already" in again.stdout
    assert len(server.get("/runs?workflow=everything")) == 3
    server.fuseml("workflow", "delete", "everything")


def _push(server: servers.Server, folder: pathlib.Path, name: str) -> None:
    """A codeset whose build ends at once: without a training."""
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("")
    (folder / "train.py").write_text("raise SystemExit(3)\n")
    server.fuseml("push", folder, "-p", "many", "-n", name)


ROWS = "x,z,y\n" + "".join(f"{number},{number * number % 7},{3 * number + number % 5}\n" for number in range(60))


def test_new_data_train_a_model_and_a_dataset_is_scored_with_it(server: servers.Server, tmp_path: pathlib.Path) -> None:
    server.post("/projects?name=rows")
    server.fuseml(
        *("pipeline", "add", "retrain-on-data", "-n", "retrain", "-p", "rows"),
        *("-i", "data=dataset://rows/training", "-i", "target=y", "-i", "name=line"),
    )
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "rows.csv").write_text(ROWS)
    push = ("artifact", "push", tmp_path / "training", "--kind", "dataset", "-p", "rows")
    server.fuseml(*push, "--name", "training")
    run = server.finished_run("retrain-1")
    assert (run["state"], run["cause"]) == ("succeeded", None), server.call("GET", "/runs/retrain-1/logs").body
    assert run["outputs"]["model"] == "models:/line/1"
    assert json.loads(run["outputs"]["metrics"])["r2"] > 0.9
    wait_until(lambda: server.get("/artifacts?kind=model&project=rows"), "the model to be recorded")
    [model] = server.get("/artifacts?kind=model&project=rows")
    assert (model["run"], model["name"]) == ("retrain-1", "line")
    sources = {edge["source"] for edge in server.get(f"/lineage?address={model['address']}")}
    assert any(source.startswith("dataset://rows/training/") for source in sources)

    added = server.fuseml(
        *("pipeline", "add", "batch-score", "-n", "score", "-p", "rows", "-o", "json"),
        *("-i", "data=dataset://rows/fresh", "-i", f"model={model['address']}"),
    )
    assert json.loads(added.stdout)["patterns"] == ["dataset://rows/fresh"]
    (tmp_path / "training" / "rows.csv").write_text("\n".join(line.rpartition(",")[0] for line in ROWS.splitlines()) + "\n")
    server.fuseml(*push, "--name", "fresh")
    run = server.finished_run("score-1")
    assert (run["state"], run["cause"]) == ("succeeded", None), server.call("GET", "/runs/score-1/logs").body
    server.fuseml("artifact", "pull", run["outputs"]["scored"], "--to", tmp_path / "scored")
    lines = (tmp_path / "scored" / "rows.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("x,z,prediction", 61)
    assert run["outputs"]["scored"].startswith("dataset://rows/scored/")
    scored = run["outputs"]["scored"]
    wait_until(lambda: server.get("/artifacts?kind=dataset&project=rows&name=scored"), "the dataset to be recorded")
    sources = {edge["source"] for edge in server.get(f"/lineage?address={scored}") if edge["target"] == scored}
    assert model["address"] in sources, "the predictions are of the model, too"
    assert [source.split("/")[3] for source in sorted(sources)] == ["fresh", "line"]
    # The result is another dataset, which starts neither of the two again.
    server.settled()
    assert len(server.get("/runs?workflow=score")) == len(server.get("/runs?workflow=retrain")) == 1


def test_a_codeset_is_a_catalogue_of_templates(server: servers.Server, tmp_path: pathlib.Path) -> None:
    registration = server.post("/codesets?project=library&name=templates")
    url = registration["codeset"]["url"].replace("://", f"://{registration['username']}:{registration['password']}@")
    checkout = servers.Checkout(tmp_path / "templates", registration["codeset"]["url"], registration["username"], registration["password"])
    (checkout.folder / "pipelines").mkdir()
    (checkout.folder / "pipelines" / "hello.yaml").write_text(
        "name: hello\ndescription: Says hello.\ninputs: [{name: who}]\noutputs: [{name: said}]\nsteps:\n  - name: say\n"
        "    image: fuseml.local/shell\n    inputs: [{name: who, value: '{{ inputs.who }}'}]\n"
        '    script: echo "hello $FUSEML_WHO" > "$FUSEML_ENV_RESULTS/said"\n    outputs: [{name: said}]\n'
    )
    commit = checkout.push("a template")
    printed = server.fuseml("catalog", "add", "library", url)
    assert printed.stdout == f"Catalogue library has 1 template at commit {commit[:12]}.\n"
    shown = server.fuseml("catalog", "show", "library")
    assert re.search(r"hello +who +said +Says hello\.", shown.stdout)
    assert "library" in server.fuseml("catalog", "list").stdout
    assert registration["password"] not in printed.stdout + shown.stdout + server.fuseml("extension", "get", "library", "-o", "json").stdout
    server.fuseml("pipeline", "add", "library/hello", "-n", "hello", "-i", "who=Ada", "-p", "library")
    server.fuseml("workflow", "run", "hello", "-p", "library", "--wait")
    assert server.get("/runs/hello-1")["outputs"] == {"said": "hello Ada"}
    assert server.get("/workflows/hello")["template"] == f"library/hello@{commit}"
    server.fuseml("extension", "delete", "library", "--force")
    assert "there is no catalogue 'library'" in server.fuseml("catalog", "show", "library", code=1).stderr
