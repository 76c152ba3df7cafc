"""Rendering of an application for Knative: a Service, and a Secret for the environment of its model servers.

The name of a Knative revision holds the application's revision and a digest of its template: equal templates share a name, a new image
of the model server makes a new one. Traffic targets revisions by name, so no request moves before the new revision is ready.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.domain import errors, model_servers
from fuseml.domain.application import Application
from fuseml.servings import amounts, objects
from fuseml.servings.objects import Object
from fuseml.servings.port import Revision, ServingSpec

COMPONENT = "application"
MANAGED = objects.managed(COMPONENT)
PORT = 8080
_INSIDE = {"networking.knative.dev/visibility": "cluster-local"}
"""The label of a Service without an address outside of the cluster."""
# 63 characters minus `-00001-` and the digest of a revision.
_LONGEST_NAME = 48
_REVISION = re.compile(r"-(\d{5,})-[0-9a-f]{8}\Z")
_READY = {"fuseml": "/v2/health/ready", "mlserver": "/v2/health/ready", "mlflow": "/health"}
"""Model server -> the path that answers with 200 once the model is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`image` holds FuseML's model server, and MLflow's, `mlserver_image` MLServer; empty: MLServer comes from images of codesets only.

    A pod gets `concurrency` requests at a time. `timeout` in seconds bounds a request, including the load of the model for the first one, and
    the end of a surplus pod. An idle application keeps its last pod for `retention`. A revision that is not ready after `patience` seconds has
    failed; Knative reports a crashing model server no earlier. `memory` limits a pod.
    """

    image: str
    mlserver_image: str = ""
    concurrency: int = 8
    timeout: int = 300
    most_pods: int = 5
    retention: str = "5m"
    patience: int = 240
    cpu: str = "50m"
    memory: str = "2Gi"


def object_name(application: str) -> str:
    """The name of the application's Service and Secret: its own where Knative accepts it, else a prefix of it with a digest."""
    return objects.name_of(application, _LONGEST_NAME)


def number(revision: str) -> int | None:
    """The application's revision of a Knative revision's name; None for a foreign name."""
    match = _REVISION.search(revision)
    return int(match[1]) if match else None


def service(spec: ServingSpec, settings: Settings, former: Mapping[int, str]) -> Object:
    """The Knative Service. `former` maps older revisions of the application to Knative revisions.

    Raises ConflictError when the traffic names a revision that Knative no longer has, InvalidError when the runtime is no image.
    """
    name, newest = object_name(spec.name), spec.newest
    template = _template(spec.name, newest, settings)
    names = {**former, newest.number: f"{name}-{newest.number:05}-{objects.digest(template)}"}
    missing = sorted(spec.traffic.keys() - names.keys())
    if missing:
        raise errors.ConflictError(
            f"revision {missing[0]} of {spec.name!r} is no longer on the cluster; assign its share to another: fuseml application traffic"
        )
    template["metadata"]["name"] = names[newest.number]
    body: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": objects.labels_of(COMPONENT, spec.name, newest) | ({} if spec.public else _INSIDE)},
        "spec": {
            "template": template,
            "traffic": [{"revisionName": names[revision], "percent": percent} for revision, percent in sorted(spec.traffic.items())],
        },
    }
    body["metadata"]["annotations"] = {objects.DESIRED_ANNOTATION: objects.digest(body)}
    return body


def secret(spec: ServingSpec) -> Object | None:
    """The Secret with the environments of all kept revisions, so any of them can start. None when all are empty."""
    data = {_key(revision, name): value for revision in spec.revisions for name, value in revision.document.environment.items()}
    if not data:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": object_name(spec.name), "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
        # `data`, because keys of `stringData` stay when they are no longer applied.
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
    if document.digest:
        environment.append({"name": "FUSEML_MODEL_DIGEST", "value": document.digest})
    server = document.served(model_servers.OFFERED[model_servers.FUSEML]).server
    # -I, because the Python of a codeset's image may be too old for -P.
    python = ["python", "-I", "-u", "-m"]
    # Complete: Knative fills in no default when an existing revision is applied again, and refuses the difference
    # (infra/platform-facts.md 3.5).
    container: Object = {
        "name": "model-server",
        "image": _image(application, document, server, settings),
        "command": [*python, "fuseml.steps.model_server"]
        if server == "fuseml"
        else [*python, "fuseml.steps.other_server", "--server", server],
        "args": [
            *["--model", document.model, "--name", application, "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104 - in a pod
            *(["--format", document.format] if document.format != "mlflow" else []),
        ],
        "ports": [{"name": "http1", "containerPort": PORT}],
        # Libraries write caches below HOME, and some ask for the user's name, which the image does not know.
        "env": [*environment, {"name": "HOME", "value": "/tmp"}, {"name": "USER", "value": "fuseml"}],  # noqa: S108 - a volume of its own
        # FuseML's and MLflow's listen once the model is loaded; MLServer is not ready before.
        "readinessProbe": {"httpGet": {"path": _READY[server]}, "successThreshold": 1},
        "resources": amounts.of_container(document.resources, settings.cpu, settings.memory),
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
            "labels": {**objects.labels_of(COMPONENT, application, revision), objects.REVISION_LABEL: str(revision.number)},
            "annotations": {
                "autoscaling.knative.dev/min-scale": "0",
                "autoscaling.knative.dev/max-scale": str(settings.most_pods),
                "autoscaling.knative.dev/scale-to-zero-pod-retention-period": settings.retention,
                "serving.knative.dev/progress-deadline": f"{settings.patience}s",
                # An application that is deleted and registered again gets new revision names: Knative frees the old ones only later.
                objects.REGISTERED_ANNOTATION: revision.registered,
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


def _image(application: str, document: Application, server: model_servers.Server, settings: Settings) -> str:
    """The image of a builder step, or the image of the model server for a model of the host's environment."""
    runtime = document.runtime or ""
    repository, _, tag = runtime.rpartition(":")
    if not runtime or (repository.startswith("fuseml.local/") and tag == "host"):
        return _versioned(_of_server(application, server, settings), document.runtime_version)
    if repository.startswith("fuseml.local/"):
        raise errors.InvalidError(
            f"application {application!r} cannot be served on a cluster: its runtime {runtime!r} is no image but an environment on another machine"
        )
    return runtime


def _of_server(application: str, server: model_servers.Server, settings: Settings) -> str:
    if server != "mlserver":
        return settings.image
    if not settings.mlserver_image:
        raise errors.InvalidError(
            f"application {application!r} cannot be served by MLServer here: set FUSEML_MLSERVER_IMAGE, or give the predictor step the output "
            "`image` of a builder as `runtime`, with mlserver and mlserver-mlflow among the requirements of the codeset"
        )
    return settings.mlserver_image


def _versioned(image: str, version: str) -> str:
    """The image with another tag."""
    if not version:
        return image
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}:{version}"


def _key(revision: Revision, variable: str) -> str:
    return f"{revision.number}.{variable}"
