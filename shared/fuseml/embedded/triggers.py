"""Reads the production Trigger files and matches events against them as Knative does (infra/platform-facts.md 3.3)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fuseml.domain import errors, events
from fuseml.embedded import redelivery

EMBEDDED = "fuseml.io/embedded"
"""The annotation of a trigger that the embedded broker leaves out (`none`), because it does itself what the trigger is there for."""

_ATTRIBUTE = re.compile("[a-z][a-z0-9]*")


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which events go to `subscriber` (a service's name), and how deliveries are repeated."""

    name: str
    subscriber: str
    filters: tuple[Mapping[str, Any], ...]
    delivery: redelivery.Rules = redelivery.CLUSTER

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


def contract_folder() -> pathlib.Path:
    """The event contract: `eventing/` in a source tree, packaged beside the library otherwise."""
    packaged = pathlib.Path(__file__).parents[1] / "eventing"
    return packaged if packaged.exists() else pathlib.Path(__file__).parents[3] / "eventing"


def load(folder: pathlib.Path, default: redelivery.Rules = redelivery.CLUSTER) -> tuple[Trigger, ...]:
    """Every Trigger in the files of `folder` that is not annotated to be left out; `default` is how their broker delivers where they say nothing.

    Raises PermanentError that names the file for what cannot be honoured.
    """
    found: list[Trigger] = []
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if not document or document.get("kind") != "Trigger" or _is_left_out(document):
                continue
            try:
                found.append(_read(document, default))
            except (errors.PermanentError, KeyError, TypeError, ValueError) as error:
                raise errors.PermanentError(f"{path.name}: {error}") from error
    return tuple(found)


def _is_left_out(document: Mapping[str, Any]) -> bool:
    return (document["metadata"].get("annotations") or {}).get(EMBEDDED) == "none"


def _read(document: Mapping[str, Any], default: redelivery.Rules) -> Trigger:
    spec = document["spec"]
    unknown = sorted(spec["subscriber"].keys() - {"ref"})
    if unknown:
        raise errors.PermanentError(f"{', '.join(unknown)} cannot be honoured here")
    filters = list(spec.get("filters") or [])
    if not filters and (spec.get("filter") or {}).get("attributes"):
        filters = [{"exact": spec["filter"]["attributes"]}]
    return Trigger(
        name=document["metadata"]["name"],
        subscriber=spec["subscriber"]["ref"]["name"],
        filters=tuple(filters),
        delivery=redelivery.read(spec.get("delivery"), default),
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
