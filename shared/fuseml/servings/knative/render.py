"""What an application becomes on Knative: a Service, and a Secret when its model server needs something that must not be seen.

A Knative revision is named after the application's revision and after what it is made of: the same always gets the same name, a new image
of the model server a new one. Requests are sent to revisions by name, so that nothing moves before the new one is ready.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fuseml.domain import errors, labels
from fuseml.servings import Revision
from fuseml.servings import ServingSpec as Wanted

Object = dict[str, Any]

APPLICATION_LABEL = "fuseml.io/application"
REVISION_LABEL = "fuseml.io/revision"
DESIRED_ANNOTATION = "fuseml.io/desired"
"""A digest of everything else: whether there is something to change is seen without comparing what Knative filled in."""
MANAGED = {"app.kubernetes.io/part-of": "fuseml", "app.kubernetes.io/component": "application"}
PORT = 8080
# What is left of 63 characters for the name of a Service by `-00001-` and the digest of a revision.
_LONGEST_NAME = 48
_REVISION = re.compile(r"-(\d{5,})-[0-9a-f]{8}\Z")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`image` holds the model server. A pod gets `concurrency` requests at a time. Each has `timeout` seconds, in which the one that wakes a
    model also waits for it to load; so long may a pod that is no longer needed take to end. The last pod stays for `retention` when nobody
    asks. What is not ready after `patience` seconds has failed; of a model that makes its server crash Knative tells no earlier. `memory`
    bounds a pod.
    """

    image: str
    concurrency: int = 8
    timeout: int = 300
    most_pods: int = 5
    retention: str = "5m"
    patience: int = 240
    cpu: str = "50m"
    memory: str = "2Gi"


def object_name(application: str) -> str:
    """The name of the application's Service and Secret: its own where Knative takes it, else one that begins like it."""
    if re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", application) and len(application) <= _LONGEST_NAME:
        return application
    digest = hashlib.sha256(application.encode()).hexdigest()[:8]
    return f"{re.sub(r'^(?![a-z])', 'app-', application)[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def number(revision: str) -> int | None:
    """The application's revision that a Knative revision is; None for one that is not of ours."""
    match = _REVISION.search(revision)
    return int(match[1]) if match else None


def service(wanted: Wanted, settings: Settings, former: Mapping[int, str]) -> Object:
    """The Knative Service. `former` names the Knative revisions of the application's older ones.

    Raises ConflictError when a share is for one that is no longer there, InvalidError when the runtime is no image.
    """
    name, newest = object_name(wanted.name), wanted.newest
    template = _template(wanted.name, newest, settings)
    known = {**former, newest.number: f"{name}-{newest.number:05}-{_digest(template)}"}
    lost = sorted(wanted.traffic.keys() - known.keys())
    if lost:
        raise errors.ConflictError(
            f"revision {lost[0]} of {wanted.name!r} is no longer on the cluster; give its share to another: fuseml application traffic"
        )
    template["metadata"]["name"] = known[newest.number]
    body: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(wanted.name, newest)},
        "spec": {
            "template": template,
            "traffic": [{"revisionName": known[revision], "percent": percent} for revision, percent in sorted(wanted.traffic.items())],
        },
    }
    body["metadata"]["annotations"] = {DESIRED_ANNOTATION: _digest(body)}
    return body


def secret(wanted: Wanted) -> Object | None:
    """The Secret: what the model servers of all kept revisions need, so that any of them can start. None when they need nothing."""
    data = {_key(revision, name): value for revision in wanted.revisions for name, value in revision.document.environment.items()}
    if not data:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": object_name(wanted.name), "labels": _labels(wanted.name, wanted.newest)},
        # Not as `stringData`: keys that are no longer applied would stay.
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def _template(application: str, revision: Revision, settings: Settings) -> Object:
    document = revision.document
    environment = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": object_name(application), "key": _key(revision, name)}}}
        for name in sorted(document.environment)
    ]
    if document.tracking_uri:
        environment.append({"name": "MLFLOW_TRACKING_URI", "value": document.tracking_uri})
    # Complete: Knative fills in nothing when a revision that is there is applied again, and refuses what then differs
    # (infra/platform-facts.md 3.5).
    container: Object = {
        "name": "model-server",
        "image": _image(application, document.runtime or "", settings),
        # -I, because a codeset's own Python may be too old for -P.
        "command": ["python", "-I", "-u", "-m", "fuseml.steps.model_server"],
        "args": ["--model", document.model, "--name", application, "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104 - in a pod
        "ports": [{"name": "http1", "containerPort": PORT}],
        # Libraries keep things below the home.
        "env": [*environment, {"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a volume of its own
        # It listens as soon as the model is loaded.
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready"}, "successThreshold": 1},
        "resources": {"requests": {"cpu": settings.cpu, "memory": "256Mi"}, "limits": {"memory": settings.memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a volume of its own
    }
    return {
        "metadata": {
            "labels": {**_labels(application, revision), REVISION_LABEL: str(revision.number)},
            "annotations": {
                "autoscaling.knative.dev/min-scale": "0",
                "autoscaling.knative.dev/max-scale": str(settings.most_pods),
                "autoscaling.knative.dev/scale-to-zero-pod-retention-period": settings.retention,
                "serving.knative.dev/progress-deadline": f"{settings.patience}s",
                # An application that is deleted and made again gets other revisions: Knative forgets the names of the old ones only later.
                "fuseml.io/registered": revision.registered,
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containerConcurrency": settings.concurrency,
            "timeoutSeconds": settings.timeout,
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _image(application: str, runtime: str, settings: Settings) -> str:
    """A builder's image, or ours for a model that needs no more than that holds."""
    repository, _, tag = runtime.rpartition(":")
    if not runtime or (repository.startswith("fuseml.local/") and tag == "host"):
        return settings.image
    if repository.startswith("fuseml.local/"):
        raise errors.InvalidError(
            f"application {application!r} cannot be served on a cluster: its runtime {runtime!r} is an environment on another machine, no image"
        )
    return runtime


def _labels(application: str, revision: Revision) -> dict[str, str]:
    about = {APPLICATION_LABEL: application, "fuseml.io/project": revision.document.project, labels.NAME_LABEL: revision.document.run}
    return {**MANAGED, **{label: value for label, value in about.items() if value and _LABEL_VALUE.fullmatch(value)}}


def _key(revision: Revision, variable: str) -> str:
    return f"{revision.number}.{variable}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
