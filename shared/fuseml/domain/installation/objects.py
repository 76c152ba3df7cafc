"""The objects that the installer adds to those of a tool: namespaces, accounts, rights of steps, gateways, and its own record."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from fuseml.domain.installation.description import Account, Description, Gateway

Object = dict[str, Any]

LEDGER = "fuseml-tools"
"""The namespace with a Secret for each installed tool."""
WORKLOADS = "fuseml-workloads"
"""Namespace and service account of the pods of runs."""
_OWN = {"app.kubernetes.io/managed-by": "fuseml"}
TOOL = "fuseml.io/tool"
"""The label with the tool that an object belongs to."""


def _metadata(name: str, namespace: str, tool: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": {**_OWN, TOOL: tool}}


def namespace(name: str, tool: str) -> Object:
    """A namespace of a tool, which the removal of the tool deletes."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**_OWN, TOOL: tool}}}


def is_made(item: Mapping[str, Any] | None, tool: str = "") -> bool:
    """Whether an object exists and was made for a tool, this one or any."""
    label = ((item or {}).get("metadata", {}).get("labels") or {}).get(TOOL, "")
    return bool(label) and tool in ("", label)


def ledger(tool: str, data: Mapping[str, str]) -> Object:
    """The record of an installation: a Secret, because descriptions may hold fixed values of accounts."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(tool, LEDGER, tool), "type": "Opaque", "data": encoded}


def account(item: Account, owner: Description, generated: Mapping[str, str]) -> Object:
    """A Secret with the fixed and the generated values of an account."""
    metadata = _metadata(item.secret, item.namespace or owner.namespace, owner.name)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": {**item.values, **generated}}


def rights(owner: Description) -> list[Object]:
    """The role of a tool's `rolerules` for the pods of runs, and its binding; empty without rules."""
    if not owner.rolerules:
        return []
    metadata = _metadata(f"tool-{owner.name}", WORKLOADS, owner.name)
    rules = [{"apiGroups": list(rule.apigroups), "resources": list(rule.resources), "verbs": list(rule.verbs)} for rule in owner.rolerules]
    group = "rbac.authorization.k8s.io"
    reference = {"apiGroup": group, "kind": "Role", "name": metadata["name"]}
    subject = {"kind": "ServiceAccount", "name": WORKLOADS, "namespace": WORKLOADS}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [subject]},
    ]


def host(gateway: Gateway, domain: str) -> str:
    """The host name of a gateway below a domain."""
    return f"{gateway.hostprefix or gateway.name}.{domain}"


def gateways(owner: Description, domain: str) -> Iterator[Object]:
    """The Gateways of Istio for a tool, each with a VirtualService where it names a service."""
    for item in owner.gateways:
        metadata = _metadata(item.name, item.namespace or owner.namespace, owner.name)
        server = {"hosts": [host(item, domain)], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
        yield {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        }
        if item.servicehost:
            destination = {"host": item.servicehost, "port": {"number": item.port}}
            spec = {"hosts": [host(item, domain)], "gateways": [item.name], "http": [{"route": [{"destination": destination}]}]}
            yield {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
