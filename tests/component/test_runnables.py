"""Runnables over HTTP: registration, the original's documents, versions, filters, matches, deletion; on SQLite and PostgreSQL."""

from __future__ import annotations

import pathlib

import pytest
import yaml

import fuseml
from fuseml.domain.runnables import builtin
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifact_copies, artifact_names, artifacts, database, workflows
from fuseml.store import runnables as stored
from fuseml.store.tables import retention_rows
from tests.component import dying
from tests.component.runnable_api import NOON, Runnables
from tests.component.test_backbone_crashes import in_a_process

ADDRESS = "runnable://demo/fit/1.0.0"
MODEL = {"name": "model", "type": "model", "accepts": {"format": "mlflow", "framework": "scikit-learn>=1.4"}}
ROOT = pathlib.Path(__file__).parents[2]
ORIGINAL = {
    "id": "PyTorch-trainer",
    "kind": "trainer",
    "author": "acme",
    "container": {
        "image": "myregistry.io/repo123/pytorch_trainer:v2.4",
        "entrypoint": "python {{inputs.ml-project}}/data_transform.py",
        "env": {"EXPERIMENT_NAME": "first-experiment"},
        "args": ["--code-path", "{{inputs.ml-project}}", "--model-out-file", "{{outputs.ml_model}}"],
    },
    "defaultInputPath": "/opt/inputs",
    "input": {
        "parameters": {"epochs": {"description": "how many", "defaultValue": "3", "labels": {"library": "pytorch"}}},
        "artifacts": {"Jarvis Weimann": {"kind": {"codeset": {"type": ["code"]}}, "provider": ["git"], "path": "/workspace/input"}},
    },
    "output": {"artifacts": {"model": {"kind": {"model": {"format": ["PyTorch/PKL"]}}}}},
    "labels": {"vendor": "acme", "function": "predict"},
}


@pytest.fixture
def api(store: database.Database) -> Runnables:
    return Runnables(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Runnables:
    """For rules that do not depend on the database."""
    return Runnables(sqlite_store)


def add_workflow(store: database.Database, name: str, *references: str) -> None:
    steps = [{"name": f"step-{number}", "runnable": text} for number, text in enumerate(references)]
    with store.write() as session:
        workflows.add(session, name, {"name": name, "steps": steps}, NOON)


# Registration


def test_a_runnable_is_registered_once_and_is_an_artifact(api: Runnables) -> None:
    made = api.register("fit", kind="trainer", inputs=[{"name": "alpha", "type": "number", "default": 0.1}], labels={"team": "red"})
    assert (made["address"], made["project"], made["by"], made["built_in"]) == (ADDRESS, "demo", "ada", False)
    assert made["inputs"][0]["default"] == "0.1"
    assert api.call("GET", "/runnables/fit?project=demo") == made
    with api.store.read() as session:
        row = artifacts.get(session, ADDRESS)
        assert (row.kind, row.format, row.digest, row.details) == ("runnable", "fuseml-runnable", made["digest"], {"kind": "trainer"})
    assert api.types() == ["artifact.recorded"]
    assert api.published[0].data["address"] == ADDRESS


def test_the_same_content_changes_nothing_and_other_content_needs_another_version(api: Runnables) -> None:
    first = api.register("fit", kind="trainer")
    assert api.register("fit", kind="trainer") == first
    assert api.types() == ["artifact.recorded"]
    refused = api.register("fit", kind="trainer", description="another", status=409)
    assert "immutable" in refused["message"]
    assert refused["details"]["different"]["digest"]["stored"] == first["digest"]
    assert api.register("fit", "1.1.0", kind="trainer", description="another")["version"] == "1.1.0"
    assert api.register("fit", kind="trainer", project="other")["project"] == "other"
    assert [item["version"] for item in api.call("GET", "/runnables/fit/versions?project=demo")] == ["1.1.0", "1.0.0"]


def test_a_wrong_document_is_refused_with_every_problem_and_its_line(small: Runnables) -> None:
    text = """\
name: fit
version: 1.0
image: "a:1"
args: ["{{ inputs.alhpa }}"]
inputs:
  - name: alpha
    type: number
    default: rows=xx
  - name: code
    type: codeset
    pass: argument
    watch: {paths: ["/etc/**"], metrics: rmse < 1}
"""
    refused = small.call("POST", "/runnables?project=demo", text, status=400)
    problems = {(problem["path"], problem["line"]) for problem in refused["details"]["problems"]}
    assert problems == {
        ("version", 2),
        ("args[0]", 4),
        ("inputs[0].default", 8),
        ("inputs[1].pass", 11),
        ("inputs[1].watch.metrics", 12),
        ("inputs[1].watch.paths[0]", 12),
    }
    assert small.listed(project="demo") == []


def test_a_runnable_needs_a_project_that_exists_and_a_name_that_is_not_built_in(small: Runnables) -> None:
    small.register("fit", project="nowhere", status=404)
    assert "built-in" in small.register("trainer", status=409)["message"]


def test_a_project_may_have_a_runnable_of_its_own_under_the_name_of_a_tool(small: Runnables) -> None:
    assert small.call("GET", "/runnables/mlflow-trainer")["built_in"]
    own = small.register("mlflow-trainer")["address"]
    assert small.call("GET", "/runnables/mlflow-trainer?project=demo")["address"] == own
    assert small.call("GET", "/runnables/mlflow-trainer?project=other")["built_in"]


def test_an_address_never_gets_other_content_after_a_deletion(api: Runnables) -> None:
    first = api.register("fit")
    api.call("DELETE", "/runnables/fit?project=demo&version=1.0.0", status=204)
    api.register("fit", description="another", status=409)
    assert api.register("fit")["digest"] == first["digest"]
    assert api.types() == ["artifact.recorded", "artifact.deleted", "artifact.recorded"]


# The original's API


def test_a_client_of_the_original_registers_lists_and_gets(api: Runnables) -> None:
    made = api.call("POST", "/runnables", ORIGINAL, status=201)
    for name in ("id", "kind", "author", "labels", "defaultInputPath"):
        assert made[name] == ORIGINAL[name], name
    assert made["container"] == ORIGINAL["container"]
    assert made["input"]["artifacts"]["Jarvis Weimann"]["kind"] == {"codeset": {"type": ["code"]}}
    assert made["input"]["parameters"]["epochs"] == {**ORIGINAL["input"]["parameters"]["epochs"], "optional": False, "path": ""}  # type: ignore[index]
    assert (made["project"], made["version"]) == ("workspace", "1.0.0")
    assert [(item["name"], item["type"], item.get("default")) for item in made["inputs"]] == [
        ("epochs", "string", "3"),
        ("Jarvis-Weimann", "codeset", None),
    ]
    assert api.call("GET", "/runnables/PyTorch-trainer") == made
    assert api.call("GET", "/runnables?id=trainer-12|PyTorch&kind=train&labels[function]=predict%7Ctrain&labels[vendor]=") == [made]
    assert api.call("GET", "/runnables?id=&kind=builder&project=workspace") == []
    assert api.call("POST", "/runnables", ORIGINAL, status=201) == made
    api.call("POST", "/runnables", {**ORIGINAL, "author": "other"}, status=409)
    api.call("GET", "/runnables/unknown", status=404)


def test_the_answers_have_every_field_of_the_published_document(small: Runnables) -> None:
    published = {
        *("id", "created", "kind", "description", "author", "source", "container", "input", "output"),
        *("defaultInputPath", "defaultOutputPath", "labels"),
    }
    for document in (
        small.register("fit"),
        small.call("GET", "/runnables/trainer"),
        small.call("POST", "/runnables", ORIGINAL, status=201),
    ):
        assert published <= document.keys()
        assert document["container"]["image"]


@pytest.mark.parametrize("text", ["(a+)+$", "a{9}", "[ab]", "a*", "x" * 300])
def test_a_filter_with_another_operator_is_refused(small: Runnables, text: str) -> None:
    answer = small.client.get("/runnables", query_string={"id": text}, headers={"Authorization": "Bearer ada"})
    assert answer.status_code == 400
    assert answer.json is not None
    assert "operators" in answer.json["message"]


# Choice of a version


def test_the_highest_release_that_a_constraint_admits_is_shown(api: Runnables) -> None:
    for text in ("1.9.0", "1.10.0", "2.0.0-rc.1"):
        api.register("fit", text)

    def version(query: str, status: int = 200) -> object:
        return api.call("GET", f"/runnables/fit?project=demo{query}", status=status).get("version")

    assert version("") == "1.10.0"
    assert version("&version=~1.9") == "1.9.0"
    assert version("&version=%3E%3D2.0-0") == "2.0.0-rc.1"
    version("&version=3.x", 404)
    version("&version=much", 400)
    api.register("fit", "9.0.0", project="other")
    assert "several projects" in api.call("GET", "/runnables/fit", status=400)["message"]


def test_a_runnable_with_pre_releases_only_is_shown(small: Runnables) -> None:
    small.register("fit", "1.0.0-rc.1")
    assert small.call("GET", "/runnables/fit")["version"] == "1.0.0-rc.1"


def test_built_in_runnables_belong_to_every_project(api: Runnables) -> None:
    api.register("fit")
    assert api.listed() == [ADDRESS, *builtin.by_name()]
    assert api.listed(limit="1") == api.listed(limit="3") == api.listed()
    assert api.listed(kind="^predictor$") == ["predictor", "kserve-predictor", "seldon-core-predictor", "ovms-predictor"]
    shown = api.call("GET", "/runnables/predictor?project=demo")
    assert (shown["built_in"], shown["version"], shown["address"]) == (
        True,
        fuseml.__version__,
        f"runnable://fuseml/predictor/{fuseml.__version__}",
    )


# Matches


@pytest.fixture
def models(api: Runnables) -> Runnables:
    """Models 1 and 2 of scikit-learn 1.3 and 1.5, and a dataset."""
    with api.store.write() as session:
        for number, version in (("1", "1.3.0"), ("2", "1.5.0")):
            address = f"model://demo/wine/{number}"
            artifacts.record(
                session,
                artifacts.Artifact(
                    address=address,
                    kind="model",
                    project="demo",
                    name="wine",
                    version=number,
                    format="mlflow",
                    framework="scikit-learn",
                    framework_version=version,
                    created=NOON,
                ),
            )
        dataset = artifacts.Artifact(
            address="dataset://demo/rows/1", kind="dataset", project="demo", name="rows", version="1", created=NOON
        )
        artifacts.record(session, dataset)
    api.register("check", inputs=[MODEL, {"name": "old", "type": "model", "accepts": {"framework": "scikit-learn<1.4"}, "optional": True}])
    api.register(
        "load", inputs=[{"name": "rows", "type": "dataset"}], outputs=[{"name": "model", "type": "model", "gives": {"format": "onnx"}}]
    )
    return api


def test_the_runnables_that_consume_an_artifact_are_found_with_the_inputs(models: Runnables) -> None:
    found = models.call("GET", "/runnables?project=demo&consumes=model://demo/wine/2")
    assert [(item["name"], item["fits"]) for item in found] == [("check", ["model"])]
    found = models.call("GET", "/runnables?consumes=model://demo/wine/1")
    assert {item["name"]: item["fits"] for item in found} == {
        "check": ["old"],
        **{name: ["model"] for name in ("predictor", "kserve-predictor", "seldon-core-predictor", "ovms-predictor", "scorer", "evaluator")},
    }
    assert models.listed(consumes="dataset://demo/rows/1") == ["runnable://demo/load/1.0.0"]
    models.call("GET", "/runnables?consumes=model://demo/wine/9", status=404)
    models.call("GET", "/runnables?consumes=wine", status=400)


def test_a_match_is_explained_for_every_input(models: Runnables) -> None:
    matches = models.call("GET", "/runnables/check/matches?project=demo&offer=model://demo/wine/1")
    assert [(match["input"], match["verdict"]) for match in matches] == [("model", "refused"), ("old", "fits")]
    assert matches[0]["reasons"][-1] == {
        "criterion": "framework",
        "verdict": "refused",
        "sentence": "scikit-learn: version 1.3.0 does not satisfy >=1.4",
    }
    outputs = models.call("GET", "/runnables/check/matches?project=demo&offer=load")
    assert [(match["input"], match["offer"], match["verdict"]) for match in outputs] == [
        ("model", "load.model", "refused"),
        ("old", "load.model", "unknown"),
    ]


# Deletion


def test_a_runnable_that_a_workflow_uses_is_not_deleted(api: Runnables) -> None:
    for version in ("1.0.0", "1.1.0"):
        api.register("fit", version)
    add_workflow(api.store, "training", "fit@^1", "trainer")
    refused = api.call("DELETE", "/runnables/fit?project=demo&version=1.1.0", status=409)
    assert refused["details"] == {"workflows": ["training"]}
    api.call("DELETE", "/runnables/fit?project=demo&version=1.0.0", status=204)
    with api.store.write() as session:
        workflows.delete(session, "training", clock.now(), force=False)
    api.call("DELETE", "/runnables/fit?project=demo&version=1.1.0", status=204)
    api.call("DELETE", "/runnables/fit?project=demo&version=1.1.0", status=404)
    with api.store.read() as session:
        assert artifacts.find(session, ADDRESS) is None


def test_the_copies_of_a_deleted_runnable_go_with_it(api: Runnables) -> None:
    api.register("fit")
    place = "runnable://demo/fit/copy"
    copy = artifact_copies.ArtifactCopy(address=ADDRESS, store="own/store", copy_address=place, location="s3://b/p", created=NOON)
    with api.store.write() as session:
        artifact_copies.record(session, copy, None)
    api.call("DELETE", "/runnables/fit?project=demo&version=1.0.0", status=204)
    with api.store.read() as session:
        assert artifact_copies.of(session, [ADDRESS]) == {}
        assert session.get(retention_rows.ArtifactRemoval, place) is not None


def test_a_tagged_runnable_is_not_deleted(api: Runnables) -> None:
    api.register("fit")
    with api.store.write() as session:
        row = artifacts.get(session, ADDRESS)
        artifact_names.put_tag(session, row, "stable", artifact_names.names.Placed(ADDRESS, False), "ada", NOON)
    assert "stable" in api.call("DELETE", "/runnables/fit?project=demo&version=1.0.0", status=409)["message"]


# Deaths


def test_a_registration_that_is_killed_is_whole_or_absent_and_its_event_is_not_lost(tmp_path: pathlib.Path) -> None:
    url = f"sqlite:///{tmp_path}/fuseml.db"
    prepared = database.Database(url)
    Runnables(prepared)
    prepared.close()
    outcomes = []
    for call in range(1, 5):
        assert in_a_process(register_and_die, url, f"fit-{call}", call)
        again = database.Database(url)
        api = Runnables(again, new=False)
        with again.read() as session:
            stored = artifacts.find(session, f"runnable://demo/fit-{call}/1.0.0")
            assert (stored is not None) == bool(api.listed(project="demo", name=f"fit-{call}"))
        outcomes.append(stored is not None)
        assert api.pending() == sum(outcomes)
        assert api.register(f"fit-{call}")["version"] == "1.0.0"
        again.close()
    assert outcomes == [False, False, False, True]


def register_and_die(url: str, name: str, call: int) -> None:
    """Die before the row, before the artifact, before the event, and after the commit."""
    point = dying.at(1)
    targets = [(stored, "add"), (artifacts, "record"), (cloudevents, "enqueue"), (cloudevents, "relay")]
    module, function = targets[call - 1]
    setattr(module, function, point)
    Runnables(database.Database(url), new=False).register(name)


def test_the_published_document_of_the_original_is_accepted(small: Runnables) -> None:
    """The example of the specification that clients of the original were generated from."""
    example = yaml.safe_load((ROOT / "tests/golden/original_runnable.yaml").read_text())
    made = small.call("POST", "/runnables", example, status=201)
    assert made["container"] == example["container"]
    assert sorted(made["input"]["artifacts"]) == sorted(example["input"]["artifacts"])
    assert made["output"]["parameters"].keys() == example["output"]["parameters"].keys()
