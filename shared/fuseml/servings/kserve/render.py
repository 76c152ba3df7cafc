"""Rendering of an application for KServe: an InferenceService and, for an S3 account, a Secret and the service account that owns it.

The label of the revision is on the pods, so each revision of the application gets pods of its own, and the status shows which one answers.
`check` is the place of a gate that admits signed models only. A scheme of model files is one word of `SCHEMES`; model images (`oci+native`)
are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fuseml.domain import errors, model_servers
from fuseml.domain.application import Application
from fuseml.servings import amounts, objects, storage
from fuseml.servings.objects import Object
from fuseml.servings.port import Revision, ServingSpec

RESOURCE = "kserve-api"
COMPONENT = "inference-service"
MANAGED = objects.managed(COMPONENT)
ACCOUNT_SUFFIX = ".kserve"
"""What follows the name of the application's objects in that of its account. No other serving, and no other application, has the same one."""
SERVERS = model_servers.OFFERED[RESOURCE]
SCHEMES = ("s3", "gs", "pvc", "hf", "https", "http")
MODES = ("Knative", "Standard")
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
_INSIDE = {"Knative": "networking.knative.dev/visibility", "Standard": "networking.kserve.io/visibility"}
"""Mode -> the label of a service without an address outside of the cluster."""
_RUNTIMES = {
    "mlserver": "kserve-mlserver",
    "sklearn": "kserve-sklearnserver",
    "tensorflow": "kserve-tensorflow-serving",
    "triton": "kserve-tritonserver",
    "openvino": "kserve-openvino",
}
"""Model server -> the ClusterServingRuntime that KServe ships for it."""
_ALIKE = ("mlserver", "sklearn")
_PORT = 8080
# 63 characters minus `-predictor-fuseml-workloads`: in the mode Standard that is a label of the host name. Longer than `-predictor-00001` of a
# Knative revision.
_LONGEST_NAME = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An application has at most `most_pods`. `timeout` in seconds bounds a request, and the end of a surplus pod. `drain` are the seconds
    in which a pod that ends still answers, until all routers know that it ends. A specification that KServe calls invalid has failed once it
    was registered `settling` seconds ago: until then the state may be that of the former one.
    """

    most_pods: int = 5
    timeout: int = 60
    drain: int = 5
    settling: float = 5.0
    cpu: str = "50m"
    memory: str = "2Gi"


def object_name(application: str) -> str:
    """The name of the application's InferenceService, and of its model in requests."""
    return objects.name_of(application, _LONGEST_NAME)


def account_name(application: str) -> str:
    """The name of the application's Secret and service account."""
    return f"{object_name(application)}{ACCOUNT_SUFFIX}"


def mode(document: Application) -> str:
    """The deployment mode of the application. Raises InvalidError for an unknown one."""
    chosen = document.options.get("mode", MODES[0])
    if chosen not in MODES:
        raise errors.InvalidError(
            f"application {document.name!r}: KServe has no mode {chosen!r}; FUSEML_SERVING_MODE of its record is {' or '.join(MODES)}"
        )
    return chosen


def check(spec: ServingSpec) -> None:
    """Raises InvalidError for a specification that KServe cannot serve, with the way out."""
    document = spec.newest.document
    chosen = mode(document)
    for revision in spec.revisions:
        if revision.number in spec.traffic:
            storage.place(revision.document, "KServe", SCHEMES)
            revision.document.served(SERVERS)
    if storage.is_temporary(document.environment):
        raise errors.InvalidError(
            f"application {spec.name!r} cannot be served by KServe with temporary S3 credentials: its storage initializer takes no "
            "AWS_SESSION_TOKEN; register lasting keys for the store of the model, or let the step's selector for prediction-serving resolve to "
            "seldon-core-api or fuseml-serving"
        )
    if len(spec.traffic) > 2:
        raise errors.InvalidError(f"KServe splits requests between two revisions, not {len(spec.traffic)}: give the shares to two of them")
    if len(spec.traffic) > 1 and chosen == "Standard" and not document.options.get("gateway"):
        raise errors.InvalidError(
            "requests cannot be split here: in the mode Standard KServe splits them only with the Gateway API; give 100 percent to one revision, "
            "set FUSEML_SERVING_GATEWAY in KServe's record where its ingress is the Gateway API, or use the mode Knative"
        )


def knative(spec: ServingSpec, template: int, percent: int | None, settings: Settings) -> Object:
    """The InferenceService in the mode Knative: `template` gets `percent` of the requests, the one rolled out last the others."""
    predictor = _predictor(spec, objects.revision(spec, template), settings, "Knative")
    predictor |= {"minReplicas": 0, "maxReplicas": settings.most_pods, "timeout": settings.timeout}
    if percent is not None:
        predictor["canaryTrafficPercent"] = percent
    return _service(spec, "Knative", {"predictor": predictor})


def standard(spec: ServingSpec, base: int, settings: Settings) -> Object:
    """The InferenceService in the mode Standard: `base` is its predictor, the other revisions of the traffic are canaries."""
    predictor = _predictor(spec, objects.revision(spec, base), settings, "Standard")
    body: Object = {"predictor": predictor | {"minReplicas": 1, "maxReplicas": settings.most_pods}}
    canaries = [
        {"predictor": _canary(spec, number, settings), "trafficPercent": percent}
        for number, percent in sorted(spec.traffic.items())
        if number != base
    ]
    if canaries:
        body["canary"] = canaries
    return _service(spec, "Standard", body)


def secret(spec: ServingSpec) -> Object | None:
    """The Secret with the S3 account of the newest revision: accounts change, and only the newest one is sure to work."""
    account = _account(spec)
    if account is None:
        return None
    annotations = {
        "s3-endpoint": account.host,
        "s3-usehttps": "1" if account.secure else "0",
        "s3-verifyssl": "1" if account.verified else "0",
        "s3-region": account.region,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": account_name(spec.name),
            "labels": objects.labels_of(COMPONENT, spec.name, spec.newest),
            "annotations": {f"serving.kserve.io/{key}": value for key, value in annotations.items() if value},
        },
        "data": storage.encoded({"AWS_ACCESS_KEY_ID": account.key_id, "AWS_SECRET_ACCESS_KEY": account.secret}),
    }


def account(spec: ServingSpec) -> Object | None:
    """The service account of the pods, through which KServe finds the Secret."""
    if _account(spec) is None:
        return None
    name = account_name(spec.name)
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": objects.labels_of(COMPONENT, spec.name, spec.newest)},
        "automountServiceAccountToken": False,
        "secrets": [{"name": name}],
    }


def _account(spec: ServingSpec) -> storage.S3Account | None:
    return storage.s3_account(spec.newest.document.environment)


def _service(spec: ServingSpec, chosen: str, body: dict[str, Any]) -> Object:
    return objects.sealed(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": object_name(spec.name),
                # KServe copies them to the pods, so they are the same for all revisions.
                "labels": {**MANAGED, objects.APPLICATION_LABEL: spec.name} | ({} if spec.public else {_INSIDE[chosen]: "cluster-local"}),
                "annotations": {MODE_ANNOTATION: chosen},
            },
            "spec": body,
        }
    )


def _canary(spec: ServingSpec, number: int, settings: Settings) -> Object:
    predictor = _predictor(spec, objects.revision(spec, number), settings, "Standard")
    # The definition of a canary asks for the name of the container, that of a predictor does not.
    return {**predictor, "name": f"r{number:05}", "model": {"name": "kserve-container", **predictor["model"]}}


def _predictor(spec: ServingSpec, revision: Revision, settings: Settings, chosen: str) -> Object:
    document = revision.document
    choice = document.served(SERVERS)
    model: Object = {
        "modelFormat": {"name": choice.format},
        "protocolVersion": choice.protocol,
        "storageUri": storage.place(document, "KServe", SCHEMES),
        "resources": amounts.of_container(document.resources, settings.cpu, settings.memory),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if document.runtime_version:
        model["runtimeVersion"] = document.runtime_version
    # Where none is named, KServe chooses among its runtimes for files that all of them lay out in one way.
    is_open = document.model_server in ("", model_servers.AUTO) and choice.server in _ALIKE
    runtime = document.options.get("runtime") or ("" if is_open else _RUNTIMES[choice.server])
    if runtime:
        model["runtime"] = runtime
    if not document.options.get("runtime"):
        # The shipped runtimes have none, and a server without its model calls itself ready.
        name = object_name(spec.name)
        path = f"/v1/models/{name}" if choice.protocol == "v1" else f"/v2/models/{name}/ready"
        model["readinessProbe"] = {"httpGet": {"path": path, "port": _PORT}, "successThreshold": 1}
    if choice.server == "mlserver":
        model["env"] = objects.variables(model_servers.MLSERVER_VARIABLES)
    if chosen == "Standard":
        model["lifecycle"] = {"preStop": {"sleep": {"seconds": settings.drain}}}
    predictor: Object = {
        "labels": {**objects.labels_of(COMPONENT, spec.name, revision), objects.REVISION_LABEL: str(revision.number)},
        # The digest of the whole would be copied to the pods, and each change of shares would replace them; this one takes its place.
        "annotations": {objects.REGISTERED_ANNOTATION: revision.registered, objects.DESIRED_ANNOTATION: objects.digest(model)},
        "model": model,
    }
    return predictor | ({"serviceAccountName": account_name(spec.name)} if _account(spec) is not None else {})
