"""The manifests agree with the code: one list of functions, one of settings, one of event types, no unused rights.

`UPDATE_GOLDEN=1` writes anew what is generated. The resource definitions are not part of the project; without them their tests are skipped.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from fuseml.client import transport
from fuseml.githosts.origins import copying
from fuseml.platform import Knative
from fuseml.runtime import catalog, secrets, settings
from fuseml.webhooks import gitea
from tests import commands, signing_keys
from tests.contract import test_event_contract
from tests.contract.manifests import (
    DEPLOYED,
    KUSTOMIZATIONS,
    MANIFESTS,
    ROOT,
    SERVICES,
    Object,
    container,
    documents,
    each_function,
    service,
)

EVENT_TYPES = ROOT / "eventing/types.yaml"
ROUTES = ROOT / "knative/gateway/routes.yaml"

KNOWN = {"Namespace", "ConfigMap", "Secret", "ServiceAccount", "Service", "Role", "RoleBinding", "NetworkPolicy", "Job", "StatefulSet"}
"""Kinds of Kubernetes itself, without a definition in FUSEML_CRDS."""
OPTIONAL = {
    "HTTPRoute": "gateway.networking.k8s.io/",
    "ReferenceGrant": "gateway.networking.k8s.io/",
    "PodMonitor": "monitoring.coreos.com/",
}
"""Kinds of optional software of a cluster, without a definition in FUSEML_CRDS."""
TEKTONS = {"config-events", "feature-flags"}
"""ConfigMaps of Tekton."""


# Services


def test_functions_and_services_correspond() -> None:
    assert sorted(path.name for path in SERVICES.iterdir()) == sorted(f"{function.service}.yaml" for function in DEPLOYED)


@each_function
def test_a_file_is_one_valid_service(function: catalog.Function) -> None:
    assert not re.search(r"^(---|\.\.\.)", (SERVICES / f"{function.service}.yaml").read_text(), re.MULTILINE)
    found = service(function)
    assert (found["kind"], found["metadata"]["name"], found["metadata"]["namespace"]) == ("Service", function.service, "fuseml")
    api_version, schema = definition("Service")
    assert found["apiVersion"] == api_version
    jsonschema.Draft202012Validator(schema).validate(found)


@each_function
def test_a_service_runs_its_function(function: catalog.Function) -> None:
    environment = {entry["name"]: entry.get("value") for entry in container(function)["env"]}
    assert environment["FUNCTION_SOURCE"] == f"functions/{function.name}/main.py"
    assert (ROOT / environment["FUNCTION_SOURCE"]).is_file()
    assert not {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"} & environment.keys(), "Knative refuses these"


@each_function
def test_nothing_but_the_gateway_can_be_called_from_outside(function: catalog.Function) -> None:
    local = service(function)["metadata"]["labels"].get("networking.knative.dev/visibility") == "cluster-local"
    assert local is (function is not catalog.GATEWAY)


@each_function
def test_a_service_is_bounded_probed_and_confined(function: catalog.Function) -> None:
    template = service(function)["spec"]["template"]
    annotations, spec, only = template["metadata"]["annotations"], template["spec"], container(function)
    assert annotations["autoscaling.knative.dev/min-scale"] == "0"
    assert 1 <= int(annotations["autoscaling.knative.dev/max-scale"]) <= 10
    assert spec["containerConcurrency"] >= 1
    threads = next((int(entry["value"]) for entry in only["env"] if entry["name"] == "THREADS"), THREADS)
    assert threads > spec["containerConcurrency"], "a probe must find a thread while all requests have one"
    assert spec["timeoutSeconds"] > GRACE, "what is in progress when a pod is stopped needs its time"
    # Without a period Knative probes a starting pod every 50 ms, and allows no limits of its own (infra/platform-facts.md 3.6).
    assert only["readinessProbe"] == {"httpGet": {"path": "/readyz"}}
    assert only["livenessProbe"]["httpGet"] == {"path": "/healthz"}
    assert only["resources"]["requests"]["cpu"] in ("25m", "50m", "100m")
    assert "cpu" not in only["resources"]["limits"]
    assert "memory" in only["resources"]["limits"]
    security = only["securityContext"]
    assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, True, False)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize(("function", "most"), [("housekeeper", copying.MOST_BYTES), ("gitea_ingress", gitea.MAX_BODY)])
def test_the_files_of_all_requests_at_once_fit_into_their_volume(function: str, most: int) -> None:
    [found] = [item for item in DEPLOYED if item.name == function]
    spec = service(found)["spec"]["template"]["spec"]
    [limit] = [volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "tmp"]
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", limit).groups()  # type: ignore[union-attr]  # else the test fails
    # Kubernetes ends a pod whose files exceed the limit.
    assert int(number) << {"Mi": 20, "Gi": 30}[unit] > spec["containerConcurrency"] * most


def gunicorn_setting(name: str) -> int:
    text = (ROOT / "infra/images/gunicorn.conf.py").read_text()
    match = re.search(rf'^{name} = .*?(\d+)"?\)?\)?$', text, re.MULTILINE)
    assert match
    return int(match[1])


THREADS, GRACE = gunicorn_setting("threads"), gunicorn_setting("graceful_timeout")

# Optional secrets: credentials of `contents.connect`, without which the process has an identity of its own, and those of exports.
OPTIONAL_SECRETS = {"s3_access_key", "s3_secret_key", "s3_session_token", "openlineage_token", "provenance_key"}
FIELDS = {field.name: field for field in settings.Settings.__dataclass_fields__.values()}


def read_settings(function: catalog.Function) -> set[str]:
    """The settings that a function reads while it picks its dependencies."""
    if function is catalog.GATEWAY:
        return set()
    values = dict.fromkeys(FIELDS, "http://example.com") | {
        "engine": "tekton",
        "engine_days": "7",
        "image_builds": "yes",
        "log_days": "7",
        "contents_url": "s3://bucket/prefix",
        "s3_addressing": "path",
    }
    values |= {
        "secret_keys": secrets.new_key(),
        "token_hashes": f"admin:{64 * 'a'}",
        "database_url": "sqlite://",
        "event_keys": 64 * "0",
        "unsigned_until": "",
        "provenance_key": signing_keys.pem(),
    }
    read = set[str]()

    class Recorded(settings.Settings):
        def __getattribute__(self, name: str) -> object:
            read.add(name)
            return super().__getattribute__(name)

    deps = importlib.import_module(f"functions.{function.name}.deps")
    deps.Deps.of(Knative(Recorded(**values)))
    return read & FIELDS.keys()


@each_function
def test_a_function_gets_the_secrets_that_it_reads_and_no_others(function: catalog.Function) -> None:
    references = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in container(function)["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    wanted = {FIELDS[name].metadata["variable"] for name in read_settings(function) if FIELDS[name].metadata["secret"]}
    assert references.keys() == wanted
    optional = {FIELDS[name].metadata["variable"] for name in OPTIONAL_SECRETS}
    for name, reference in references.items():
        assert reference == {"name": "fuseml", "key": name} | ({"optional": True} if name in optional else {})
    assert container(function)["envFrom"] == [{"configMapRef": {"name": "fuseml"}}]


def test_the_configuration_names_every_setting_that_is_no_secret() -> None:
    (config,) = documents(ROOT / "infra/kubernetes/config.yaml")
    assert config["data"].keys() == {field.metadata["variable"] for field in FIELDS.values() if not field.metadata["secret"]}
    settings.Settings.from_env(config["data"])


def settings_table() -> str:
    rows = [
        (
            f"`{field.metadata['variable']}`",
            field.metadata["text"],
            f"`{field.default}`" if field.default else "",
            "secret" if field.metadata["secret"] else "",
        )
        for field in FIELDS.values()
    ]
    return "\n".join(f"| {' | '.join(row)} |".replace("  ", " ") for row in [("variable", "meaning", "default", ""), ("---",) * 4, *rows])


def test_the_table_of_settings_is_that_of_the_code() -> None:
    path = ROOT / "docs/settings.md"
    head, _, rest = path.read_text().partition("<!-- settings -->\n")
    table, mark, tail = rest.partition("<!-- /settings -->")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(f"{head}<!-- settings -->\n{settings_table()}\n{mark}{tail}")
        table = settings_table() + "\n"
    assert table == settings_table() + "\n"


def test_no_secret_is_in_a_configuration() -> None:
    secret = {field.metadata["variable"] for field in FIELDS.values() if field.metadata["secret"]}
    for path, document in MANIFESTS:
        assert document["kind"] != "Secret" or not {"data", "stringData"} & document.keys(), path
        for entry in environment_of(document):
            assert not (entry["name"] in secret or "PASSWORD" in entry["name"]) or "value" not in entry, path
        if document["kind"] == "ConfigMap":
            assert not secret & document["data"].keys(), path


def environment_of(document: Any) -> Iterator[Object]:
    match document:
        case {"env": [*entries], **rest}:
            yield from entries
            yield from environment_of(rest)
        case dict():
            for value in document.values():
                yield from environment_of(value)
        case list():
            for value in document:
                yield from environment_of(value)


@pytest.mark.parametrize(("path", "document"), MANIFESTS, ids=[f"{path}:{document['kind']}" for path, document in MANIFESTS])
def test_an_image_is_named_with_a_version(path: str, document: Object) -> None:
    for image in re.findall(r"'image': '([^']+)'", str(document)):
        assert re.search(r":(?!latest$)[\w.-]+$|@sha256:[0-9a-f]{64}$", image), f"{path}: {image}"


# Events


def event_types() -> str:
    """An EventType for each type of the catalogue, for Knative's own tools."""
    head = "# Event types of the broker, for `kn eventtype list` and other catalogues. "
    head += "Generated from catalog.yaml (UPDATE_GOLDEN=1 with the contract tests).\n"
    found = [
        {
            "apiVersion": "eventing.knative.dev/v1beta2",
            "kind": "EventType",
            "metadata": {
                "name": entry["type"].replace("_", "-"),
                "namespace": "fuseml",
                "labels": {"app.kubernetes.io/part-of": "fuseml"},
            },
            "spec": {
                "type": entry["type"],
                "reference": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "fuseml"},
                "description": f"Producers: {', '.join(entry['producers'])}; example of a subject: {entry['subject']}",
            },
        }
        for entry in test_event_contract.CATALOGUE.values()
    ]
    return head + yaml.safe_dump_all(found, sort_keys=False, width=140)


def test_the_event_types_are_those_of_the_catalogue() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        EVENT_TYPES.write_text(event_types())
    assert EVENT_TYPES.read_text() == event_types()


def test_every_trigger_and_source_is_in_the_kustomization() -> None:
    listed = set(documents(ROOT / "eventing/kustomization.yaml")[0]["resources"])
    there = {
        path.relative_to(ROOT / "eventing").as_posix()
        for folder in ("triggers", "sources")
        for path in (ROOT / "eventing" / folder).iterdir()
    }
    assert listed == there | {"broker.yaml", "types.yaml"}


def test_deliveries_end_at_functions_that_exist() -> None:
    names = {function.service for function in catalog.FUNCTIONS}
    for path, document in MANIFESTS:
        if document["kind"] in ("Trigger", "Broker"):
            spec = document["spec"]
            sinks = [spec[key] for key in ("subscriber",) if key in spec] + [spec["delivery"]["deadLetterSink"]]
            assert {sink["ref"]["name"] for sink in sinks} <= names, path
            # Without a delay Knative would retry at once, again and again.
            assert "backoffDelay" in spec["delivery"], path


def test_functions_that_publish_are_bound_to_the_broker() -> None:
    policy = next(document for _, document in MANIFESTS if document["kind"] == "EventPolicy")
    allowed = {entry["sub"].rpartition(":")[2] for entry in policy["spec"]["from"] if "sub" in entry}
    publishing = {function for function in DEPLOYED if "broker_url" in read_settings(function)}
    assert allowed == {service(function)["spec"]["template"]["spec"]["serviceAccountName"] for function in publishing}
    # A trigger publishes the reply of its function.
    senders = {
        (document["kind"], document["metadata"]["name"]) for _, document in MANIFESTS if document["kind"] in ("Trigger", "PingSource")
    }
    assert {(entry["ref"]["kind"], entry["ref"]["name"]) for entry in policy["spec"]["from"] if "ref" in entry} == senders


# The gateway


def routes() -> str:
    """Gateway API: a rule for each function, and the gateway function for all other paths."""
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in function.paths],
            "filters": [
                {"type": "URLRewrite", "urlRewrite": {"hostname": f"{function.service}.fuseml.svc.cluster.local"}},
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": catalog.OUTSIDE, "value": "gateway-api"}]}},
            ],
            "backendRefs": [{"name": "kourier-internal", "namespace": "kourier-system", "port": 80}],
        }
        for function in DEPLOYED
        if function.paths
    ]
    metadata = {"namespace": "fuseml", "labels": {"app.kubernetes.io/part-of": "fuseml"}}
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "fuseml", **metadata},
        "spec": {"parentRefs": [{"name": "gateway", "namespace": "gateway-system"}], "hostnames": ["fuseml.example.com"], "rules": rules},
    }
    head = (
        "# One address by the Gateway API, for clusters that have it: "
        "the catalogue's prefixes lead to Knative's internal ingress, with the host name\n"
        "# of each function. Set parent and host by a patch. Generated from the catalogue (UPDATE_GOLDEN=1 with the contract tests).\n"
    )
    return head + yaml.safe_dump(route, sort_keys=False, width=140)


def test_the_routes_are_those_of_the_catalogue() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        ROUTES.write_text(routes())
    assert ROUTES.read_text() == routes()
    assert len(documents(ROUTES)[0]["spec"]["rules"]) <= 16, "the Gateway API takes no more in one route"


def test_the_client_has_the_address_of_each_function() -> None:
    client = transport.Transport("http://{function}.fuseml.example.com", None, 1)
    for function in catalog.FUNCTIONS:
        for path in function.paths:
            if not path.startswith("/webhooks"):
                assert client.base(path) == f"http://{function.service}.fuseml.example.com"


# The platform


def definition(kind: str) -> tuple[str, Object]:
    return test_event_contract.definition(kind)


@pytest.mark.parametrize(("path", "document"), MANIFESTS, ids=[f"{path}:{document['kind']}" for path, document in MANIFESTS])
def test_a_cluster_would_accept_the_manifest(path: str, document: Object) -> None:
    if document["kind"] in KNOWN and not document["apiVersion"].startswith("serving."):
        assert re.fullmatch(r"v1|(apps|batch|rbac\.authorization\.k8s\.io|networking\.k8s\.io)/v1", document["apiVersion"])
        return
    if document["kind"] in OPTIONAL:
        assert document["apiVersion"].startswith(OPTIONAL[document["kind"]])
        return
    api_version, schema = definition(document["kind"])
    assert document["apiVersion"] == api_version
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_every_resource_has_the_label(folder: str) -> None:
    kustomization = documents(ROOT / folder / "kustomization.yaml")[0]
    given = {name: value for label in kustomization.get("labels", ()) for name, value in label["pairs"].items()}
    for resource in kustomization.get("resources", ()):
        for document in documents(ROOT / folder / resource) if (ROOT / folder / resource).is_file() else ():
            labels = given | document["metadata"].get("labels", {})
            assert labels.get("app.kubernetes.io/part-of") == "fuseml" or document["metadata"]["name"] in TEKTONS, resource


def test_every_reference_resolves() -> None:
    there = {(document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"]) for _, document in MANIFESTS}
    # Made by `task deploy`.
    there |= {("Secret", "fuseml", name) for name in ("fuseml", "postgresql", "s3")}
    kinds = {"secretKeyRef": "Secret", "secretRef": "Secret", "configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap"}
    for path, document in MANIFESTS:
        namespace = document["metadata"].get("namespace")
        for key, value in entries(document):
            if key in kinds:
                assert (kinds[key], namespace, value["name"]) in there, f"{path}: {key} {value}"
            elif key == "serviceAccountName":
                assert ("ServiceAccount", namespace, value) in there, f"{path}: {value}"
            elif key == "ref":
                assert (value["kind"], value.get("namespace", namespace), value["name"]) in there, f"{path}: {value}"


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            yield from value.items()
            for item in value.values():
                yield from entries(item)
        case list():
            for item in value:
                yield from entries(item)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_kustomize_builds_the_folder(folder: str) -> None:
    kustomization = documents(ROOT / folder / "kustomization.yaml")[0]
    resources = kustomization.get("resources", ())
    generated = kustomization.get("configMapGenerator", ())
    assert resources or generated
    files = [file for item in generated for file in item["files"]]
    assert all((ROOT / folder / name).exists() for name in (*resources, *files))
    if shutil.which("kubectl") is None:
        pytest.skip("the files are all there; putting them together needs kubectl")
    built = commands.run(["kubectl", "kustomize", ROOT / folder]).stdout
    assert len([document for document in yaml.safe_load_all(built) if document]) >= len(resources) + len(generated)


def test_the_patch_keeps_the_functions_of_a_push_warm() -> None:
    (patch,) = documents(ROOT / "infra/kubernetes/warm/kustomization.yaml")[0]["patches"]
    warm = {function.name for function in DEPLOYED if re.fullmatch(patch["target"]["name"], function.service)}
    assert warm == {"gateway", "gitea_ingress", "mlflow_ingress", "dispatcher"}
