"""Retries, pauses and timeout of a delivery: Knative's delivery spec (infra/platform-facts.md 3.2).

A trigger's own spec replaces its broker's as a whole, as in Knative's controller: a missing field has no default from the broker.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from fuseml.domain import errors

# The fields of a spec. Dead letters stay in the queue's own table, whatever sink a cluster has for them.
_FIELDS = frozenset({"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"})
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
# Knative waits without end where no spec names a timeout; in one process that would let a stuck subscriber block its trigger.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The first attempt is followed by up to `retry` others. Times are seconds; `timeout` limits one attempt."""

    retry: int = 0
    policy: Literal["linear", "exponential"] = "exponential"
    delay: float = 0.0
    timeout: float = _TIMEOUT

    def backoff(self, attempt: int) -> float:
        """Seconds to wait before retry number `attempt` (from 1). Knative counts from 0: delay*2^n or delay*n, the first linear one at once."""
        return self.delay * (2.0 ** (attempt - 1) if self.policy == "exponential" else attempt - 1)


CLUSTER = Rules(retry=10, policy="exponential", delay=0.2)
"""Knative's own default (config-br-defaults), for a trigger and broker without a spec."""


def read(spec: Mapping[str, Any] | None, default: Rules) -> Rules:
    """The rules of a trigger's or broker's `spec.delivery`. Raises PermanentError, ValueError for an unsupported spec."""
    if spec is None:
        return default
    unknown = sorted(spec.keys() - _FIELDS)
    if unknown:
        raise errors.PermanentError(f"{', '.join(unknown)}: unsupported in a delivery spec; use {', '.join(sorted(_FIELDS))}")
    policy = spec.get("backoffPolicy", "exponential")
    if policy not in ("linear", "exponential"):
        raise errors.PermanentError(f"the backoff policy {policy!r} is neither linear nor exponential")
    retry, timeout = int(spec.get("retry", 0)), seconds(spec["timeout"]) if "timeout" in spec else _TIMEOUT
    if retry < 0 or timeout <= 0:
        raise errors.PermanentError("retry must not be negative, and timeout must be longer than nothing")
    # Retries without both policy and delay have no pause, also on Knative.
    delay = seconds(spec["backoffDelay"]) if {"backoffPolicy", "backoffDelay"} <= spec.keys() else 0.0
    return Rules(retry, policy, delay, timeout)


def of_broker(path: pathlib.Path) -> Rules:
    """The rules that the Broker in the file gives its triggers. Raises PermanentError that names the file."""
    document = yaml.safe_load(path.read_text())
    try:
        return read(document["spec"].get("delivery"), CLUSTER)
    except (errors.PermanentError, KeyError, TypeError, ValueError) as error:
        raise errors.PermanentError(f"{path.name}: {error}") from error


def seconds(duration: str) -> float:
    """Seconds of an ISO 8601 duration of hours, minutes and seconds. Raises ValueError."""
    match = _DURATION.fullmatch(duration)
    if not match or duration == "PT":
        raise ValueError(f"{duration!r} is not a duration like PT0.5S")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest
