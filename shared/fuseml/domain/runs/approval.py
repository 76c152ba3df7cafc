"""Approvals of steps: the request, and one decision with author, time and comment.

An approval is requested when the step could begin. The first decision is final. Past its deadline an approval expires, which is a decision
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fuseml.domain import errors, plans, times
from fuseml.domain.documents import document

Decision = Literal["approved", "rejected", "expired"]

_LONGEST_MESSAGE = 1000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


class Approval(document.Model):
    """A requested approval and its decision. Times are RFC 3339. Without a `deadline` it stays open until it is decided; `by` is null when
    it has expired.
    """

    message: str = ""
    asked: str
    deadline: str | None = None
    decision: Decision | None = None
    by: str | None = None
    decided: str | None = None
    comment: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the step still waits for a decision."""
        return self.decision is None

    @property
    def refusal(self) -> str | None:
        """The cause of the step's failure when the approval was rejected or has expired, else None."""
        if self.decision == "rejected":
            return f"rejected by {self.by}: {self.comment}" if self.comment else f"rejected by {self.by}"
        return f"not approved within {self._time_allowed()}" if self.decision == "expired" else None

    def is_late(self, now: str) -> bool:
        """Whether the deadline has passed without a decision."""
        return self.is_open and self.deadline is not None and self.deadline <= now

    def outcome(self) -> str:
        """The decision as the end of a sentence: `approved by ada at TIME`."""
        return f"expired at {self.decided}" if self.decision == "expired" else f"{self.decision} by {self.by} at {self.decided}"

    def _time_allowed(self) -> str:
        return duration(round(times.between(self.asked, self.deadline or self.asked)))


def is_needed(planned: plans.Approval, outputs: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the conditions of the approval hold. `outputs` maps step -> output -> text. Raises PermanentError as `plans.holds`."""
    return all(plans.holds(condition, outputs) for condition in planned.when)


def request(planned: plans.Approval, now: str, outputs: Mapping[str, Mapping[str, str]] | None = None) -> Approval:
    """The open approval of a step that waits from `now` on. `outputs` are as for `is_needed`; a longer message is cut at 1,000 characters.

    Raises PermanentError when the message reads an output that was not written.
    """
    deadline = times.shift(now, planned.expires) if planned.expires is not None else None
    message = plans.evaluate(planned.message, outputs or {}, plans.no_secret)
    return Approval(message=message[:_LONGEST_MESSAGE], asked=now, deadline=deadline)


def decide(pending: Approval, decision: Decision, *, by: str | None, comment: str, now: str) -> Approval:
    """The approval with its decision. Raises ConflictError when it is decided already, and for the decision of a person past the deadline."""
    if not pending.is_open:
        raise errors.ConflictError(f"it was {pending.outcome()}")
    if decision != "expired" and pending.is_late(now):
        raise errors.ConflictError(f"the approval expired at {pending.deadline}")
    return pending.model_copy(update={"decision": decision, "by": by, "comment": comment, "decided": now})


def duration(seconds: int) -> str:
    """Whole seconds in the notation of workflows: `90s` is `1m30s`."""
    pieces = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        pieces += [f"{count}{unit}"] if count else []
    return "".join(pieces) or "0s"
