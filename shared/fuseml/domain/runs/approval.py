"""What a step that waits for a person was asked, and what was answered: once, by whom, when and why.

A question is put when the step could begin, and settled for ever by the first answer. Nobody's answer in time is an answer too.
"""

from __future__ import annotations

from typing import Literal

from fuseml.domain import errors, plans, times
from fuseml.domain.documents import document

Decision = Literal["approved", "rejected", "expired"]

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


class Approval(document.Model):
    """Times are RFC 3339. Without a `deadline` the question stays open until it is answered; `by` is nobody's name when it expired."""

    message: str = ""
    asked: str
    deadline: str | None = None
    decision: Decision | None = None
    by: str | None = None
    decided: str | None = None
    comment: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the step still waits for the answer."""
        return self.decision is None

    @property
    def refusal(self) -> str | None:
        """Why the step must not run, as the cause of its failure; None unless it was rejected or nobody answered in time."""
        if self.decision == "rejected":
            return f"rejected by {self.by}: {self.comment}" if self.comment else f"rejected by {self.by}"
        return f"not approved within {self._patience()}" if self.decision == "expired" else None

    def is_late(self, now: str) -> bool:
        """Whether the deadline has passed without an answer."""
        return self.is_open and self.deadline is not None and self.deadline <= now

    def outcome(self) -> str:
        """The decision as the end of a sentence: `approved by ada at TIME`."""
        return f"expired at {self.decided}" if self.decision == "expired" else f"{self.decision} by {self.by} at {self.decided}"

    def _patience(self) -> str:
        return duration(round(times.between(self.asked, self.deadline or self.asked)))


def ask(wanted: plans.Approval, now: str) -> Approval:
    """The question of a step that waits from `now` on."""
    deadline = times.shift(now, wanted.expires) if wanted.expires is not None else None
    return Approval(message=wanted.message, asked=now, deadline=deadline)


def answer(question: Approval, decision: Decision, *, by: str | None, comment: str, now: str) -> Approval:
    """The question with its answer. Raises ConflictError when there is one already, or when people answer past the deadline."""
    if not question.is_open:
        raise errors.ConflictError(f"it was {question.outcome()}")
    if decision != "expired" and question.is_late(now):
        raise errors.ConflictError(f"the approval expired at {question.deadline}")
    return question.model_copy(update={"decision": decision, "by": by, "comment": comment, "decided": now})


def duration(seconds: int) -> str:
    """Whole seconds as workflows spell them: `90s` is `1m30s`."""
    pieces = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        pieces += [f"{count}{unit}"] if count else []
    return "".join(pieces) or "0s"
