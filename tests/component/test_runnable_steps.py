"""Steps of workflows that name a runnable: resolved for each run, checked by type, recorded in the plan; on SQLite and PostgreSQL."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

import fuseml
from fuseml.domain import plans
from fuseml.domain.runnables import descriptor
from fuseml.githosts import embedded
from fuseml.store import codesets, database, runnables, runs
from fuseml.usecases import runnables as registry
from fuseml.usecases import step_reuse
from tests.component.requesting import System, refused

FIT: dict[str, Any] = {
    "name": "fit",
    "version": "1.0.0",
    "image": "registry.example.com/fit:1",
    "command": ["python", "fit.py", "--depth", "{{ inputs.depth }}"],
    "inputs": [
        {"name": "code", "type": "codeset", "watch": {"paths": ["conda.yaml"]}},
        {"name": "alpha", "type": "number", "default": "0.1", "maximum": 1, "pass": "argument"},
        {"name": "depth", "type": "integer", "default": 3},
        {"name": "goal", "values": ["min", "max"], "optional": True},
        {"name": "config", "optional": True, "pass": "file"},
        {"name": "parameters", "optional": True},
    ],
    "outputs": [
        {"name": "model", "type": "model", "gives": {"format": "mlflow"}},
        {"name": "rows", "type": "integer"},
        {"name": "note", "optional": True},
    ],
    "env": [{"name": "MODE", "value": "fast"}, {"name": "DEPTH", "value": "{{ inputs.depth }}"}],
    "resources": {"limits": {"memory": "1Gi", "cpu": "1"}},
    "extensions": [{"name": "store", "service_resource": "s3"}],
}
WORKFLOW = """
name: fitting
inputs:
  - {name: code, type: codeset}
  - {name: alpha, default: "0.2"}
  - {name: parameters, type: parameters}
outputs:
  - {name: model}
steps:
  - name: fit
    runnable: fit@^1
    env: [{name: MODE, value: slow}]
    resources: {limits: {cpu: 2}}
    inputs:
      - codeset: {name: code}
      - {name: alpha, value: "{{ inputs.alpha }}"}
      - {name: parameters, value: "{{ inputs.parameters }}"}
"""


class Files(dict[str, str]):
    """The files of every commit, by glob: `digest` answers as a git host does."""

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        return ",".join(self.get(path, "") for path in paths) if paths else str(sorted(self.items()))


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    files = Files({"conda.yaml": "numpy", "train.py": "fit()"})
    monkeypatch.setattr(embedded.EmbeddedGitHost, "digest", lambda _, *asked: files.digest(*asked))
    return files


@pytest.fixture
def system(store: database.Database, tmp_path: pathlib.Path, files: Files) -> System:
    system = System(store, tmp_path)
    add(system, FIT)
    create(system, WORKFLOW)
    return system


def add(system: System, document: dict[str, Any], project: str = "p", **fields: object) -> str:
    with system.store.write() as session:
        codesets.ensure_project(session, project, "2026-11-21T12:00:00.000000Z")
        runnable = descriptor.load(yaml.safe_dump({**document, **fields}))
        return registry.register(session, project, runnable, by="ada")[0].address


def create(system: System, document: str) -> None:
    answer = system.workflows.post("/workflows", data=document)
    assert answer.status_code == 201, answer.text


def plan(system: System, name: str = "fitting", *, status: int = 200, **inputs: str) -> Any:
    answer = system.workflows.post(f"/workflows/{name}/plan", json={"project": "p", "codeset": "code", "inputs": inputs})
    assert answer.status_code == status, answer.text
    return plans.Plan.model_validate(answer.json) if status == 200 else answer.json


def texts(values: Any) -> list[str]:
    return ["".join(part.text for part in value) for value in values]


def variables(step: plans.StepPlan) -> dict[str, str]:
    return {item.name: "".join(getattr(part, "text", "<secret>") for part in item.value) for item in step.variables}


def test_a_step_has_everything_of_its_runnable(system: System) -> None:
    step = plan(system).step("fit")
    assert step.runnable == "runnable://p/fit/1.0.0"
    assert texts([step.image, *step.command, *step.args]) == [
        "registry.example.com/fit:1",
        *("python", "fit.py", "--depth", "3"),
        "--alpha=0.2",
    ]
    found = variables(step)
    assert {name: found.get(name) for name in ("FUSEML_ALPHA", "FUSEML_DEPTH", "FUSEML_GOAL", "MODE", "DEPTH", "TASK_RESULT")} == {
        "FUSEML_ALPHA": "0.2",
        "FUSEML_DEPTH": "3",
        "FUSEML_GOAL": None,
        "MODE": "slow",
        "DEPTH": "3",
        "TASK_RESULT": "model",
    }
    assert found["AWS_SECRET_ACCESS_KEY"] == "<secret>"
    assert [output.name for output in step.outputs] == ["model", "rows"]
    assert step.resources.limits == {"memory": "1Gi", "cpu": "2"}
    assert step.cache is not None
    assert step.cache.paths == ("conda.yaml",)


def test_a_run_takes_the_highest_version_and_keeps_it_when_it_is_locked(system: System) -> None:
    first = system.start(workflow="fitting")
    for version, image in (("1.1.0", "fit:2"), ("2.0.0", "fit:3"), ("1.2.0-rc.1", "fit:4")):
        add(system, FIT, version=version, image=image)
    second = system.start(workflow="fitting")
    addresses = [system.plan_of(run).step("fit").runnable for run in (first, second)]
    assert addresses == ["runnable://p/fit/1.0.0", "runnable://p/fit/1.1.0"]
    system.finish(first["name"], "failed")
    locked = system.request(f"/runs/{first['name']}/rerun", {"locked": True})
    resumed = system.request(f"/runs/{first['name']}/resume", {})
    again = system.request(f"/runs/{first['name']}/rerun", {})
    taken = [system.plan_of(run).step("fit").runnable for run in (locked, resumed, again)]
    assert taken == ["runnable://p/fit/1.0.0", "runnable://p/fit/1.0.0", "runnable://p/fit/1.1.0"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"alpha": "rows=xx"}, "'rows=xx' is not a number"),
        ({"alpha": "1.5"}, "greater than the maximum, 1"),
        ({"depth": "deep"}, "'deep' is not an integer"),
        ({"goal": "mim"}, "did you mean 'min'"),
    ],
)
def test_a_wrong_value_is_refused_when_the_run_is_requested(system: System, inputs: dict[str, str], message: str) -> None:
    answer = system.runs.post("/runs", json={"workflow": "fitting", "project": "p", "codeset": "code", "inputs": inputs})
    assert message in refused(answer, 400)


def test_parameters_of_a_run_are_checked_and_passed(system: System) -> None:
    found = variables(plan(system, depth="7", other="x").step("fit"))
    assert found["FUSEML_PARAMETERS"] == "depth=7 other=x"


def test_an_unknown_runnable_is_an_error_of_lint_and_the_cause_of_a_failed_run(system: System) -> None:
    document = "name: lost\nsteps:\n  - name: fit\n    runnable: fti\n"
    create(system, document)
    lint = system.workflows.post("/workflows?dry_run=true&project=p", data=document).json["findings"]  # type: ignore[index]
    assert [(item["level"], item["path"], item["line"], item["suggestion"]) for item in lint] == [("error", "steps[0].runnable", 4, "fit")]
    without = system.workflows.post("/workflows?dry_run=true", data=document).json["findings"]  # type: ignore[index]
    assert [item["level"] for item in without] == ["note"]
    answer = system.runs.post("/runs", json={"workflow": "lost", "project": "p"})
    assert "no runnable 'fti'" in refused(answer, 400)
    assert "satisfies ^9" in plan_of_one(system, "fit@^9")["message"]


def plan_of_one(system: System, reference: str) -> Any:
    create(system, f"name: one\nsteps:\n  - name: fit\n    runnable: {reference!r}\n")
    return plan(system, "one", status=400)


def test_a_runnable_of_another_project_is_not_found(system: System) -> None:
    add(system, FIT, project="other", name="secret")
    assert "no runnable 'secret'" in plan_of_one(system, "secret")["message"]


def test_every_project_has_the_built_in_runnables(system: System) -> None:
    create(
        system,
        """
name: score
steps:
  - name: score
    runnable: scorer
    outputs: [{name: rows}]
    extensions: [{name: mlflow-tracking, service_resource: s3}]
    inputs:
      - {name: model, value: "models:/m/1"}
      - {name: data, value: rows.csv}
      - {name: output, value: out.csv}
""",
    )
    answer = system.workflows.post("/workflows/score/plan", json={"project": "p"})
    step = plans.Plan.model_validate(answer.json).step("score")
    assert (step.runnable, texts([step.image])) == (f"runnable://fuseml/scorer/{fuseml.__version__}", ["ghcr.io/fuseml/scorer:v1"])


WRONG = """
name: wrong
inputs:
  - {name: code, type: codeset}
steps:
  - name: fit
    runnable: fit
    command: [ls]
    outputs: [{name: modle}]
    inputs:
      - codeset: {name: code}
      - {name: alpha, value: much}
      - {name: aplha, value: 1}
      - {name: config, codeset: {name: code, path: /other}}
  - name: check
    runnable: check
    inputs:
      - {name: model, value: "{{ steps.fit.outputs.rows }}"}
  - name: old
    image: registry.example.com/old:1
    runnable: fit
"""


def test_every_fault_of_the_steps_has_its_place_in_the_document(system: System) -> None:
    check = {"name": "check", "version": "1.0.0", "image": "c:1", "inputs": [{"name": "model", "type": "model"}, {"name": "label"}]}
    add(system, check)
    both = system.workflows.post("/workflows", data=WRONG)
    assert "image or a runnable, not both" in refused(both, 400)
    document = WRONG.rpartition("  - name: old")[0]
    found = system.workflows.post("/workflows?dry_run=true&project=p", data=document).json["findings"]  # type: ignore[index]
    placed = {(item["path"], item["line"]): item["message"] for item in found if item["level"] == "error"}
    assert placed.keys() == {
        ("steps[0].command", 8),
        ("steps[0].outputs[0].name", 9),
        ("steps[0].inputs[1].value", 12),
        ("steps[0].inputs[2].name", 13),
        ("steps[0].inputs[3]", 14),
        ("steps[1].inputs", 17),
        ("steps[1].inputs[0].value", 18),
    }
    assert placed["steps[1].inputs", 17] == "the runnable check 1.0.0 needs the input 'label', a string"
    assert "an integer is not a model" in placed["steps[1].inputs[0].value", 18]


def test_a_reference_to_an_output_that_the_runnable_lacks_is_found(system: System) -> None:
    document = WORKFLOW.replace("name: fitting", "name: reader") + (
        "  - {name: read, image: 'r:1', inputs: [{name: m, value: '{{ steps.fit.outputs.modle }}'}]}\n"
    )
    create(system, document)  # the runnable of another project may have it
    found = system.workflows.post("/workflows?dry_run=true&project=p", data=document).json["findings"]  # type: ignore[index]
    assert [(item["level"], item["suggestion"]) for item in found if item["level"] == "error"] == [("error", "steps.fit.outputs.model")]
    assert "has no output 'modle'" in plan(system, "reader", status=400)["message"]


def test_a_secret_is_neither_an_argument_nor_a_file(system: System) -> None:
    for name in ("alpha", "config"):
        document = WORKFLOW.replace("name: fitting", f"name: secret-{name}").replace(
            '{name: alpha, value: "{{ inputs.alpha }}"}', f'{{name: {name}, value: "{{{{ extension.store.cfg.AWS_SECRET_ACCESS_KEY }}}}"}}'
        )
        create(system, document)
        assert "secret" in plan(system, f"secret-{name}", status=400)["message"]


def test_a_value_of_a_file_input_is_a_file_of_the_step(system: System) -> None:
    document = WORKFLOW.replace("name: fitting", "name: filed").replace(
        '{name: alpha, value: "{{ inputs.alpha }}"}', '{name: config, value: "alpha: {{ inputs.alpha }}"}'
    )
    create(system, document)
    step = plan(system, "filed").step("fit")
    assert step.files == (plans.File(name="config", variable="FUSEML_CONFIG", text="alpha: 0.2"),)
    assert "FUSEML_CONFIG" not in variables(step)


def test_a_matrix_is_checked_for_each_of_its_values(system: System) -> None:
    document = (
        WORKFLOW.replace("name: fitting", "name: grid")
        .replace("{{ inputs.alpha }}", "{{ matrix.alpha }}")
        .replace("    runnable: fit@^1\n", "    runnable: fit@^1\n    matrix: {values: {alpha: [0.1, 7]}}\n")
        .replace("outputs:\n  - {name: model}\n", "")
    )
    create(system, document)
    assert "7 is greater than the maximum" in plan(system, "grid", status=400)["message"]


def test_a_step_that_watches_files_is_reused_while_they_are_unchanged(system: System, files: Files) -> None:
    first = system.start(workflow="fitting")
    system.finish(first["name"], "succeeded", fit={"model": "models:/m/1", "rows": "7"})
    with system.store.write() as session:
        step_reuse.keep(session, runs.get(session, first["name"]))
    files["train.py"] = "fit(faster=True)"
    second = system.start(workflow="fitting")
    [reused] = system.plan_of(second).reused
    assert (reused.name, reused.run, reused.outputs["model"]) == ("fit", first["name"], "models:/m/1")
    assert second["outputs"]["model"] == "models:/m/1"
    files["conda.yaml"] = "numpy 2"
    step = system.plan_of(system.start(workflow="fitting")).step("fit")
    assert step.cache is not None
    assert step.cache.not_reused == f"changed since {first['name']}: content of conda.yaml in /project"


def test_a_step_that_watches_files_may_be_executed_always(system: System) -> None:
    create(system, WORKFLOW.replace("name: fitting", "name: always").replace("    env:", "    cache: false\n    env:"))
    assert plan(system, "always").step("fit").cache is None


def test_the_version_of_a_runnable_that_ran_may_be_deleted(system: System) -> None:
    run = system.start(workflow="fitting")
    with system.store.write() as session:
        runnables.delete(session, runnables.get(session, "runnable://p/fit/1.0.0"))
    system.finish(run["name"], "failed")
    locked = system.request(f"/runs/{run['name']}/rerun", {"locked": True})
    assert system.plan_of(locked).step("fit").runnable == "runnable://p/fit/1.0.0"
