"""The tracking servers of the registry: from a record to a client that reaches the server and is let in."""

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
    """The record's tracking server as it is reached from `zone`; None where it has none that can be reached.

    With the service's global credentials, the default ones first: those of a project or user are not for the server's own business.
    """
    for service in record.services:
        reachable = (
            [e for e in service.endpoints if e.type == "external" or record.zone in ("", zone)] if service.resource == RESOURCE else []
        )
        if reachable:
            endpoint = min(reachable, key=lambda e: e.type != "internal")
            usable = sorted((c for c in service.credentials if c.scope == "global"), key=lambda c: (not c.default, c.id))
            return connect(endpoint.url, _opened(usable[0], unseal) if usable else {})
    return None


def _opened(credentials: extension.Credentials, unseal: Callable[[str], str]) -> Mapping[str, str]:
    opened = extension.map_secrets(credentials, unseal).configuration
    return {key: value for key, value in opened.items() if value != extension.HIDDEN}
