"""Reads the production Trigger files and matches events against them as Knative does (platform facts 3.2)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from fuseml.domain import errors, events

_ATTRIBUTE = re.compile("[a-z][a-z0-9]*")
# What a trigger may say about delivery. Dead letters stay in the queue's own table, whatever sink a cluster has for them.
_DELIVERY = frozenset({"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"})
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")

# Knative's cluster default (config-br-defaults) where a trigger and its broker say nothing.
_DEFAULT_RETRY, _DEFAULT_DELAY, _DEFAULT_TIMEOUT = 10, 0.2, 30.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which events go to `subscriber` (a service's name), and how deliveries are repeated. Times are seconds."""

    name: str
    subscriber: str
    filters: tuple[Mapping[str, Any], ...]
    retry: int = _DEFAULT_RETRY
    policy: Literal["linear", "exponential"] = "exponential"
    delay: float = _DEFAULT_DELAY
    timeout: float = _DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        for item in self.filters:
            check(item)

    def wants(self, event: events.Event) -> bool:
        """Filters see attributes and extensions only, never data; a missing attribute fails the match."""
        attributes = {
            **event.extensions,
            "specversion": "1.0",
            "type": event.type,
            "source": event.source,
            "id": event.id,
            "time": event.time,
        }
        if event.subject:
            attributes["subject"] = event.subject
        return all(_matches(item, attributes) for item in self.filters)

    def backoff(self, attempt: int) -> float:
        """Seconds to wait before retry number `attempt` (from 1). Knative counts from 0: delay*2^n or delay*n, the first linear one at once."""
        return self.delay * (2.0 ** (attempt - 1) if self.policy == "exponential" else attempt - 1)


def _matches(dialect: Mapping[str, Any], attributes: Mapping[str, str]) -> bool:
    ((name, value),) = dialect.items()
    match name:
        case "exact":
            return all(attributes.get(key) == wanted for key, wanted in value.items())
        case "prefix":
            return all(attributes.get(key, "").startswith(wanted) and key in attributes for key, wanted in value.items())
        case "suffix":
            return all(attributes.get(key, "").endswith(wanted) and key in attributes for key, wanted in value.items())
        case "all":
            return all(_matches(item, attributes) for item in value)
        case "any":
            return any(_matches(item, attributes) for item in value)
        case _:  # `check` lets only "not" through to here
            return not _matches(value, attributes)


def load(folder: pathlib.Path) -> tuple[Trigger, ...]:
    """Every Trigger under `folder`. Raises PermanentError that names the file for what cannot be honoured."""
    found: list[Trigger] = []
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if not document or document.get("kind") != "Trigger":
                continue
            try:
                found.append(_read(document))
            except (errors.PermanentError, KeyError, TypeError, ValueError) as error:
                raise errors.PermanentError(f"{path.name}: {error}") from error
    return tuple(found)


def _read(document: Mapping[str, Any]) -> Trigger:
    spec = document["spec"]
    delivery = spec.get("delivery") or {}
    unknown = sorted({*(delivery.keys() - _DELIVERY), *(spec["subscriber"].keys() - {"ref"})})
    if unknown:
        raise errors.PermanentError(f"{', '.join(unknown)} cannot be honoured here")
    policy = delivery.get("backoffPolicy", "exponential")
    if policy not in ("linear", "exponential"):
        raise errors.PermanentError(f"the backoff policy {policy!r} is neither linear nor exponential")
    filters = list(spec.get("filters") or [])
    if not filters and (spec.get("filter") or {}).get("attributes"):
        filters = [{"exact": spec["filter"]["attributes"]}]
    return Trigger(
        name=document["metadata"]["name"],
        subscriber=spec["subscriber"]["ref"]["name"],
        filters=tuple(filters),
        retry=int(delivery.get("retry", _DEFAULT_RETRY)),
        policy=policy,
        # Who sets the retries and no delay gets retries without delay, also from Knative.
        delay=seconds(delivery["backoffDelay"]) if "backoffDelay" in delivery else 0.0 if "retry" in delivery else _DEFAULT_DELAY,
        timeout=seconds(delivery["timeout"]) if "timeout" in delivery else _DEFAULT_TIMEOUT,
    )


def check(dialect: Mapping[str, Any]) -> None:
    """Raises PermanentError for a filter that `Trigger.wants` could not evaluate."""
    if len(dialect) != 1:
        raise errors.PermanentError("each filter has exactly one dialect")
    ((name, value),) = dialect.items()
    if name in ("all", "any"):
        for item in value:
            check(item)
    elif name == "not":
        check(value)
    elif name not in ("exact", "prefix", "suffix"):
        raise errors.PermanentError(f"the filter dialect {name!r} is not supported here; use exact, prefix, suffix, all, any or not")
    else:
        for key, wanted in value.items():
            if not _ATTRIBUTE.fullmatch(key) or not isinstance(wanted, str) or not wanted:
                raise errors.PermanentError(f"the filter {name} {key}: {wanted!r} compares no attribute of events with a text")


def seconds(duration: str) -> float:
    """Seconds of an ISO 8601 duration of hours, minutes and seconds. Raises ValueError."""
    match = _DURATION.fullmatch(duration)
    if not match or duration == "PT":
        raise ValueError(f"{duration!r} is not a duration like PT0.5S")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest
