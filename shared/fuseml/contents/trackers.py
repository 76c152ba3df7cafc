"""Clients for the tracking servers of the registry, with endpoint and credentials of their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuseml.contents import mlflow
from fuseml.domain.registry import extension

RESOURCE = "mlflow-tracking"
"""The resource of a service that is a tracking server."""

Connect = Callable[[str, Mapping[str, str]], mlflow.Tracking]
"""(URL, credentials) -> the client."""


def of_record(
    record: extension.Extension, unseal: Callable[[str], str], zone: str = "", connect: Connect = mlflow.Tracking
) -> mlflow.Tracking | None:
    """The record's tracking server for a client in `zone`; None without a reachable endpoint.

    It uses the service's global credentials, the default ones first: those of a project or user are not for the control plane.
    """
    for service in record.services:
        reachable = (
            [e for e in service.endpoints if e.type == "external" or record.zone in ("", zone)] if service.resource == RESOURCE else []
        )
        if reachable:
            endpoint = min(reachable, key=lambda e: e.type != "internal")
            usable = sorted((c for c in service.credentials if c.scope == "global"), key=lambda c: (not c.default, c.id))
            return connect(endpoint.url, _unsealed(usable[0], unseal) if usable else {})
    return None


def is_at(record: extension.Extension, url: str) -> bool:
    """Whether the record's tracking server has an endpoint at `url`."""
    return any(
        endpoint.url.rstrip("/") == url.rstrip("/")
        for service in record.services
        if service.resource == RESOURCE
        for endpoint in service.endpoints
    )


def _unsealed(credentials: extension.Credentials, unseal: Callable[[str], str]) -> Mapping[str, str]:
    configuration = extension.map_secrets(credentials, unseal).configuration
    return {key: value for key, value in configuration.items() if value != extension.HIDDEN}
