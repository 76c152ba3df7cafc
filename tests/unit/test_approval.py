"""Approvals: one decision counts, in time, and records its author."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans, workflows
from fuseml.domain.runs import approval

NOON, LATER, EVENING = "2026-11-21T12:00:00.000000Z", "2026-11-21T12:59:59.999999Z", "2026-11-21T13:00:00.000000Z"
OPEN = approval.request(plans.Approval(message=plans.text("really?"), expires=3_600), NOON)


def test_an_open_approval_has_a_message_and_a_deadline() -> None:
    assert (OPEN.message, OPEN.asked, OPEN.deadline, OPEN.is_open) == ("really?", NOON, EVENING, True)
    assert approval.request(plans.Approval(), NOON).deadline is None


def test_the_message_holds_outputs_up_to_a_bound() -> None:
    planned = plans.Approval(message=(*plans.text("serve with "), plans.OutputPart(step="gate", output="verdict")))
    assert approval.request(planned, NOON, {"gate": {"verdict": "rmse 57 > 55"}}).message == "serve with rmse 57 > 55"
    assert len(approval.request(planned, NOON, {"gate": {"verdict": "x" * 5_000}}).message) == 1_000
    with pytest.raises(errors.PermanentError, match="without writing its output 'verdict'"):
        approval.request(planned, NOON, {"gate": {}})


def test_a_stored_plan_of_a_former_release_has_its_message_as_text() -> None:
    assert plans.Approval.model_validate({"message": "really?", "expires": 60}).message == plans.text("really?")


@pytest.mark.parametrize(
    ("decision", "by", "comment", "refusal", "outcome"),
    [
        ("approved", "ada", "looks good", None, f"approved by ada at {LATER}"),
        ("rejected", "ada", "too slow", "rejected by ada: too slow", f"rejected by ada at {LATER}"),
        ("rejected", "ada", "", "rejected by ada", f"rejected by ada at {LATER}"),
        ("expired", None, "", "not approved within 1h", f"expired at {LATER}"),
    ],
)
def test_a_decision_is_recorded_with_author_time_and_comment(
    decision: approval.Decision, by: str | None, comment: str, refusal: str | None, outcome: str
) -> None:
    decided = approval.decide(OPEN, decision, by=by, comment=comment, now=LATER)
    assert (decided.decision, decided.by, decided.comment, decided.decided) == (decision, by, comment, LATER)
    assert (decided.refusal, decided.outcome(), decided.is_open) == (refusal, outcome, False)
    with pytest.raises(errors.ConflictError, match="it was "):
        approval.decide(decided, "approved", by="bob", comment="", now=LATER)


def test_past_the_deadline_an_approval_can_only_expire() -> None:
    assert not OPEN.is_late(LATER)
    assert OPEN.is_late(EVENING)
    with pytest.raises(errors.ConflictError, match=f"the approval expired at {EVENING}"):
        approval.decide(OPEN, "approved", by="ada", comment="", now=EVENING)
    expired = approval.decide(OPEN, "expired", by=None, comment="", now=EVENING)
    assert not expired.is_late(EVENING)


@given(st.integers(1, 366 * 86_400))
def test_a_duration_has_the_form_of_workflows(seconds: int) -> None:
    assert workflows.seconds(approval.duration(seconds)) == seconds


def test_durations_leave_out_zeros() -> None:
    assert [approval.duration(seconds) for seconds in (0, 90, 3_600, 90_061)] == ["0s", "1m30s", "1h", "1d1h1m1s"]
