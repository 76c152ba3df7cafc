"""`fuseml.Client` against a real HTTP server: it finds its server as the command does, and returns typed objects that notebooks show."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuseml
from fuseml.client import html, models, objects
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import TOKEN, Answer, CannedApi

INFER = "/apps/a/v2/models/m"


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve() as running:
        yield running


@pytest.fixture
def client(server: CannedApi) -> fuseml.Client:
    server.requests.clear()
    return fuseml.Client(server.url, TOKEN, project="demo")


# Settings


SHOW = "import json, fuseml; client = fuseml.Client({}); print(json.dumps([client.url, client.api.token]))"


def shown(environment: dict[str, str], arguments: str = "") -> list[str]:
    return list(json.loads(commands.python(SHOW.format(arguments), environment=environment).stdout))


def test_the_server_is_that_of_the_command(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "url").write_text("http://127.0.0.1:41000")
    (home / "token").write_text("home-token")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"url": "http://127.0.0.1:42000", "token": "configured"}))
    local = {"FUSEML_HOME": str(home), "FUSEML_CONFIG": str(tmp_path / "none"), "PATH": ""}
    assert shown(local) == ["http://127.0.0.1:41000", "home-token"]
    assert shown({**local, "FUSEML_CONFIG": str(config)}) == ["http://127.0.0.1:42000", "configured"]
    given = {**local, "FUSEML_SERVER_URL": "http://127.0.0.1:43000", "FUSEML_TOKEN": "given"}
    assert shown(given) == ["http://127.0.0.1:43000", "given"]
    assert shown(given, f"home={str(home)!r}") == ["http://127.0.0.1:41000", "home-token"]
    assert shown(given, "'http://127.0.0.1:44000', 'mine'") == ["http://127.0.0.1:44000", "mine"]


def test_the_package_is_imported_without_the_client_and_the_client_without_heavy_packages() -> None:
    script = """
import sys, fuseml
assert "fuseml.client" not in sys.modules, "the package imports the client"
fuseml.Client("http://127.0.0.1:9")
heavy = {"pandas", "numpy", "urllib3", "typer", "rich", "flask", "sqlmodel", "dulwich", "IPython"} & {*sys.modules}
assert not heavy, heavy
"""
    commands.python(script)
    with pytest.raises(AttributeError, match="no attribute 'client_of_another_name'"):
        _ = fuseml.client_of_another_name  # type: ignore[attr-defined]


def test_no_representation_contains_the_token(client: fuseml.Client) -> None:
    assert TOKEN not in repr(client) + repr(client.api) + repr(client._settings)


# Runs


def test_a_run_is_a_typed_object(client: fuseml.Client) -> None:
    run = client.runs.get("mlflow-e2e-1")
    assert (run.name, run.state, run.succeeded, run.is_finished) == ("mlflow-e2e-1", "succeeded", True, True)
    assert run.created == datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.UTC)
    assert [step.name for step in run.steps] == ["trainer", "predictor"]
    assert run.metrics == {"rmse": 53.1}
    assert next(client.runs.list(project="demo")).name == "mlflow-e2e-1"
    assert client.runs.wait("mlflow-e2e-1") == run
    assert list(client.runs.log("mlflow-e2e-1", "trainer")) == ["epoch 1: süß\n"]


def test_a_watched_run_is_shown_at_its_changes_only() -> None:
    states = iter(["queued", "running", "running", "running", "failed"])
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/runs/w-1"): lambda _: Answer({**canned_api.RUN, "name": "w-1", "state": next(states)})
    }
    with canned_api.serve(routes) as server:
        watched = [run.state for run in fuseml.Client(server.url, TOKEN).runs.watch("w-1")]
    assert watched == ["queued", "running", "failed"]


def test_a_started_run_is_returned_when_it_exists() -> None:
    answers = iter([[], [canned_api.RUN]])
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("POST", "/runs"): Answer({"request": "r-1"}, 202),
        ("GET", "/runs"): lambda _: Answer(next(answers)),
    }
    with canned_api.serve(routes) as server:
        run = fuseml.Client(server.url, TOKEN, project="demo").runs.start("mlflow-e2e", codeset="diabetes", inputs={"alpha": "1"})
    assert run.name == "mlflow-e2e-1"
    sent = {"workflow": "mlflow-e2e", "project": "demo", "codeset": "diabetes", "inputs": {"alpha": "1"}}
    assert json.loads(server.requests[0].body) == sent
    assert server.requests[-1].query["request"] == ["r-1"]


def test_runs_are_a_data_frame(client: fuseml.Client) -> None:
    pandas = pytest.importorskip("pandas")
    frame = client.runs.to_dataframe(workflow="mlflow-e2e")
    [row] = frame.to_dict("records")
    assert (row["name"], row["state"], row["metric.rmse"]) == ("mlflow-e2e-1", "succeeded", 53.1)
    assert row["input.mlflow-codeset"] == "code://demo/diabetes/3f2a91c4"
    assert row["created"] == pandas.Timestamp("2026-01-01T10:00:00Z")
    with canned_api.serve({("GET", "/runs"): Answer([])}) as server:
        empty = fuseml.Client(server.url, TOKEN).runs.to_dataframe()
    assert (len(empty), "state" in empty.columns, "duration" in empty.columns) == (0, True, True)


def test_a_data_frame_without_pandas_is_a_clear_error(server: CannedApi, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("raise ModuleNotFoundError(\"No module named 'pandas'\", name='pandas')\n")
    script = f"import fuseml; fuseml.Client({server.url!r}, {TOKEN!r}).runs.to_dataframe()"
    ended = commands.python(script, environment={"PYTHONPATH": str(tmp_path), "FUSEML_CONFIG": str(tmp_path / "none")}, code=1)
    assert ended.stderr.splitlines()[-1] == "ModuleNotFoundError: data frames need pandas, which is not installed: pip install pandas"


# Pushes and artifacts


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_folder_is_pushed_to_the_codeset_of_its_name(tmp_path: Path) -> None:
    code, repository = tmp_path / "diabetes", tmp_path / "diabetes.git"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    commands.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", repository])
    codeset = {"name": "diabetes", "project": "demo", "url": f"file://{repository}"}
    outcomes = [{"state": "succeeded", "reason": "main was pushed", "run": "mlflow-e2e-1"}]
    stories = [{"chain": [{"kind": "event", "text": "codeset.pushed", "event": 7}], "outcomes": outcomes}]
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/projects"): Answer([canned_api.PROJECT]),
        ("POST", "/codesets"): Answer({"codeset": codeset, "username": "u", "password": "p"}, 201),
        ("GET", "/why"): Answer({"of": "", "kind": "commit", "answer": "", "stories": stories}),
        ("GET", "/runs"): Answer([canned_api.RUN]),
    }
    with canned_api.serve(routes) as server:
        client = fuseml.Client(server.url, TOKEN)
        first, second = client.push(code), client.push(str(code))
        assert [run.name for run in client.runs.of_push(first)] == ["mlflow-e2e-1"]
        assert server.requests[-1].query == {"project": ["demo"], "codeset": ["diabetes"], "commit": [first.commit]}
        with pytest.raises(errors.InvalidError, match="nowhere is not a folder"):
            client.push(tmp_path / "nowhere")
    assert first == objects.Push("demo", "diabetes", first.commit, True)
    assert second == dataclasses.replace(first, changed=False)
    assert server.requests[1].query == {"name": ["diabetes"], "project": ["demo"]}


def test_artifacts_and_their_lineage_are_typed_objects(client: fuseml.Client) -> None:
    found = client.artifacts.get("model://demo/diabetes@champion")
    assert (found.address, found.tags, found.metrics) == ("model://demo/diabetes/1", ("champion",), {"rmse": 53.1})
    assert next(client.artifacts.list(kind="model")) == found
    lineage = client.artifacts.lineage(found.address)
    assert lineage.edges[0] == objects.Edge("code://demo/diabetes/3f2a91c4", "model://demo/diabetes/1", "mlflow-e2e-1", "trainer")


# Models


def application(name: str, model: str, url: str) -> dict[str, Any]:
    return {**canned_api.APPLICATION, "name": name, "model": model, "url": f"{url}{INFER}/infer"}


@pytest.fixture
def served() -> Iterator[tuple[fuseml.Client, CannedApi]]:
    metadata = {"name": "m", "inputs": [{"name": name, "datatype": "FP64", "shape": [-1]} for name in ("age", "bmi")]}
    output = {"name": "o", "datatype": "FP64", "shape": [2, 1], "data": [151.5, 90.0]}
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", INFER): Answer(metadata),
        ("POST", f"{INFER}/infer"): Answer({"model_name": "m", "outputs": [output]}),
    }
    with canned_api.serve(routes) as server:
        listed = [application(name, f"models:/{model}/1", server.url) for name, model in (("a", "diabetes"), ("b", "wine"), ("c", "wine"))]
        routes["GET", "/applications"] = Answer([*listed, {**canned_api.APPLICATION, "name": "unserved", "url": ""}])
        yield fuseml.Client(server.url, TOKEN), server


def test_a_model_is_found_by_the_name_of_its_application_and_by_its_own(served: tuple[fuseml.Client, CannedApi]) -> None:
    client, _ = served
    assert {client.models[name].name for name in ("a", "diabetes", "models:/diabetes/1")} == {"a"}
    assert (list(client.models), len(client.models), "a" in client.models, "z" in client.models) == (["a", "b", "c"], 3, True, False)
    with pytest.raises(errors.ConflictError, match="several applications serve wine: b, c"):
        _ = client.models["wine"]
    with pytest.raises(models.NotServedError, match=r"^no application serves 'z'; there are a, b, c$"):
        _ = client.models["z"]


def rows_of_every_kind() -> list[tuple[str, Callable[[], Any]]]:
    records = [{"age": 0.1, "bmi": 0.2}, {"age": 0.3, "bmi": float("nan")}]
    return [
        ("mappings", lambda: records),
        ("lists", lambda: [[0.1, 0.2], (0.3, None)]),
        ("frame", lambda: pytest.importorskip("pandas").DataFrame(records)),
        ("array", lambda: pytest.importorskip("numpy").array([[0.1, 0.2], [0.3, float("nan")]])),
    ]


@pytest.mark.parametrize("rows", [make for _, make in rows_of_every_kind()], ids=[name for name, _ in rows_of_every_kind()])
def test_rows_of_every_kind_are_predicted_by_one_request(served: tuple[fuseml.Client, CannedApi], rows: Callable[[], Any]) -> None:
    client, server = served
    assert client.models["a"].predict(rows()) == [151.5, 90.0]
    sent = {item["name"]: item["data"] for item in json.loads(server.requests[-1].body)["inputs"]}
    assert sent == {"age": [0.1, 0.3], "bmi": [0.2, None]}


def test_a_row_that_the_model_does_not_take_is_refused(served: tuple[fuseml.Client, CannedApi]) -> None:
    client, _ = served
    with pytest.raises(errors.InvalidError, match="the row lacks inputs of the model: bmi"):
        client.models["a"].predict({"age": 1})
    with pytest.raises(errors.PermanentError, match="has 2 values for 1 rows"):
        client.models["a"].predict({"age": 1, "bmi": 2})
    assert client.models["a"].predict([]) == []


# Notebooks


def test_a_notebook_shows_runs_and_lineages(client: fuseml.Client) -> None:
    page = client.runs.get("mlflow-e2e-1")._repr_html_()
    assert "<h4>Run mlflow-e2e-1</h4>" in page
    assert 'font-weight:bold">succeeded</span>' in page
    assert "rmse = 53.1" in page
    page = client.artifacts.lineage("model://demo/diabetes/1")._repr_html_()
    assert "<li><code>code://demo/diabetes/3f2a91c4</code> by mlflow-e2e-1/trainer</li>" in page
    assert "<li><code>dataset://demo/scored/1</code> deleted</li>" in page


PLAN: dict[str, Any] = {
    "workflow": "w",
    "revision": 1,
    "project": "demo",
    "inputs": {"alpha": "1"},
    "steps": [
        {
            "name": "train",
            "image": [{"kind": "text", "text": "img:1"}],
            "needs": ["build"],
            "variables": [
                {"name": "FUSEML_IMAGE", "value": [{"kind": "output", "step": "build", "output": "image"}]},
                {"name": "KEY", "value": [{"kind": "secret", "extension": "s3", "service": "s", "credentials": "c", "key": "KEY"}]},
            ],
        }
    ],
    "bindings": [{"step": "train", "binding": canned_api.BINDING}],
}


def test_a_plan_shows_secrets_by_name_and_outputs_as_expressions() -> None:
    with canned_api.serve({("POST", "/workflows/w/plan"): Answer(PLAN)}) as server:
        plan = fuseml.Client(server.url, TOKEN, project="demo").plan("w", codeset="diabetes")
    assert plan.steps[0].environment == {"FUSEML_IMAGE": "{{ steps.build.outputs.image }}", "KEY": "<secret s3/s/c/KEY>"}
    page = plan._repr_html_()
    assert "&lt;secret s3/s/c/KEY&gt;" in page
    assert "mlflow/tracking" in page


HOSTILE = st.text(st.sampled_from("<>\"'&;= /abcsriptonlg\x1b\u202e\x00\n"), max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><iframe>", "javascript:alert(1)", "&lt;script&gt;"]
)
# All that these pages consist of.
TAGS = re.compile(r'</?(?:h4|h5|table|thead|tbody|tr|th|td|ul|li|p|code|span)(?: style="[a-z0-9:;#-]*")?>')


def filled(value: Any, text: str) -> Any:
    """The document with the text in place of every text but times, states and kinds."""
    if isinstance(value, dict):
        kept = ("created", "started", "finished", "kind", "metrics")
        return {key: item if key in kept else filled(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return text if isinstance(value, str) else value


@given(HOSTILE)
def test_text_from_outside_is_inert_in_a_notebook(text: str) -> None:
    run, plan = objects.Run.of(filled(canned_api.RUN, text)), objects.Plan.of(filled(PLAN, text))
    for shown in (run, plan, objects.Lineage.of(filled(canned_api.LINEAGE, text))):
        rest = TAGS.sub("", shown._repr_html_())
        assert not set("<>\"'\x1b\u202e\x00") & set(rest), rest


def test_long_texts_and_tables_are_bounded() -> None:
    [first, _] = cast(list[dict[str, Any]], canned_api.RUN["steps"])
    steps = [{**first, "name": f"s-{number}", "cause": "x" * 10_000} for number in range(1_000)]
    page = objects.Run.of({**canned_api.RUN, "steps": steps})._repr_html_()  # type: ignore[typeddict-item]
    assert "x" * html.LONGEST not in page
    assert "<p>and 800 more</p>" in page
