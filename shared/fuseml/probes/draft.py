"""Draft records with the names of the original's example records, alike for all tools."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal

from fuseml.domain.registry import extension
from fuseml.probes import targets
from fuseml.probes.targets import Target

_VERSION = re.compile(r"v?\d[\w.+~-]{0,63}")
_PRIVATE_NAMES = (".svc", ".local", ".internal", ".localhost")


def version(value: object) -> str:
    """The version that a tool reports; empty if it does not look like one."""
    text = value.strip() if isinstance(value, str) else ""
    return text if _VERSION.fullmatch(text) else ""


def record(product: str, version: str, description: str, *services: extension.Service) -> extension.Extension:
    """A draft with the product's name as its id, which may be taken."""
    return extension.Extension(id=product, product=product, version=version, description=description, services=services)


def service(
    target: Target,
    id: str,
    resource: str,
    category: str,
    *,
    path: str = "",
    variables: Sequence[str] = (),
    auth_required: bool = False,
    keys: Sequence[str] = (),
) -> extension.Service:
    """A service at `path` below the target. Each of `variables` holds its URL in a step's environment; `keys` selects from the target's
    credentials.
    """
    url = targets.normalise(target.url) + path
    secrets = {key: target.credentials[key] for key in keys if target.credentials.get(key)}
    return extension.Service(
        id=id,
        resource=resource,
        category=category,
        auth_required=auth_required,
        endpoints=(
            extension.Endpoint(
                url=url, type=_endpoint_type(target), configuration={**target.configuration, **dict.fromkeys(variables, url)}
            ),
        ),
        credentials=(extension.Credentials(id="default", configuration=secrets),) if secrets else (),
    )


def _endpoint_type(target: Target) -> Literal["internal", "external"]:
    """`internal` for hosts that only the same network can reach."""
    host = targets.parse(target.url).hostname or ""
    try:
        private = ipaddress.ip_address(host).is_private
    except ValueError:
        private = "." not in host or host.endswith(_PRIVATE_NAMES)
    return "internal" if private else "external"
