"""Templates of pipelines: the shipped ones, and the workflow and assignments that the values and patterns of their inputs make."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import artifact, errors
from fuseml.domain.pipelines import additions, templates
from fuseml.domain.workflows import lint, loading

FOLDER = pathlib.Path(__file__).parents[2] / "shared/fuseml/examples/pipelines"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
NAMES = ["batch-score", "mlflow-e2e", "mlflow-serve", "mlflow-train", "retrain-on-data"]


def template(name: str) -> templates.Template:
    return templates.load(templates.reference(name), "1.0", (FOLDER / f"{name}.yaml").read_bytes())


def fill(name: str, project: str = "demo", workflow: str = "w", **inputs: str) -> additions.Addition:
    return additions.fill(template(name), workflow, project, {key.replace("__", "-"): value for key, value in inputs.items()})


def problems(name: str, workflow: str = "w", **inputs: str) -> list[str]:
    with pytest.raises(errors.InvalidError) as refused:
        fill(name, workflow=workflow, **inputs)
    return [str(problem) for problem in refused.value.problems]


def test_the_templates_ship() -> None:
    assert [path.stem for path in SHIPPED] == NAMES


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_template_has_no_fault_its_own_name_and_describes_its_inputs(path: pathlib.Path) -> None:
    assert [finding for finding in lint.lint_text(path.read_text()) if finding.level != "note"] == []
    workflow = loading.load(path.read_text())
    assert (workflow.name, bool(workflow.description.strip())) == (path.stem, True)
    assert all(item.description for item in workflow.inputs)
    assert all(output.description for output in workflow.outputs)


CODE, MODEL, DATA = "code://*", "model://*", "dataset://*"


@pytest.mark.parametrize(
    ("name", "inputs", "patterns"),
    [
        ("mlflow-train", {"mlflow_code": CODE}, ["code://demo/*"]),
        ("mlflow-train", {"mlflow_code": "code://demo/diabetes"}, ["code://demo/diabetes"]),
        ("mlflow-e2e", {"mlflow_code": "code://demo/team-*"}, ["code://demo/team-*"]),
        ("mlflow-e2e", {"mlflow_code": "code://*/wine"}, ["code://demo/wine"]),
        ("mlflow-serve", {"model": MODEL}, ["model://demo/*"]),
        ("mlflow-serve", {"model": "model://*?metrics.rmse<0.8"}, ["model://demo/*?metrics.rmse<0.8"]),
        ("mlflow-serve", {"model": "model://demo/wine"}, ["model://demo/wine"]),
        ("batch-score", {"model": MODEL, "data": "dataset://demo/rows@latest"}, ["model://demo/*"]),
        ("batch-score", {"model": "models:/wine/1", "data": DATA}, ["dataset://demo/*"]),
        ("retrain-on-data", {"data": DATA, "target": "y"}, ["dataset://demo/*"]),
        ("retrain-on-data", {"data": "dataset://demo/rows/1", "target": "y"}, []),
    ],
)
def test_a_pattern_is_narrowed_to_the_project(name: str, inputs: dict[str, str], patterns: list[str]) -> None:
    addition = fill(name, **inputs)
    assert addition.patterns == patterns
    assert (addition.workflow.name, addition.workflow.template) == ("w", f"fuseml/{name}@1.0")
    # It is a workflow as any other.
    stored = addition.workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert loading.load(yaml.safe_dump(stored)) == addition.workflow


def test_a_value_and_an_address_become_what_the_input_is_without_another_one() -> None:
    addition = fill("batch-score", model="model://demo/wine@champion", data=DATA, result="scores")
    assert {item.name: item.default for item in addition.workflow.inputs} == {
        "data": None,
        "model": "model://demo/wine@champion",
        "result": "scores",
    }
    assert addition.addresses == ["model://demo/wine@champion"]
    # Undeclared inputs are parameters of the training, as those of a run.
    trained = fill("mlflow-train", mlflow_code=CODE, epochs="5", alpha="0.1")
    assert {item.name: item.default for item in trained.workflow.inputs}["parameters"] == "epochs=5 alpha=0.1"


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("mlflow-train", {}, "inputs.mlflow_code: this input needs a value: --input mlflow_code='code://*'"),
        ("mlflow-train", {"mlflow_cod": CODE}, "did you mean 'mlflow_code'?"),
        ("mlflow-train", {"mlflow_code": "diabetes"}, "write code://demo/NAME"),
        ("mlflow-train", {"mlflow_code": MODEL}, "of another kind: model"),
        ("mlflow-train", {"mlflow_code": "code://other/*"}, "is not of the project 'demo'"),
        ("mlflow-train", {"mlflow_code": "code://demo/x/0123"}, "write code://demo/x"),
        ("mlflow-train", {"mlflow_code": "code://*?format=x"}, "filters code"),
        ("mlflow-serve", {"model": "model://other/wine/1"}, "is not of the project 'demo'"),
        ("mlflow-serve", {"model": "model://demo/wine/1?format=onnx"}, "nothing to filter"),
        ("mlflow-serve", {"model": MODEL, "aplication": "x"}, "did you mean 'application'?"),
        ("mlflow-serve", {"model": "models://*"}, "write model://*"),
        ("mlflow-train", {"mlflow_code": "code://demo/wine/*"}, "would match nothing"),
        ("mlflow-serve", {"model": "model://demo/*@best"}, "would match nothing"),
        ("mlflow-serve", {"model": "{{ inputs.model }}"}, "plain text"),
        ("batch-score", {"model": MODEL, "data": DATA}, "one input takes a pattern"),
        ("retrain-on-data", {"data": DATA}, "--input target=VALUE"),
        ("retrain-on-data", {"data": DATA, "target": "y", "alpha": "much"}, "not a number"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_the_remedy(name: str, inputs: dict[str, str], message: str) -> None:
    found = problems(name, **inputs)
    assert any(message in problem for problem in found), found


def test_every_fault_is_reported_at_once_and_a_wrong_name_is_one() -> None:
    assert len(problems("retrain-on-data", data="dataset://other/x", alpha="much")) == 3
    assert any("not a valid name" in problem for problem in problems("mlflow-serve", workflow="a b", model=MODEL))


TWO = b"""
name: two
inputs:
  - {name: first, type: model, default: ""}
  - {name: second, type: model}
  - {name: code, type: codeset}
steps:
  - name: use
    image: registry.example.com/use:1
    inputs:
      - {name: first, value: "{{ inputs.first }}"}
      - {name: second, value: "{{ inputs.second }}"}
      - codeset: {name: code}
"""


def test_a_run_that_an_artifact_starts_has_the_artifact_only() -> None:
    two = templates.load(templates.reference("team/two"), "c0ffee", TWO)
    with pytest.raises(errors.InvalidError, match=r"has no code, which code needs|one input takes a pattern"):
        additions.fill(two, "w", "demo", {"second": MODEL, "code": CODE})
    without = templates.load(
        templates.reference("team/two"),
        "c0ffee",
        TWO.split(b"  - {name: code")[0] + b"steps:" + TWO.split(b"steps:")[1].split(b"      - codeset")[0],
    )
    with pytest.raises(errors.InvalidError, match="the value of the input 'first'"):
        additions.fill(without, "w", "demo", {"second": MODEL})
    assert additions.fill(without, "w", "demo", {"first": MODEL, "second": "models:/x/1"}).workflow.template == "team/two@c0ffee"


kinds = st.sampled_from([*artifact.KINDS, "nothing"])
texts = st.builds(
    "{}://{}{}".format,
    kinds,
    st.sampled_from(["*", "demo/*", "demo/x", "other/x", "demo/x/1", "demo/x@tag", "*/*", "demo", "", "*/x*"]),
    st.sampled_from(["", "?format=onnx", "?tag=x", "?metrics.r2>0.5"]),
)


@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(["mlflow_code", "model", "data", "target", "other"]), texts, max_size=3))
def test_whatever_is_added_stays_in_its_project_and_all_else_has_a_reason(name: str, inputs: dict[str, str]) -> None:
    try:
        addition = fill(name, **inputs)
    except errors.InvalidError as error:
        assert error.problems
        return
    for text in (*addition.patterns, *addition.addresses):
        assert text.partition("://")[2].startswith("demo/")
    assert len(addition.patterns) <= 1


# Files of a catalogue


def test_templates_are_the_documents_of_the_folder_or_of_the_root() -> None:
    files = {"a.yaml": b"1", "README.md": b"2", "pipelines/b.yml": b"3", "pipelines/deep/c.yaml": b"4"}
    assert [path for path in files if templates.is_template(path)] == ["a.yaml", "pipelines/b.yml"]
    assert templates.choose("team", files) == {"b": b"3"}
    assert templates.choose("team", {"a.yaml": b"1", "x.y.yaml": b"2"}) == {"a": b"1"}
    with pytest.raises(errors.InvalidError, match="two templates of the name 'a'"):
        templates.choose("team", {"a.yaml": b"", "a.yml": b""})
    with pytest.raises(errors.InvalidError, match="the limit is 200"):
        templates.choose("team", {f"t{number}.yaml": b"" for number in range(201)})


@pytest.mark.parametrize("content", [b"\xff", b"name: x", b"- 1", b"x" * (templates.LARGEST + 1)])
def test_a_file_that_is_no_workflow_is_refused_by_its_name(content: bytes) -> None:
    with pytest.raises(errors.InvalidError, match="team/bad"):
        templates.load(templates.reference("team/bad"), "c", content)


@pytest.mark.parametrize("text", ["", "a/b/c", "a b", "../x", "team/", "/x", "x" * 101])
def test_a_text_that_names_no_template_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a template"):
        templates.reference(text)
