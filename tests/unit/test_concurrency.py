"""Concurrency groups of runs, and the names of groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, workflows
from fuseml.domain.workflows import concurrency, loading

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)


def document(group: str, policy: str = "queue") -> str:
    return f"""
name: deploy
inputs:
  - {{name: code, type: codeset}}
  - {{name: stage, default: test}}
  - {{name: must}}
concurrency: {{group: "{group}", policy: {policy}}}
steps:
  - name: step
    image: shell:1
    outputs: [{{name: done}}]
    extensions: [{{name: store}}]
"""


def group(text: str, *, name: str = "deploy", project: str = "p", codeset: str | None = "code", **inputs: str) -> str | None:
    loaded = loading.load(document(text).replace("name: deploy", f"name: {name}", 1))
    return concurrency.group_of(loaded, project=project, codeset=codeset, commit="c0ffee", inputs=inputs)


def test_without_concurrency_a_run_has_no_group() -> None:
    plain = workflows.Workflow(name="w", steps=[])
    assert concurrency.group_of(plain, project="p", codeset="c", commit="1", inputs={}) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "deploy@p/code"),
        ("gpu", "p/gpu"),
        ("{{ inputs.stage }}", "p/test"),
        ("serve-{{ inputs.code.name }}-{{ inputs.code.project }}", "p/serve-code-p"),
        ("{{ inputs.code.version }}", "p/c0ffee"),
        ("{{ inputs.must }}", "p/"),
        ("{{ 'a b' }}", "p/a b"),
    ],
)
def test_the_name_of_a_group_holds_text_and_inputs(text: str, name: str) -> None:
    assert group(text) == name


def test_inputs_override_defaults() -> None:
    assert group("{{ inputs.stage }}", stage="live") == "p/live"
    assert group("", codeset=None) == "deploy@p/"


@given(NAMES, NAMES, NAMES, NAMES)
def test_named_and_unnamed_groups_never_collide(workflow_name: str, project: str, codeset: str, other: str) -> None:
    names = [group("", name=f"w{workflow_name}", project=project, codeset=codeset), group("x", name="w", project=other)]
    assert names[0] != names[1]
    assert names[1] == group("x", name="another", project=other), "shared by the workflows of a project"
    assert (project == other) == (group("x", project=project) == names[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my group", "'my group' is not a valid name"),
        ("{{ inputs.stgae }}", "there is no input 'stgae' (did you mean 'inputs.stage'?)"),
        ("{{ inputs.code }}", "the input 'code' is a codeset, not a value"),
        ("{{ steps.step.outputs.done }}", "has no value when a run is created; a group may refer to inputs only"),
        ("{{ extension.store.url }}", "has no value when a run is created"),
        ("{{ inputs.stage", "is never closed by '}}'"),
    ],
)
def test_an_invalid_group_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        loading.load(document(text))
    [problem] = caught.value.problems
    assert message in str(problem)
    assert (problem.path, problem.line) == ("concurrency.group", 7)
