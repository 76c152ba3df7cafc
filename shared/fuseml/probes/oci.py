"""Registries of the OCI distribution protocol, which does not report product or version."""

from __future__ import annotations

from fuseml.domain.registry import extension
from fuseml.probes import draft, tool
from fuseml.probes.targets import Target


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get("/v2/")
    if answer.status not in (200, 401) or not answer.headers.get("docker-distribution-api-version", "").startswith("registry/"):
        return None
    closed = answer.status == 401
    registry = draft.service(target, "registry", "oci-registry", "container-registry", auth_required=closed)
    return draft.record("oci-registry", "", "Registry of container images", registry)


TOOL = tool.Tool(detect=_detect)
