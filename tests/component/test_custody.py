"""Every entrance of the registry refuses to send a kept secret to a new address, and accepts the change with the secret."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fuseml.domain.registry import extension
from fuseml.store import extensions
from tests.component.extensions_app import Registry

HERE, EVIL = "https://mlflow.example.org/api", "https://evil.example.org/api"
# As clients send it: escaped twice.
AT_HERE = quote(quote(HERE, safe=""), safe="")
SECRETS = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "canary-1"}
RECORD: dict[str, Any] = {
    "id": "mlflow",
    "product": "mlflow",
    "configuration": {"NOTE": "ours"},
    "services": [
        {
            "id": "tracking",
            "resource": "mlflow-tracking",
            "configuration": {"MLFLOW_S3_ENDPOINT_URL": "http://minio:9000"},
            "endpoints": [{"url": HERE, "configuration": {"MLFLOW_TRACKING_URI": HERE}}],
            "credentials": [{"id": "admin", "configuration": SECRETS}],
        },
        {"id": "other", "endpoints": [{"url": "http://other.example.org"}]},
    ],
}
SERVICE, ENDPOINTS = "/extensions/mlflow/services/tracking", "/extensions/mlflow/services/tracking/endpoints"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path)
    assert made.client.post("/extensions", json=RECORD).status_code == 201
    return made


def record(**service: Any) -> dict[str, Any]:
    """The record as `extension get` prints it, with a changed service."""
    made = copy.deepcopy(RECORD)
    made["services"][0] |= service
    if "credentials" not in service:
        made["services"][0]["credentials"][0]["configuration"] = dict.fromkeys(SECRETS, "<hidden>")
    return made


def patch(**service: Any) -> dict[str, Any]:
    return {"services": [{"id": "tracking", **service}]}


def hidden(**values: str) -> list[dict[str, Any]]:
    return [{"id": "admin", "configuration": {**dict.fromkeys(SECRETS, "<hidden>"), **values}}]


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "another host": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": EVIL}])),
    "another host, secrets hidden": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": EVIL}], credentials=hidden())),
    "another host, one secret given": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": EVIL}], credentials=hidden(MLFLOW_TRACKING_USERNAME="ada")),
    ),
    "another host, a secret added": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": EVIL}], credentials=hidden(MORE="more"))),
    "another host, new credentials": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": EVIL}], credentials=[{"id": "new", "configuration": SECRETS}]),
    ),
    "another host, as a whole": ("PUT", "/extensions/mlflow?replace=true", record(endpoints=[{"url": EVIL}])),
    "one more host, as a whole": ("PUT", "/extensions/mlflow?replace=true", record(endpoints=[{"url": HERE}, {"url": EVIL}])),
    "another scheme": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": "http://mlflow.example.org/api"}])),
    "another port": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": "https://mlflow.example.org:8443/api"}])),
    "a user that looks like the host": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": "https://mlflow.example.org@evil.example.org/"}]),
    ),
    "a host that clients read differently": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": "https://mlflow.example.org\\@evil.example.org/"}]),
    ),
    "configuration of the extension": ("PUT", "/extensions/mlflow", {"configuration": {"MLFLOW_TRACKING_URI": EVIL}}),
    "configuration of the service": ("PUT", SERVICE, {"configuration": {"MLFLOW_S3_ENDPOINT_URL": "http://evil:9000"}}),
    "configuration without a scheme": ("PUT", SERVICE, {"configuration": {"STORE_HOST": "evil.example.org"}}),
    "configuration of host and port": ("PUT", SERVICE, {"configuration": {"BACKEND": "evil.example.org:443"}}),
    "a port of its own": ("PUT", SERVICE, {"configuration": {"DB_PORT": "9999"}}),
    "a proxy": ("PUT", SERVICE, {"configuration": {"https_proxy": "evil.example.org"}}),
    "an address in a list": ("PUT", SERVICE, {"configuration": {"NODES": "http://minio:9000,http://evil:9000"}}),
    "an address of JDBC": ("PUT", SERVICE, {"configuration": {"DB": "jdbc:postgresql://evil:5432/runs"}}),
    "a new endpoint": ("POST", ENDPOINTS, {"url": EVIL}),
    "a new internal endpoint": ("POST", ENDPOINTS, {"url": "http://evil:5000", "type": "internal"}),
    "configuration of the endpoint": ("PUT", f"{ENDPOINTS}/{AT_HERE}", {"configuration": {"MLFLOW_TRACKING_URI": EVIL}}),
    "a service of the record": ("PUT", SERVICE, {"endpoints": [{"url": EVIL}]}),
    "an address among the secrets": (
        "PUT",
        f"{SERVICE}/credentials/admin",
        {"configuration": {**hidden()[0]["configuration"], "MLFLOW_TRACKING_URI": EVIL}},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_kept_secret_is_not_sent_to_a_new_address(registry: Registry, name: str) -> None:
    method, path, body = CHANGES[name]
    before = stored(registry)
    answer = registry.client.open(path, method=method, json=body)
    assert answer.status_code == 400, answer.get_data(as_text=True)
    assert "services[tracking].credentials[admin].configuration.MLFLOW_TRACKING_" in answer.get_json()["message"]
    assert "send the secret again" in answer.get_json()["message"]
    assert "canary" not in answer.get_data(as_text=True)
    assert stored(registry) == before
    if method == "PUT" and path.startswith("/extensions/mlflow") and "services/" not in path:
        dry = registry.client.put(path + ("&" if "?" in path else "?") + "dry_run=true", json=body)
        assert dry.status_code == 400


SAME: dict[str, tuple[str, str, dict[str, Any]]] = {
    "the record as it is": ("PUT", "/extensions/mlflow?replace=true", record()),
    "another path": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": "https://mlflow.example.org/other"}])),
    "another spelling": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": "HTTPS://MLflow.example.org:443/api"}])),
    "the secrets, equal": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": EVIL}], credentials=[{"id": "admin", "configuration": SECRETS}]),
    ),
    "the secrets, new": (
        "PUT",
        "/extensions/mlflow",
        patch(endpoints=[{"url": EVIL}], credentials=[{"id": "admin", "configuration": {"MLFLOW_TRACKING_TOKEN": "canary-2"}}]),
    ),
    "new credentials instead": (
        "PUT",
        "/extensions/mlflow?replace_lists=true",
        patch(endpoints=[{"url": EVIL}], credentials=[{"id": "new", "configuration": SECRETS}]),
    ),
    "no secrets": ("PUT", "/extensions/mlflow", patch(endpoints=[{"url": EVIL}], credentials=[])),
    "another service": ("POST", "/extensions/mlflow/services/other/endpoints", {"url": EVIL}),
    "configuration without an address": ("PUT", SERVICE, {"configuration": {"BUCKET": "s3://models", "NOTE": "evil", "TIME": "12:30"}}),
    "other people": ("PUT", f"{SERVICE}/credentials/admin", {"scope": "project", "projects": ["demo"]}),
    "one new secret": (
        "PUT",
        f"{SERVICE}/credentials/admin",
        {"configuration": hidden(MLFLOW_TRACKING_PASSWORD="canary-2")[0]["configuration"]},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_other_changes_keep_secrets_or_accept_them_again(registry: Registry, name: str) -> None:
    method, path, body = SAME[name]
    answer = registry.client.open(path, method=method, json=body)
    assert answer.status_code in (200, 201), answer.get_data(as_text=True)


def test_an_address_that_was_removed_first_does_not_make_room_for_another(registry: Registry) -> None:
    assert registry.client.delete(f"{ENDPOINTS}/{AT_HERE}").status_code == 204
    assert registry.client.post(ENDPOINTS, json={"url": EVIL}).status_code == 400
    assert registry.client.put("/extensions/mlflow", json={"services": []}).status_code == 200
    again = {"id": "tracking", "endpoints": [{"url": EVIL}], "credentials": hidden()}
    assert registry.client.post("/extensions/mlflow/services", json=again).status_code == 201
    values = stored(registry).services[0].credentials[0].configuration
    assert set(values.values()) == {"<hidden>"}, "a moved or new service has no stored value"


def test_a_service_moved_to_another_extension_has_no_stored_value(registry: Registry) -> None:
    moved = {**record(), "id": "copy"}
    assert registry.client.post("/extensions", json=moved).status_code == 201
    values = stored(registry, "copy").services[0].credentials[0].configuration
    assert set(values.values()) == {"<hidden>"}


def stored(registry: Registry, extension_id: str = "mlflow") -> extension.Extension:
    with registry.store.read() as session:
        return extensions.get(session, extension_id)


def test_the_table_of_changes_names_each_level() -> None:
    levels: list[Callable[[str], bool]] = [
        lambda path: "/endpoints" in path,
        lambda path: "/credentials/" in path,
        lambda path: path == SERVICE,
    ]
    assert all(any(level(path) for _, path, _ in CHANGES.values()) for level in levels)
