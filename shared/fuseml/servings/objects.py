"""Names, labels and digests of the objects of applications on a cluster."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from fuseml.domain import labels
from fuseml.servings.port import Revision, ServingSpec

Object = dict[str, Any]

APPLICATION_LABEL = "fuseml.io/application"
REVISION_LABEL = "fuseml.io/revision"
REGISTERED_ANNOTATION = "fuseml.io/registered"
"""The time of the registration of a revision: an application that is deleted and registered again gets other pods."""
DESIRED_ANNOTATION = "fuseml.io/desired"
"""A digest of the rest of an object: a change is detected without a comparison of the fields that its controller fills in."""
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def managed(component: str) -> dict[str, str]:
    """The labels of all objects of one serving. Each has a component of its own: KServe copies labels to the Knative Services that it makes,
    and no serving may take the objects of another one for its own."""
    return {"app.kubernetes.io/part-of": "fuseml", "app.kubernetes.io/component": component}


def selector(chosen: Mapping[str, str]) -> str:
    """The label selector for exactly these labels."""
    return ",".join(f"{label}={value}" for label, value in chosen.items())


def name_of(application: str, longest: int) -> str:
    """The name of the application's objects: its own where a DNS label that begins with a letter is one, else a prefix of it with a digest."""
    if re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", application) and len(application) <= longest:
        return application
    digest = hashlib.sha256(application.encode()).hexdigest()[:8]
    return f"{re.sub(r'^(?![a-z])', 'app-', application)[: longest - 9].rstrip('-')}-{digest}"


def labels_of(component: str, application: str, revision: Revision) -> dict[str, str]:
    """The labels of an object of the application: those of its serving, its own name, and the origin of the revision."""
    about = {APPLICATION_LABEL: application, "fuseml.io/project": revision.document.project, labels.NAME_LABEL: revision.document.run}
    return {**managed(component), **{label: value for label, value in about.items() if value and _LABEL_VALUE.fullmatch(value)}}


def variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    """The `env` of a container."""
    return [{"name": name, "value": value} for name, value in values.items()]


def number(resource: Mapping[str, Any]) -> int | None:
    """The revision of the application that an object is labelled with; None for a foreign one."""
    value = resource.get("metadata", {}).get("labels", {}).get(REVISION_LABEL, "")
    return int(value) if str(value).isdecimal() else None


def digest(content: object) -> str:
    """Eight hexadecimal digits that stand for the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def sealed(body: Object) -> Object:
    """The object with the digest of its content as an annotation."""
    body["metadata"].setdefault("annotations", {})[DESIRED_ANNOTATION] = digest(body)
    return body


def differs(present: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether the object on the cluster was applied from another content."""
    return bool(
        present.get("metadata", {}).get("annotations", {}).get(DESIRED_ANNOTATION) != body["metadata"]["annotations"][DESIRED_ANNOTATION]
    )


def revision(spec: ServingSpec, wanted: int) -> Revision:
    """The kept revision of this number; the newest one where it is no longer kept."""
    return next((item for item in spec.revisions if item.number == wanted), spec.newest)
