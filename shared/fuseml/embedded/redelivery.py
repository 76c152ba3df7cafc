"""How often, after which pauses and for how long a delivery is tried: Knative's delivery spec (infra/platform-facts.md 3.2).

A trigger's own spec replaces its broker's as a whole, as in Knative's controller: what it leaves out has no default from there.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from fuseml.domain import errors

# What a spec may say. Dead letters stay in the queue's own table, whatever sink a cluster has for them.
_FIELDS = frozenset({"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"})
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
# Knative waits without end where no spec names a timeout; in one process that would let a stuck subscriber block its trigger.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The first attempt is followed by `retry` others. Times are seconds; `timeout` is what one attempt may take."""

    retry: int = 0
    policy: Literal["linear", "exponential"] = "exponential"
    delay: float = 0.0
    timeout: float = _TIMEOUT

    def backoff(self, attempt: int) -> float:
        """Seconds to wait before retry number `attempt` (from 1). Knative counts from 0: delay*2^n or delay*n, the first linear one at once."""
        return self.delay * (2.0 ** (attempt - 1) if self.policy == "exponential" else attempt - 1)


CLUSTER = Rules(retry=10, policy="exponential", delay=0.2)
"""Knative's own default (config-br-defaults), where neither a trigger nor its broker says anything."""


def read(spec: Mapping[str, Any] | None, default: Rules) -> Rules:
    """The delivery of a trigger's or broker's `spec.delivery`. Raises PermanentError, ValueError for what cannot be honoured."""
    if spec is None:
        return default
    unknown = sorted(spec.keys() - _FIELDS)
    if unknown:
        raise errors.PermanentError(f"{', '.join(unknown)} cannot be honoured here")
    policy = spec.get("backoffPolicy", "exponential")
    if policy not in ("linear", "exponential"):
        raise errors.PermanentError(f"the backoff policy {policy!r} is neither linear nor exponential")
    retry, timeout = int(spec.get("retry", 0)), seconds(spec["timeout"]) if "timeout" in spec else _TIMEOUT
    if retry < 0 or timeout <= 0:
        raise errors.PermanentError("retry must not be negative, and timeout must be longer than nothing")
    # Who sets the retries without both policy and delay gets retries without pause, also from Knative.
    delay = seconds(spec["backoffDelay"]) if {"backoffPolicy", "backoffDelay"} <= spec.keys() else 0.0
    return Rules(retry, policy, delay, timeout)


def of_broker(path: pathlib.Path) -> Rules:
    """The delivery that the Broker in the file gives its triggers. Raises PermanentError that names the file."""
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
