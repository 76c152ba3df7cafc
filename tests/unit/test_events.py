"""Payloads, and ids that are equal for a repeated fact."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, events

NOON, LATER = "2026-11-21T12:00:00.000000Z", "2026-11-21T13:00:00.000000Z"
PUSHED = events.CodesetPushed(project="demo", codeset="diabetes", ref="refs/heads/main", commit="b" * 40)


def test_a_repeated_fact_is_one_event() -> None:
    first = events.event(PUSHED, NOON)
    again = events.event(PUSHED.model_copy(update={"before": "a" * 40, "message": "known by the webhook only"}), LATER)
    assert (first.source, first.id) == (again.source, again.id)


@pytest.mark.parametrize(
    "other",
    [
        {"commit": "c" * 40},
        {"ref": "refs/heads/next"},
        {"codeset": "mnist"},
        {"project": "prod"},
        {"registered": NOON},
    ],
)
def test_another_fact_is_another_event(other: dict[str, str]) -> None:
    first, second = events.event(PUSHED, NOON), events.event(PUSHED.model_copy(update=other), NOON)
    assert (first.source, first.id) != (second.source, second.id)


def test_a_fact_without_an_identity_is_a_new_event_each_time() -> None:
    payload = events.CodesetRemoved(project="demo", codeset="diabetes")
    assert events.event(payload, NOON).id != events.event(payload, LATER).id


def test_two_types_about_one_subject_have_different_ids() -> None:
    started = events.RunStarted(run="w-1", workflow="w", project="demo")
    finished = events.RunFinished(run="w-1", workflow="w", project="demo", state="failed")
    assert events.event(started, NOON).id != events.event(finished, NOON).id


_text = st.text(min_size=1, max_size=12)


@given(_text, _text, _text, _text)
def test_steps_of_runs_never_share_an_id(run: str, step: str, other_run: str, other_step: str) -> None:
    def identity(run: str, step: str) -> tuple[str, str]:
        payload = events.RunStepFinished(run=run, workflow="w", project="demo", step=step, state="succeeded")
        event = events.event(payload, NOON)
        return event.source, event.id

    assert (identity(run, step) == identity(other_run, other_step)) == ((run, step) == (other_run, other_step))


def test_every_type_follows_the_naming_rule_and_names_its_payload() -> None:
    for name, model in events.PAYLOADS.items():
        assert name == model.TYPE
        prefix, noun, verb, version = name.rsplit(".", 3)
        assert (prefix + ".", version) == (events.PREFIX, "v1")
        words = f"{noun}_{verb}".split("_")
        assert "".join(word.capitalize() for word in words) == model.__name__
        # An approximation of the past tense.
        assert verb.endswith("ed")


def test_a_reader_ignores_fields_that_a_newer_writer_sends() -> None:
    event = events.event(PUSHED, NOON)
    newer = {**event.data, "signed_by": "somebody", "paths": ["train.py"]}
    read = events.read(events.Event(event.type, event.source, event.id, event.subject, event.time, newer))
    assert read == PUSHED.model_copy(update={"paths": ["train.py"]})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "project: is required"),
        ({**PUSHED.model_dump(), "commit": None}, "commit: must be text"),
        ({**PUSHED.model_dump(), "paths": "train.py"}, "paths: must be a list"),
    ],
)
def test_a_reader_refuses_wrong_fields(data: dict[str, object], problem: str) -> None:
    event = events.event(PUSHED, NOON)
    with pytest.raises(errors.InvalidError, match=r"the data of org\.fuseml\.codeset\.pushed\.v1 is not valid") as caught:
        events.read(events.Event(event.type, event.source, event.id, event.subject, event.time, data))
    assert problem in map(str, caught.value.problems)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(errors.InvalidError, match="is not an event type of FuseML"):
        events.read(events.Event("org.fuseml.codeset.pushed.v2", "/a", "1", None, NOON, {}))


def test_an_event_survives_the_wire_with_its_extensions() -> None:
    event = events.event(PUSHED, NOON, {"traceparent": "00-1-2-01"})
    assert json.loads(json.dumps(event.data)) == event.data
    assert (event.type, event.subject, event.time) == (PUSHED.TYPE, "demo/diabetes", NOON)
    assert event.extensions == {"traceparent": "00-1-2-01"}
    assert events.read(event) == PUSHED


@pytest.mark.parametrize("push", ["of/a delivery", "7f6b3f0e", ""])
@pytest.mark.parametrize("before", [None, "b" * 40])
def test_the_identity_of_a_push_names_the_commit_before(push: str, before: str | None) -> None:
    ref, commit, registered = "refs/heads/new/main", "a" * 40, "2026-11-21T02:00:00.000000Z"
    pushed = events.CodesetPushed(project="demo", codeset="iris", ref=ref, before=before, commit=commit, registered=registered, push=push)
    assert events.CodesetPushed.before_of(pushed.identity, ref, commit, registered) == (before if push else None)
    assert events.CodesetPushed.before_of(pushed.identity, ref, "c" * 40, registered) is None
    assert events.CodesetPushed.before_of("", ref, commit, registered) is None
