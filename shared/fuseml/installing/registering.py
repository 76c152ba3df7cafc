"""Reads from the cluster what the record of an installed tool needs: services, addresses outside, accounts."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from fuseml.domain.installation import exposure, objects, record
from fuseml.domain.installation.description import Description
from fuseml.domain.registry import extension
from fuseml.installing.programs import Forbidden, Programs

INGRESSES = "ingresses.networking.k8s.io"
ROUTES = "httproutes.gateway.networking.k8s.io"
VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


def read(programs: Programs, owner: Description, zone: str, domain: str = "") -> extension.Extension:
    """The record of an installed tool. Raises PermanentError for services, Secrets and keys that do not exist, Forbidden."""
    names = record.internal_services(owner)
    services = {(namespace, name): programs.find("service", name, namespace) for namespace, name in names}
    found = {name: service for name, service in services.items() if service is not None}
    namespaces = list(dict.fromkeys(namespace for namespace, _ in names))
    outside = exposure.exposures(
        found.values(),
        *(_readable(programs, kind, namespaces) for kind in (INGRESSES, ROUTES, VIRTUAL_SERVICES)),
    )
    if domain:
        # The ingress of Istio knows them before it has an address.
        outside += exposure.exposures(
            virtual_services=[item for item in objects.gateways(owner, domain) if item["kind"] == "VirtualService"]
        )
    facts = record.Facts(
        found, outside, {name: values for name in record.secrets(owner) if (values := _values(programs, name)) is not None}
    )
    return record.record(owner, zone, facts)


def _values(programs: Programs, name: record.Name) -> dict[str, str] | None:
    found = programs.find("secret", name[1], name[0])
    if found is None:
        return None
    values = {key: base64.b64decode(value).decode(errors="replace") for key, value in (found.get("data") or {}).items()}
    programs.hide(values.values())
    return values


def _readable(programs: Programs, kind: str, namespaces: Iterable[str]) -> list[dict[str, object]]:
    """The objects of a kind in some namespaces, as far as the account may read them: they only add addresses."""
    found: list[dict[str, object]] = []
    for namespace in namespaces:
        try:
            found += programs.list(kind, f"--namespace={namespace}")
        except Forbidden:
            continue
    return found
