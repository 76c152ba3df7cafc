"""Tools of a cluster, recognised by its API groups and by the labels of its services: drafts of records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseml.domain.installation import exposure
from fuseml.domain.registry import extension

Object = Mapping[str, Any]
KUBERNETES = "https://kubernetes.default.svc"
"""The address of the cluster's API for its pods."""
_NAME_LABELS = ("app.kubernetes.io/name", "app", "k8s-app", "release")
_VERSION_LABELS = ("app.kubernetes.io/version", "version", "pipeline.tekton.dev/release", "serving.knative.dev/release")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The readable objects of a cluster. `definitions` are resource definitions by name."""

    services: Sequence[Object] = ()
    definitions: Mapping[str, Object] = field(default_factory=dict)
    exposures: Sequence[exposure.Exposure] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A draft, and the objects by which the tool was recognised. `internal` is the address inside of the cluster."""

    draft: extension.Extension
    origin: str
    internal: str


@dataclass(frozen=True, slots=True)
class _Api:
    definition: str
    product: str
    service: str
    resource: str
    category: str
    description: str


_APIS = (
    _Api(
        "inferenceservices.serving.kserve.io",
        "kserve",
        "api",
        "kserve-api",
        "prediction-serving",
        "Model serving by InferenceService objects",
    ),
    _Api(
        "seldondeployments.machinelearning.seldon.io",
        "seldon-core",
        "api",
        "seldon-core-api",
        "prediction-serving",
        "Model serving by SeldonDeployment objects",
    ),
    _Api("services.serving.knative.dev", "knative", "serving", "knative-serving", "platform", "Services that scale with requests"),
    _Api("pipelineruns.tekton.dev", "tekton", "pipelines", "tekton-pipelines", "platform", "Pipelines of containers"),
)


@dataclass(frozen=True, slots=True)
class _Tool:
    names: Sequence[str]
    product: str
    service: str
    resource: str
    category: str
    description: str
    ports: Sequence[str | int]
    variables: Sequence[str] = ()
    auth_required: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


_S3 = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_TOOLS = (
    _Tool(
        ("mlflow",), "mlflow", "mlflow-tracking", "mlflow-tracking", "experiment-tracking", "MLflow experiment tracking",
        ("http", "mlflow", 80, 5000), ("MLFLOW_TRACKING_URI",),
    ),
    _Tool(("minio",), "minio", "s3", "s3", "object-storage", "S3 object storage", ("s3", "api", "http-minio", "minio-api", 9000, 80), _S3, auth_required=True),
    _Tool(("versitygw",), "versitygw", "s3", "s3", "object-storage", "S3 object storage", ("s3", 7070), _S3, auth_required=True),
    _Tool(("seaweedfs", "seaweedfs-s3"), "seaweedfs", "s3", "s3", "object-storage", "S3 object storage", ("swfs-s3", "s3", 8333), _S3, auth_required=True),
    _Tool(("gitea",), "gitea", "git", "git+http", "VCS", "Git hosting", ("http", 3000), auth_required=True),
    _Tool(("forgejo",), "forgejo", "git", "git+http", "VCS", "Git hosting", ("http", 3000), auth_required=True),
    _Tool(("docker-registry", "registry"), "oci-registry", "registry", "oci-registry", "container-registry", "Registry of container images", ("http", "registry", 5000)),
)  # fmt: skip


def find(snapshot: Snapshot, zone: str) -> list[Finding]:
    """The recognised tools with drafts of their records in a zone: first APIs, then services by namespace and name.

    Drafts of one product have different ids: the first that of the product, others with their namespace.
    """
    found = [*_apis(snapshot, zone), *_services(snapshot, zone)]
    taken: set[str] = set()
    distinct: list[Finding] = []
    for finding in found:
        choices = (finding.draft.id, f"{finding.draft.id}-{finding.origin.split()[-1].partition('/')[0]}", "")
        id = next(choice for choice in choices if choice not in taken or not choice)
        taken.add(id)
        distinct.append(Finding(finding.draft.model_copy(update={"id": id}), finding.origin, finding.internal))
    return distinct


def registered(finding: Finding, records: Sequence[extension.Extension]) -> str:
    """The id of the record that has the tool already: of the same product and zone for an API, else with one of its addresses; else empty."""
    own = {endpoint.url for service in finding.draft.services for endpoint in service.endpoints}
    backing = exposure.service_of(finding.internal, ())
    for record in records:
        if finding.internal == KUBERNETES:
            if (record.product, record.zone) == (finding.draft.product, finding.draft.zone):
                return record.id
            continue
        urls = [endpoint.url.rstrip("/") for service in record.services for endpoint in service.endpoints]
        named = [exposure.service_of(url, [backing[0]] if backing else ()) for url in urls] if record.zone == finding.draft.zone else []
        outside = own - {finding.internal}
        if (backing and backing in named) or any(url in outside for url in urls):
            return record.id
    return ""


def _apis(snapshot: Snapshot, zone: str) -> Iterator[Finding]:
    for api in _APIS:
        if api.definition in snapshot.definitions:
            service = extension.Service(
                id=api.service,
                resource=api.resource,
                category=api.category,
                endpoints=(extension.Endpoint(url=KUBERNETES, type="internal"),),
            )
            version = _version(snapshot.definitions[api.definition])
            yield Finding(_draft(api.product, version, api.description, zone, service), f"API {api.definition}", KUBERNETES)


def _services(snapshot: Snapshot, zone: str) -> Iterator[Finding]:
    ordered = sorted(snapshot.services, key=lambda item: (_meta(item, "namespace"), _meta(item, "name")))
    candidates = [(item, tool, port) for item in ordered if (tool := _tool(item)) and (port := _port(item, tool))]
    with_address = {(_meta(item, "namespace"), tool.product) for item, tool, _ in candidates if not _is_headless(item)}
    for item, tool, port in candidates:
        if _is_headless(item) and (_meta(item, "namespace"), tool.product) in with_address:
            continue  # another service of the same pods
        namespace, name = _meta(item, "namespace"), _meta(item, "name")
        inside = exposure.internal(namespace, name, port["port"], secure=exposure.is_secure(port))
        outside = [
            each.url
            for each in snapshot.exposures
            if (each.namespace, each.service) == (namespace, name) and each.port in (None, port["port"])
        ]
        endpoints = [_endpoint(tool, inside, "internal"), *(_endpoint(tool, url, "external") for url in dict.fromkeys(outside))]
        resource = "git+https" if tool.resource == "git+http" and inside.startswith("https") else tool.resource
        service = extension.Service(
            id=tool.service, resource=resource, category=tool.category, auth_required=tool.auth_required, endpoints=tuple(endpoints)
        )
        yield Finding(_draft(tool.product, _version(item), tool.description, zone, service), f"service {namespace}/{name}", inside)


def _tool(item: Object) -> _Tool | None:
    labels = (item.get("metadata") or {}).get("labels") or {}
    if labels.get("app.kubernetes.io/part-of") == "fuseml":
        # A part of FuseML's own installation is no tool of the registry, except for its MLflow.
        return next((tool for tool in _TOOLS if tool.product == "mlflow" and labels.get(_NAME_LABELS[0]) == "mlflow"), None)
    names = [str(labels[label]) for label in _NAME_LABELS if label in labels]
    return next((tool for name in names for tool in _TOOLS if name in tool.names), None)


def _port(item: Object, tool: _Tool) -> Object | None:
    """The port of the tool's API; None where the service is another part of the tool."""
    spec = item.get("spec") or {}
    ports = [port for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP"]
    if spec.get("type") == "ExternalName":
        return None
    for wanted in tool.ports:
        for port in ports:
            if wanted in (port.get("name"), port.get("port")):
                found: Object = port
                return found
    return None


def _is_headless(item: Object) -> bool:
    return (item.get("spec") or {}).get("clusterIP") == "None"


def _endpoint(tool: _Tool, url: str, type: str) -> extension.Endpoint:
    return extension.Endpoint.model_validate({"url": url, "type": type, "configuration": dict.fromkeys(tool.variables, url)})


def _draft(product: str, version: str, description: str, zone: str, service: extension.Service) -> extension.Extension:
    return extension.Extension(id=product, product=product, version=version, description=description, zone=zone, services=(service,))


def _version(item: Object) -> str:
    labels = (item.get("metadata") or {}).get("labels") or {}
    version = next((str(labels[label]) for label in _VERSION_LABELS if labels.get(label)), "")
    return version.removeprefix("v") if any(sign.isdigit() for sign in version) and version != "devel" else ""


def _meta(item: Object, key: str) -> str:
    return str((item.get("metadata") or {}).get(key) or "")
