"""Records of an object store, changes of them, and workflows that select one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from fuseml.domain import workflows
from fuseml.domain.registry import extension, registry

NOW, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"
NEW_ID = registry.id_source(random.Random(4))
S3_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "canary-1"}


def record(id: str = "minio", *, version: str = "4.1.3", url: str = "http://minio:9000", **fields: Any) -> extension.Extension:
    """A store with one endpoint and one global account."""
    service = {
        "id": "s3",
        "resource": "s3",
        "category": "object-storage",
        "endpoints": [{"url": url, "configuration": {"S3_ENDPOINT_URL": url}}],
        "credentials": [{"id": "admin", "configuration": S3_KEYS}],
    }
    document = {"id": id, "product": "minio", "version": version, "services": [service], **fields}
    return registry.create(extension.Extension.model_validate(document), NOW, NEW_ID)


def changed(stored: extension.Extension, patch: Mapping[str, Any]) -> extension.Extension:
    return registry.update(stored, extension.Extension.model_validate(patch), LATER, NEW_ID)


def steps(*selectors: Mapping[str, Any], env: Mapping[str, str] | None = None, name: str = "train", **more: Any) -> workflows.Workflow:
    step = {
        **more,
        "name": "trainer",
        "image": "trainer:1",
        "extensions": list(selectors),
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    return workflows.Workflow.model_validate({"name": name, "steps": [step]})


STORE = {"name": "store", "service_resource": "s3"}
