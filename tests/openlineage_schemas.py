"""Validation of OpenLineage events: by the published schemas of `tests/openlineage`, and each facet by the schema that it names."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import referencing

_ROOT = pathlib.Path(__file__).parents[1]
PUBLISHED = sorted((_ROOT / "tests" / "openlineage").glob("*.json"))
OWN = sorted((_ROOT / "docs" / "schemas").glob("openlineage-*.json"))

_DOCUMENTS: dict[str, Any] = {item["$id"]: item for item in (json.loads(path.read_text()) for path in (*PUBLISHED, *OWN))}
_REGISTRY: referencing.Registry[Any] = referencing.Registry().with_resources(
    (uri, referencing.Resource.from_contents(document)) for uri, document in _DOCUMENTS.items()
)


def check(event: Mapping[str, Any]) -> None:
    """Raises jsonschema.ValidationError for an event or a facet that its schema forbids, and for one whose schema is not there."""
    _validate(event["schemaURL"], event)
    for facet in facets(event):
        _validate(facet["_schemaURL"], facet)


def facets(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every facet of an event."""
    for part in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        yield from part.get("facets", {}).values()


def _validate(schema: str, document: object) -> None:
    validator = jsonschema.Draft202012Validator(
        {"$ref": schema}, registry=_REGISTRY, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(document)
