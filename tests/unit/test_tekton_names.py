"""Names of Kubernetes objects: valid for all input, deterministic, and reversible."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import labels, plans
from fuseml.domain.plans import identity
from fuseml.engines.tekton import names
from tests.unit import tekton_plans

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, apimachinery validation.IsDNS1123Label
KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")  # validation.IsConfigMapKey
ANY = st.text(max_size=80) | st.from_regex(re.compile(r"[A-Za-z0-9_.-]{1,90}", re.ASCII), fullmatch=True)


@given(workflow=ANY, run_id=ANY)
def test_the_name_of_a_run_is_valid_and_short_enough_for_derived_names(workflow: str, run_id: str) -> None:
    name = names.run_name(workflow, run_id)
    assert LABEL.fullmatch(name)
    assert len(name) <= 41
    assert name == names.run_name(workflow, run_id)


def test_the_name_of_a_run_contains_the_workflow_and_the_id() -> None:
    assert names.run_name("mlflow-e2e", "0123456789abcdef0123456789abcdef") == "mlflow-e2e-0123456789abcdef"
    assert names.run_name("Mein Ablauf_2", "feedfacefeedface00") == "mein-ablauf-2-feedfacefeedface"


@given(first=ANY, second=ANY)
def test_runs_with_different_ids_have_different_names(first: str, second: str) -> None:
    # The name contains 64 bits of a long hexadecimal id; ids of runs are digests, so 64 bits are sufficient.
    same = first == second or (re.fullmatch("[0-9a-f]{16,}", first) and re.fullmatch("[0-9a-f]{16,}", second) and first[:16] == second[:16])
    assert (names.run_name("wf", first) == names.run_name("wf", second)) == bool(same)


@given(steps=st.lists(ANY | st.sampled_from(["train", "fuseml-clone", "step-x-2d711642"]), unique=True, max_size=8))
def test_tasks_have_valid_and_unique_names_that_map_back_to_steps(steps: list[str]) -> None:
    named = names.tasks(steps)
    assert list(named) == steps or set(named) == set(steps)
    assert len(set(named.values())) == len(steps)
    for task in named.values():
        assert LABEL.fullmatch(task)
        assert not task.startswith(labels.AUXILIARY_PREFIX)
    mapped = names.steps(names.steps_annotation(named))
    assert {mapped.get(task, task): task for task in named.values()} == named


def test_a_step_with_a_valid_name_keeps_it_without_an_annotation() -> None:
    assert names.tasks(["train", "predict-2"]) == {"train": "train", "predict-2": "predict-2"}
    assert names.steps_annotation(names.tasks(["train"])) == {}


def test_a_step_may_have_the_name_of_the_task_of_another_step() -> None:
    other = names.tasks(["A B"])["A B"]
    named = names.tasks(["A B", other])
    assert named[other] == other
    assert named["A B"] != other


@given(project=ANY, codeset=ANY, commit=ANY)
def test_clones_have_valid_names_that_no_step_can_have(project: str, codeset: str, commit: str) -> None:
    checkout = tekton_plans.codeset(project=project, codeset=codeset, commit=commit)
    assert LABEL.fullmatch(names.clone(checkout))
    assert names.clone(checkout).startswith(labels.AUXILIARY_PREFIX)
    other = tekton_plans.codeset(project=project, codeset=codeset, commit=commit + "0")
    assert names.clone(other) != names.clone(checkout)


SECRET = st.builds(plans.SecretPart, extension=ANY, service=ANY, credentials=ANY, key=ANY)


@given(first=SECRET, second=SECRET)
def test_keys_of_secrets_are_valid_and_unique(first: plans.SecretPart, second: plans.SecretPart) -> None:
    assert KEY.fullmatch(names.secret_key(first))
    assert (names.secret_key(first) == names.secret_key(second)) == (first.ref == second.ref)


def test_secrets_with_dots_have_different_keys() -> None:
    first = plans.SecretPart(extension="a.b", service="c", credentials="d", key="e")
    second = plans.SecretPart(extension="a", service="b.c", credentials="d", key="e")
    assert names.secret_key(first) != names.secret_key(second)


@given(text=ANY)
def test_label_values_follow_the_rule_of_kubernetes(text: str) -> None:
    # validation.IsValidLabelValue without the empty value, which selects nothing.
    expected = 0 < len(text) <= 63 and re.fullmatch(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", text) is not None
    assert names.is_label_value(text) == expected


def test_each_execution_of_a_run_has_its_own_name_and_label() -> None:
    run_id = "0123456789abcdef" * 2
    executions = [identity.execution_id(run_id, number) for number in (1, 2, 3)]
    assert len({names.run_name("train", execution) for execution in executions}) == 3
    assert all(names.is_label_value(execution) for execution in executions)
    assert names.run_name("train", executions[0]) == "train-0123456789abcdef"
