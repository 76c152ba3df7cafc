"""Rendering of an application for Seldon Core 1: a SeldonDeployment, and a Secret with the S3 account of its storage initializer.

The predictor `main` serves one revision, and each further revision of the traffic has a predictor of its own. Seldon Core makes a Service for
each of them; only the gateway of a mesh splits requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fuseml.domain import errors, model_servers
from fuseml.domain.application import Application
from fuseml.servings import amounts, objects, storage
from fuseml.servings.objects import Object
from fuseml.servings.port import Revision, ServingSpec

RESOURCE = "seldon-core-api"
COMPONENT = "seldon-deployment"
MANAGED = objects.managed(COMPONENT)
ACCOUNT_SUFFIX = ".seldon"
"""What follows the name of the application's objects in that of its account. No other serving, and no other application, has the same one."""
SERVERS = model_servers.OFFERED[RESOURCE]
SCHEMES = ("s3", "gs", "pvc", "https", "http")
_PROTOCOLS = {"v2": "v2", "v1": "tensorflow"}
_MLSERVER = {"mlflow": "MLFLOW_SERVER", "sklearn": "SKLEARN_SERVER", "xgboost": "XGBOOST_SERVER"}
# 63 characters minus `seldon-` and the names of predictors and containers; longer ones would become hashes.
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`drain` are the seconds in which a pod that ends still answers, until all routers know that it ends."""

    drain: int = 10
    cpu: str = "50m"
    memory: str = "2Gi"


def object_name(application: str) -> str:
    """The name of the application's SeldonDeployment, and of its model in requests."""
    return objects.name_of(application, _LONGEST_NAME)


def account_name(application: str) -> str:
    """The name of the application's Secret."""
    return f"{object_name(application)}{ACCOUNT_SUFFIX}"


def check(spec: ServingSpec) -> None:
    """Raises InvalidError for a specification that Seldon Core 1 cannot serve, with the way out."""
    for revision in spec.revisions:
        if revision.number in spec.traffic:
            storage.place(revision.document, "Seldon Core 1", SCHEMES)
            _server(revision.document)
    if len(spec.traffic) > 1 and not spec.newest.document.options.get("gateway"):
        raise errors.InvalidError(
            "requests cannot be split here: Seldon Core 1 splits them only in the gateway of a mesh, Ambassador or Istio; give 100 percent to "
            "one revision, or set FUSEML_SERVING_GATEWAY in Seldon's record to the address of the gateway"
        )


def service(spec: ServingSpec, base: int, settings: Settings) -> Object:
    """The SeldonDeployment: `base` is served by its first predictor."""
    others = sorted(spec.traffic.keys() - {base})
    predictors = [
        _predictor(spec, objects.revision(spec, number), settings, "main" if number == base else f"r{number:05}")
        for number in [base, *others]
    ]
    for predictor, number in zip(predictors, [base, *others], strict=True):
        predictor["traffic"] = spec.traffic.get(number, 0) if others else 100
    choice = objects.revision(spec, base).document.served(SERVERS)
    return objects.sealed(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": object_name(spec.name), "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
            "spec": {"name": object_name(spec.name), "protocol": _PROTOCOLS[choice.protocol], "predictors": predictors},
        }
    )


def secret(spec: ServingSpec) -> Object | None:
    """The Secret with the S3 account of the newest revision, as variables of both storage initializers that Seldon Core 1 runs: rclone, and
    that of KServe. Temporary credentials are among them."""
    account = _account(spec)
    if account is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": account_name(spec.name), "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
        "data": storage.encoded({**storage.clients(account), **storage.rclone(account)}),
    }


def _account(spec: ServingSpec) -> storage.S3Account | None:
    return storage.s3_account(spec.newest.document.environment)


def _server(document: Application) -> str:
    """The prepackaged server of the document's model. Raises InvalidError."""
    choice = document.served(SERVERS)
    if choice.server != "mlserver":
        return f"{choice.server.upper()}_SERVER"
    if choice.format not in _MLSERVER:
        raise errors.InvalidError(
            f"application {document.name!r}: Seldon Core 1 has no prepackaged server for the format {choice.format!r}, only for "
            f"{', '.join(_MLSERVER)}; log the model with MLflow, whose format it takes"
        )
    return _MLSERVER[choice.format]


def _predictor(spec: ServingSpec, revision: Revision, settings: Settings, predictor: str) -> dict[str, Any]:
    document, name = revision.document, object_name(spec.name)
    graph: Object = {
        "name": name,
        "implementation": _server(document),
        "modelUri": storage.place(document, "Seldon Core 1", SCHEMES),
        "children": [],
    }
    if _account(spec) is not None:
        graph["envSecretRefName"] = account_name(spec.name)
    container: Object = {
        "name": name,
        # A pod that ends answers until it gets no new requests. The executor does not, so requests go to the server without it.
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"/bin/sleep {settings.drain}"]}}},
        "resources": amounts.of_container(document.resources, settings.cpu, settings.memory),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if document.served(SERVERS).server == "mlserver":
        container["env"] = objects.variables(model_servers.MLSERVER_VARIABLES)
    labels = {**objects.labels_of(COMPONENT, spec.name, revision), objects.REVISION_LABEL: str(revision.number)}
    rendered: Object = {
        "name": predictor,
        "labels": labels,
        "replicas": 1,
        "graph": graph,
        "componentSpecs": [{"spec": {"containers": [container], "terminationGracePeriodSeconds": settings.drain + 20}}],
    }
    # TensorFlow Serving is reached through the executor only.
    if document.served(SERVERS).protocol == "v2":
        rendered["annotations"] = {"seldon.io/no-engine": "true"}
    return rendered
