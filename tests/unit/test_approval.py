"""Questions and answers: one answer counts, in time, and says who gave it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans, workflows
from fuseml.domain.runs import approval

NOON, LATER, EVENING = "2026-11-21T12:00:00.000000Z", "2026-11-21T12:59:59.999999Z", "2026-11-21T13:00:00.000000Z"
OPEN = approval.ask(plans.Approval(message="really?", expires=3_600), NOON)


def test_a_question_says_what_is_asked_and_until_when() -> None:
    assert (OPEN.message, OPEN.asked, OPEN.deadline, OPEN.is_open) == ("really?", NOON, EVENING, True)
    assert approval.ask(plans.Approval(), NOON).deadline is None


@pytest.mark.parametrize(
    ("decision", "by", "comment", "refusal", "told"),
    [
        ("approved", "ada", "looks good", None, f"approved by ada at {LATER}"),
        ("rejected", "ada", "too slow", "rejected by ada: too slow", f"rejected by ada at {LATER}"),
        ("rejected", "ada", "", "rejected by ada", f"rejected by ada at {LATER}"),
        ("expired", None, "", "not approved within 1h", f"expired at {LATER}"),
    ],
)
def test_an_answer_is_kept_with_who_when_and_why(
    decision: approval.Decision, by: str | None, comment: str, refusal: str | None, told: str
) -> None:
    answered = approval.answer(OPEN, decision, by=by, comment=comment, now=LATER)
    assert (answered.decision, answered.by, answered.comment, answered.decided) == (decision, by, comment, LATER)
    assert (answered.refusal, answered.told(), answered.is_open) == (refusal, told, False)
    with pytest.raises(errors.ConflictError, match="it was "):
        approval.answer(answered, "approved", by="bob", comment="", now=LATER)


def test_past_the_deadline_only_time_answers() -> None:
    assert not OPEN.is_late(LATER)
    assert OPEN.is_late(EVENING)
    with pytest.raises(errors.ConflictError, match=f"the time to answer was over at {EVENING}"):
        approval.answer(OPEN, "approved", by="ada", comment="", now=EVENING)
    expired = approval.answer(OPEN, "expired", by=None, comment="", now=EVENING)
    assert not expired.is_late(EVENING)


@given(st.integers(1, 366 * 86_400))
def test_a_duration_is_spelled_as_workflows_spell_it(seconds: int) -> None:
    assert workflows.seconds(approval.duration(seconds)) == seconds


def test_durations_leave_out_what_is_nothing() -> None:
    assert [approval.duration(seconds) for seconds in (0, 90, 3_600, 90_061)] == ["0s", "1m30s", "1h", "1d1h1m1s"]
