"""The taxonomy of errors: each states the fault, its place, and whether a retry can help.

API clients and brokers read the same status differently, so there are two status tables: `runtime.http` for APIs, `runtime.cloudevents` for
event endpoints, where Knative retries 404 and 409 for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault in a document: its place (`steps[2].image`, 1-based line and column if known), and the remedy."""

    path: str
    message: str
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        subject = f"{self.path}: " if self.path else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{subject}{self.message}{hint}"

    def as_dict(self) -> dict[str, object]:
        """The wire form, without unknown fields."""
        fields = {"path": self.path, "message": self.message, "line": self.line, "column": self.column, "suggestion": self.suggestion}
        return {key: value for key, value in fields.items() if value is not None}


class FusemlError(Exception):
    """The root of the errors of FuseML. `message` is a sentence for people, `details` is for programs."""

    name: ClassVar[str] = "error"

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})


class PermanentError(FusemlError):
    """A retry of the same request cannot succeed."""

    name = "refused"


class TemporaryError(FusemlError):
    """The same request may succeed later; `delay` is a hint in seconds."""

    name = "unavailable"

    def __init__(self, message: str, *, details: Mapping[str, object] | None = None, delay: float = 1.0) -> None:
        super().__init__(message, details=details)
        self.delay = delay


class InvalidError(PermanentError):
    """Input that violates a rule; `problems` lists every violation, not only the first."""

    name = "invalid"

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, details: Mapping[str, object] | None = None) -> None:
        listed = {"problems": [problem.as_dict() for problem in problems]} if problems else {}
        super().__init__(message, details={**listed, **(details or {})})
        self.problems = tuple(problems)


class UnresolvedError(PermanentError):
    """A selector without a matching service: `details` holds `unresolved` (names) and `explanations`."""

    name = "unresolved"


class NotFoundError(PermanentError):
    """The named resource does not exist."""

    name = "not_found"


class ConflictError(PermanentError):
    """The request contradicts the present state: a name that is taken, a resource in use."""

    name = "conflict"


class StaleError(PermanentError):
    """The record has changed since the caller read it (`If-Match`)."""

    name = "stale"


class UnauthenticatedError(PermanentError):
    """The request carries no valid token or signature."""

    name = "unauthenticated"


class ForbiddenError(PermanentError):
    """The caller is authenticated and lacks the permission."""

    name = "forbidden"


class TooLargeError(PermanentError):
    """The request is larger than its limit."""

    name = "too_large"
