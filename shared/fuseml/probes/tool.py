"""What the registry needs to know of one tool, and the words in which its findings are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.probes.targets import Answer, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`detect` proposes a record when this tool answers at the target; it sends no credentials before it has recognised the tool.

    `check` tries the target's credentials against a service of one of `resources`: None when they are accepted, else a sentence.
    It reads the credentials under its own keys only. Both raise TemporaryError when there is no answer, `check` raises PermanentError
    when there is nothing that it could try.
    """

    detect: Callable[[Target], extension.Extension | None]
    check: Callable[[Target], str | None] | None = None
    resources: frozenset[str] = frozenset()


def refusal(product: str, target: Target, keys: str) -> str:
    """The sentence for credentials that a tool does not accept."""
    return f"{product} at {target.origin} refuses these credentials; correct {keys}"


def unknown(target: Target, answer: Answer) -> errors.TemporaryError:
    """The error for an answer that says nothing about the credentials."""
    return errors.TemporaryError(f"{target.origin} answered {answer.status}, which says nothing about the credentials")


def no_keys(keys: str) -> errors.PermanentError:
    """The error for credentials that hold nothing which could be tried."""
    return errors.PermanentError(f"these credentials cannot be tried, they hold no {keys}")
