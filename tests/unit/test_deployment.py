"""Deployment: the steps of a workflow that run for a ref, and the names of previews."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.workflows import Workflow, deployment, lint, loading, triggers
from fuseml.steps import predictor

MAIN, FEATURE = "refs/heads/main", "refs/heads/feature/x"

TRAIN_AND_SERVE = """
name: e2e
inputs: [{name: code, type: codeset}]
outputs: [{name: url}, {name: model}, {name: never}]
steps:
  - {name: train, image: "t:1", inputs: [{codeset: {name: code}}], outputs: [{name: model}]}
  - name: serve
    image: "ghcr.io/fuseml/predictor:v1"
    inputs: [{name: model, value: "{{ steps.train.outputs.model }}"}]
    outputs: [{name: url}]
  - {name: smoke-test, image: "s:1", script: "curl {{ steps.serve.outputs.url }}"}
  - {name: report, image: "r:1", needs: [train]}
"""


def workflow(deploy: str = "", text: str = TRAIN_AND_SERVE) -> Workflow:
    return loading.load(f"{text}\n{deploy}")


def steps(result: deployment.Deployment) -> list[str]:
    return [step.name for step in result.workflow.steps]


def test_another_ref_runs_without_the_serving_steps_and_those_that_wait_for_them() -> None:
    result = deployment.of_ref(workflow(), FEATURE, MAIN)
    assert steps(result) == ["train", "report"]
    # An output that no step produces stays: lint warns of it.
    assert [output.name for output in result.workflow.outputs] == ["model", "never"]
    assert result.note == "without serve, smoke-test, because only main is deployed"
    assert deployment.of_ref(workflow(), MAIN, MAIN) == deployment.Deployment(workflow())


@pytest.mark.parametrize(
    ("refs", "ref", "deployed"),
    [
        ("", MAIN, True),
        ("", "refs/heads/master", False),
        ("", "refs/tags/main", False),
        ("", "refs/heads/Main", False),
        ("[release/*]", "refs/heads/release/1", True),
        ("[release/*]", MAIN, False),
        ("[main, 'refs/tags/v*']", "refs/tags/v1", True),
        ("['**']", FEATURE, True),
    ],
)
def test_the_workflow_names_the_deployed_refs(refs: str, ref: str, deployed: bool) -> None:
    document = workflow(f"deploy: {{refs: {refs}}}" if refs else "")
    assert deployment.is_deployed(document, ref, MAIN) is deployed
    assert ("serve" in steps(deployment.of_ref(document, ref, MAIN))) is deployed


def test_the_default_branch_is_that_of_the_codeset() -> None:
    assert "serve" in steps(deployment.of_ref(workflow(), "refs/heads/master", "refs/heads/master"))
    assert "serve" not in steps(deployment.of_ref(workflow(), MAIN, "refs/heads/master"))


@pytest.mark.parametrize(
    "step",
    [
        "image: ghcr.io/fuseml/predictor:v1",
        "image: registry.example:5000/mirror/kserve-predictor@sha256:0000",
        "image: seldon-core-predictor",
        "{image: 'mine:1', extensions: [{name: s, service_category: prediction-serving}]}",
    ],
)
def test_a_serving_step_is_known_by_its_selector_or_its_image(step: str) -> None:
    fields = step if step.startswith("{") else f"{{{step}}}"
    text = f"name: w\ninputs: [{{name: code, type: codeset}}]\nsteps: [{{name: serve, {fields[1:-1]}}}, {{name: other, image: 'predictor-tools:1'}}]"
    assert deployment.serving_steps(workflow(text=text)) == ["serve"]


def test_a_ref_without_any_step_is_refused() -> None:
    text = "name: w\nsteps: [{name: serve, image: 'predictor:v1'}]"
    with pytest.raises(errors.InvalidError, match=r"^refs/heads/feature/x serves nothing: only main and v2 are deployed$"):
        deployment.of_ref(workflow("deploy: {refs: [main, v2]}", text), FEATURE, MAIN)


def test_a_preview_keeps_the_steps_and_names_the_ref() -> None:
    result = deployment.of_ref(workflow("deploy: {preview: true}"), FEATURE, MAIN)
    assert steps(result) == ["train", "serve", "smoke-test", "report"]
    (variable,) = result.workflow.steps[1].env
    assert (variable.name, variable.value) == ("FUSEML_PREVIEW", deployment.preview_name(FEATURE))
    assert result.note == "with a preview by serve, because only main is deployed"
    assert deployment.of_ref(workflow("deploy: {preview: true}"), MAIN, MAIN).workflow.steps[1].env == []


def test_only_the_built_in_predictor_serves_previews() -> None:
    text = TRAIN_AND_SERVE.replace("fuseml/predictor", "fuseml/kserve-predictor")
    assert steps(deployment.of_ref(workflow("deploy: {preview: true}", text), FEATURE, MAIN)) == ["train", "report"]


@given(st.text(max_size=60))
def test_the_name_of_a_preview_is_part_of_an_application_name(branch: str) -> None:
    name = deployment.preview_name(f"refs/heads/{branch}")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) and len(name) <= 30
    assert predictor.application_name("app", name) == f"app-{name}"


@given(st.lists(st.text("aA-/_.ü", min_size=1, max_size=5), min_size=2, max_size=6, unique=True))
def test_two_refs_never_share_a_preview(branches: list[str]) -> None:
    assert len({deployment.preview_name(f"refs/heads/{branch}") for branch in branches}) == len(branches)


def test_lint_notes_the_effect_of_a_push() -> None:
    assert [(finding.level, finding.path, finding.message) for finding in lint.lint(workflow()) if finding.level == "note"] == [
        ("note", "steps[1]", "a push to the default branch serves by serve; a push to any other ref runs without serve")
    ]
    (note,) = (finding for finding in lint.lint(workflow("deploy: {refs: [main, v2], preview: true}")) if finding.level == "note")
    assert (note.path, note.message) == (
        "deploy",
        "a push to main or v2 serves by serve; a push to any other ref serves a preview by serve",
    )


def test_globs_of_refs_are_checked() -> None:
    with pytest.raises(errors.InvalidError, match=r"deploy.refs\[0\]: 'a..b' cannot match a branch or tag"):
        workflow("deploy: {refs: ['a..b']}")
    triggers.check_ref("main")
