"""A store, and its resolution by one selector: the binding, or the refusal with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.domain.registry import extension, resolution
from fuseml.domain.registry.selector import Binding, Context, Selector


def store(id: str = "store", *, service: Mapping[str, Any] | None = None, **fields: Any) -> extension.Extension:
    """An S3 store with one external endpoint."""
    fields_of_service = {
        "id": "s3",
        "resource": "s3",
        "category": "object-storage",
        "endpoints": [{"url": f"https://{id}"}],
        **(service or {}),
    }
    return extension.Extension.model_validate({"id": id, "product": "minio", "version": "1.0", **fields, "services": [fields_of_service]})


S3 = Selector(name="store", service_resource="s3")


def resolved(*records: extension.Extension, selector: Selector = S3, home: str = "", **context: str) -> Binding:
    (binding,) = resolution.resolve([selector], records, Context(**context), home=home).bindings
    return binding


def refusal(*records: extension.Extension, selector: Selector = S3, home: str = "", **context: str) -> errors.UnresolvedError:
    with pytest.raises(errors.UnresolvedError) as caught:
        resolution.resolve([selector], records, Context(**context), home=home)
    return caught.value


def explanations(refused: errors.UnresolvedError) -> list[dict[str, Any]]:
    listed: Any = refused.details["explanations"]
    return list(listed)


def verdicts(explanation: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            "/".join(filter(None, (c["extension_id"], c["service_id"], c["url"], c["credentials_id"]))),
            c["verdict"],
            c["rule"],
            c["sentence"],
        )
        for c in explanation["candidates"]
    ]


def reasons(refused: errors.UnresolvedError) -> list[tuple[str, str, str]]:
    """(candidate, rule, sentence) of every rejection."""
    return [(place, rule, sentence) for place, verdict, rule, sentence in verdicts(explanations(refused)[0]) if verdict == "rejected"]
