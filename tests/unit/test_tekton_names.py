"""Names of Kubernetes objects: legal for whatever things are called, the same each time, and readable back."""

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
def test_the_name_of_a_run_is_legal_and_short_enough_for_what_is_derived_from_it(workflow: str, run_id: str) -> None:
    name = names.run_name(workflow, run_id)
    assert LABEL.fullmatch(name)
    assert len(name) <= 41
    assert name == names.run_name(workflow, run_id)


def test_the_name_of_a_run_shows_the_workflow_and_the_id() -> None:
    assert names.run_name("mlflow-e2e", "0123456789abcdef0123456789abcdef") == "mlflow-e2e-0123456789abcdef"
    assert names.run_name("Mein Ablauf_2", "feedfacefeedface00") == "mein-ablauf-2-feedfacefeedface"


@given(first=ANY, second=ANY)
def test_runs_with_different_ids_have_different_names(first: str, second: str) -> None:
    # Of long hexadecimal ids 64 bits are used; the ids of runs are digests, so that these are as good as all.
    same = first == second or (re.fullmatch("[0-9a-f]{16,}", first) and re.fullmatch("[0-9a-f]{16,}", second) and first[:16] == second[:16])
    assert (names.run_name("wf", first) == names.run_name("wf", second)) == bool(same)


@given(steps=st.lists(ANY | st.sampled_from(["train", "fuseml-clone", "step-x-2d711642"]), unique=True, max_size=8))
def test_tasks_have_legal_names_of_their_own_from_which_the_steps_are_read_back(steps: list[str]) -> None:
    named = names.tasks(steps)
    assert list(named) == steps or set(named) == set(steps)
    assert len(set(named.values())) == len(steps)
    for task in named.values():
        assert LABEL.fullmatch(task)
        assert not task.startswith(labels.AUXILIARY_PREFIX)
    back = names.steps(names.renamed(named))
    assert {back.get(task, task): task for task in named.values()} == named


def test_a_step_whose_name_is_legal_keeps_it_and_nothing_is_noted() -> None:
    assert names.tasks(["train", "predict-2"]) == {"train": "train", "predict-2": "predict-2"}
    assert names.renamed(names.tasks(["train"])) == {}


def test_a_step_may_be_called_like_another_ones_task() -> None:
    other = names.tasks(["A B"])["A B"]
    named = names.tasks(["A B", other])
    assert named[other] == other
    assert named["A B"] != other


@given(project=ANY, codeset=ANY, commit=ANY)
def test_clones_have_legal_names_that_no_step_can_have(project: str, codeset: str, commit: str) -> None:
    checkout = tekton_plans.codeset(project=project, codeset=codeset, commit=commit)
    assert LABEL.fullmatch(names.clone(checkout))
    assert names.clone(checkout).startswith(labels.AUXILIARY_PREFIX)
    other = tekton_plans.codeset(project=project, codeset=codeset, commit=commit + "0")
    assert names.clone(other) != names.clone(checkout)


SECRET = st.builds(plans.SecretPart, extension=ANY, service=ANY, credentials=ANY, key=ANY)


@given(first=SECRET, second=SECRET)
def test_keys_of_secrets_are_legal_and_different_for_different_secrets(first: plans.SecretPart, second: plans.SecretPart) -> None:
    assert KEY.fullmatch(names.secret_key(first))
    assert (names.secret_key(first) == names.secret_key(second)) == (first.ref == second.ref)


def test_dots_do_not_make_two_secrets_one() -> None:
    first = plans.SecretPart(extension="a.b", service="c", credentials="d", key="e")
    second = plans.SecretPart(extension="a", service="b.c", credentials="d", key="e")
    assert names.secret_key(first) != names.secret_key(second)


@given(text=ANY)
def test_a_label_value_is_what_kubernetes_says_it_is(text: str) -> None:
    # validation.IsValidLabelValue, without the empty one: nothing is found by it.
    expected = 0 < len(text) <= 63 and re.fullmatch(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", text) is not None
    assert names.is_label_value(text) == expected


def test_the_executions_of_a_run_have_names_and_labels_of_their_own() -> None:
    run_id = "0123456789abcdef" * 2
    executions = [identity.execution_id(run_id, number) for number in (1, 2, 3)]
    assert len({names.run_name("train", execution) for execution in executions}) == 3
    assert all(names.is_label_value(execution) for execution in executions)
    assert names.run_name("train", executions[0]) == "train-0123456789abcdef"
