"""The production triggers, read from their files, and the match of events by Knative's rules (infra/platform-facts.md 3.3)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fuseml.domain import errors, events
from fuseml.embedded import redelivery
from fuseml.runtime import catalog

EMBEDDED = "fuseml.io/embedded"
"""The annotation (`none`) of a trigger that the embedded broker leaves out, because the broker does the work of its subscriber itself."""

_ATTRIBUTE = re.compile("[a-z][a-z0-9]*")
# libyaml takes a tenth of the time, at each start.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Trigger:
    """The events for `subscriber` (a service's name), and the rules of their delivery."""

    name: str
    subscriber: str
    filters: tuple[Mapping[str, Any], ...]
    delivery: redelivery.Rules = redelivery.CLUSTER

    def __post_init__(self) -> None:
        for item in self.filters:
            check(item)

    def matches(self, event: events.Event) -> bool:
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
            return all(attributes.get(key) == text for key, text in value.items())
        case "prefix":
            return all(attributes.get(key, "").startswith(text) and key in attributes for key, text in value.items())
        case "suffix":
            return all(attributes.get(key, "").endswith(text) and key in attributes for key, text in value.items())
        case "all":
            return all(_matches(item, attributes) for item in value)
        case "any":
            return any(_matches(item, attributes) for item in value)
        case _:  # only "not" passes `check`
            return not _matches(value, attributes)


def contract_folder() -> pathlib.Path:
    """The event contract: `eventing/` in a source tree, packaged beside the library otherwise."""
    packaged = pathlib.Path(__file__).parents[1] / "eventing"
    return packaged if packaged.exists() else pathlib.Path(__file__).parents[3] / "eventing"


def load(folder: pathlib.Path, default: redelivery.Rules = redelivery.CLUSTER) -> tuple[Trigger, ...]:
    """Every Trigger in the files of `folder` without the annotation `EMBEDDED`; `default` are the delivery rules of their broker.

    Raises PermanentError that names the file of an unsupported trigger.
    """
    loaded: list[Trigger] = []
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), _Loader):
            if not document or document.get("kind") != "Trigger" or _is_left_out(document):
                continue
            try:
                loaded.append(_read(document, default))
            except (errors.PermanentError, KeyError, TypeError, ValueError) as error:
                raise errors.PermanentError(f"{path.name}: {error}") from error
    return tuple(loaded)


def _is_left_out(document: Mapping[str, Any]) -> bool:
    return (document["metadata"].get("annotations") or {}).get(EMBEDDED) == "none"


def _read(document: Mapping[str, Any], default: redelivery.Rules) -> Trigger:
    spec = document["spec"]
    unknown = sorted(spec["subscriber"].keys() - {"ref", "uri"})
    if unknown:
        raise errors.PermanentError(f"{', '.join(unknown)}: unsupported in a subscriber; use ref and uri")
    subscriber: str = spec["subscriber"]["ref"]["name"]
    if spec["subscriber"].get("uri") != catalog.EVENTS:
        raise errors.PermanentError(f"the uri of a subscriber must be {catalog.EVENTS}, where functions receive events")
    filters = list(spec.get("filters") or [])
    if not filters and (spec.get("filter") or {}).get("attributes"):
        filters = [{"exact": spec["filter"]["attributes"]}]
    return Trigger(
        name=document["metadata"]["name"],
        subscriber=subscriber,
        filters=tuple(filters),
        delivery=redelivery.read(spec.get("delivery"), default),
    )


def check(dialect: Mapping[str, Any]) -> None:
    """Raises PermanentError for a filter that `Trigger.matches` cannot evaluate."""
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
        for key, text in value.items():
            if not _ATTRIBUTE.fullmatch(key) or not isinstance(text, str) or not text:
                raise errors.PermanentError(f"the filter {name} {key}: {text!r} compares no attribute of events with a text")
