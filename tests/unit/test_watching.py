"""The artifacts that count as a change for the runnables of a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fuseml.domain import workflows
from fuseml.domain.artifacts import subscription
from fuseml.domain.runnables import watching
from fuseml.domain.runnables.descriptor import Runnable, Watch

PATTERN = subscription.parse("model://demo/*")


def runnable(**watch: Any) -> Runnable:
    kind = "dataset" if "fields" in watch else "model"
    document = {
        "name": "r",
        "version": "1.0.0",
        "kind": "custom",
        "image": "x",
        "inputs": [{"name": "taken", "type": kind, "watch": watch}],
    }
    return Runnable.model_validate(document)


def workflow(*steps: Mapping[str, Any], type: str = "model") -> workflows.Workflow:
    named = [{"name": f"s{number}", **step} for number, step in enumerate(steps)]
    return workflows.Workflow.model_validate({"name": "w", "inputs": [{"name": "given", "type": type}], "steps": named})


READING: Mapping[str, Any] = {"runnable": "r", "inputs": [{"name": "taken", "value": "{{ inputs.given }}"}]}
BY_PATH: Mapping[str, Any] = {"runnable": "r", "inputs": [{"name": "taken", "artifact": {"address": "{{ inputs.given }}"}}]}
OTHER: Mapping[str, Any] = {"image": "x", "inputs": [{"name": "taken", "value": "given"}]}
PLAIN: Mapping[str, Any] = {"image": "x", "inputs": [{"name": "taken", "value": "of {{ inputs.given }}"}]}


@pytest.mark.parametrize(
    ("steps", "metrics"),
    [
        ([READING], ["rmse < 0.8"]),
        ([BY_PATH], ["rmse < 0.8"]),
        ([READING, OTHER], ["rmse < 0.8"]),
        ([READING, PLAIN], ["rmse < 0.8", ""]),
        ([OTHER], []),
    ],
)
def test_the_steps_that_read_the_artifact_are_asked(steps: list[Mapping[str, Any]], metrics: list[str]) -> None:
    given = workflow(*steps)
    described = {"s0": runnable(metrics="rmse < 0.8")} if steps[0] is not OTHER else {}
    assert [watch.metrics for watch in watching.watches(given, "model", described)] == metrics
    assert watching.watches(given, "dataset", described) == []


@pytest.mark.parametrize(
    ("metrics", "patterns"),
    [
        ([], ["model://demo/*"]),
        (["rmse < 0.8", ""], ["model://demo/*"]),
        (["rmse < 0.8", "no condition"], ["model://demo/*"]),
        (["rmse < 0.8", "rmse < 0.8"], ["model://demo/*?metrics.rmse<0.8"]),
        (["rmse < 0.8", "r2 > 0.5, n >= 3"], ["model://demo/*?metrics.rmse<0.8", "model://demo/*?metrics.r2>0.5&metrics.n>=3.0"]),
    ],
)
def test_one_step_that_watches_what_has_happened_is_enough(metrics: list[str], patterns: list[str]) -> None:
    assert [str(pattern) for pattern in watching.narrowed([PATTERN], [Watch(metrics=text) for text in metrics])] == patterns


@pytest.mark.parametrize(
    ("fields", "before", "reason"),
    [
        ([["rows"]], {"rows": 5, "digest": "a"}, "rows is as before"),
        ([["rows"], ["digest"]], {"rows": 5, "digest": "a"}, ""),
        ([["rows", "format"]], {"rows": 5}, "format, rows are as before"),
        ([["rows"], []], {"rows": 5}, ""),
        ([["rows"]], {"rows": 4}, ""),
        ([["rows"]], None, ""),
        ([], {"rows": 5}, ""),
    ],
)
def test_a_version_whose_watched_fields_are_as_before_is_no_change(
    fields: list[list[str]], before: Mapping[str, object] | None, reason: str
) -> None:
    assert watching.unchanged([Watch(fields=names) for names in fields], {"rows": 5, "digest": "b"}, before) == reason


def test_a_document_takes_an_artifact_by_type_then_by_name() -> None:
    assert watching.input_for(workflow(READING), "model") == "given"
    assert watching.input_for(workflow(READING), "dataset") is None
    named = workflows.Workflow.model_validate({"name": "w", "inputs": [{"name": "dataset"}], "steps": [{"name": "s", "image": "x"}]})
    assert watching.input_for(named, "dataset") == "dataset"
