"""The probe of one tool, and the common messages of all probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.probes.targets import Answer, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`detect` returns a draft record if the target is this tool; it sends no credentials before it has recognised the tool.

    `check` sends the target's credentials to a service of one of `resources`: None if they are accepted, else the problem. It reads only
    the credentials keys of its tool. Both raise TemporaryError without a response, `check` raises PermanentError without credentials to
    check.
    """

    detect: Callable[[Target], extension.Extension | None]
    check: Callable[[Target], str | None] | None = None
    resources: frozenset[str] = frozenset()


def refusal(product: str, target: Target, keys: str) -> str:
    """The problem of credentials that a tool refuses."""
    return f"{product} at {target.origin} refuses these credentials; correct {keys}"


def unknown(target: Target, answer: Answer) -> errors.TemporaryError:
    """The error for a response that does not decide about the credentials."""
    return errors.TemporaryError(f"{target.origin} responded with status {answer.status}, which does not decide about the credentials")


def no_keys(keys: str) -> errors.PermanentError:
    """The error for credentials without the keys of the tool."""
    return errors.PermanentError(f"these credentials cannot be checked: they have no {keys}")
