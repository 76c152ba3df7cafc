"""Draft records, in the words of the original's example records: one place, so that all tools propose alike."""

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


def version(said: object) -> str:
    """What a tool says its version is, if it looks like one; else nothing."""
    text = said.strip() if isinstance(said, str) else ""
    return text if _VERSION.fullmatch(text) else ""


def record(product: str, version: str, description: str, *services: extension.Service) -> extension.Extension:
    """A draft under the product's name; who registers it may have to take another id."""
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
    """A service at `path` below the target. Steps get its URL as each of `variables`; of the target's credentials it takes `keys`."""
    url = targets.normal(target.url) + path
    secrets = {key: target.credentials[key] for key in keys if target.credentials.get(key)}
    return extension.Service(
        id=id,
        resource=resource,
        category=category,
        auth_required=auth_required,
        endpoints=(
            extension.Endpoint(url=url, type=_reach(target), configuration={**target.configuration, **dict.fromkeys(variables, url)}),
        ),
        credentials=(extension.Credentials(id="default", configuration=secrets),) if secrets else (),
    )


def _reach(target: Target) -> Literal["internal", "external"]:
    """`internal` for what only the same network can reach."""
    host = targets.parse(target.url).hostname or ""
    try:
        private = ipaddress.ip_address(host).is_private
    except ValueError:
        private = "." not in host or host.endswith(_PRIVATE_NAMES)
    return "internal" if private else "external"
