"""The origin of a codeset: the registered git host that covers its address, and the account that the project may use there."""

from __future__ import annotations

from dataclasses import dataclass

import sqlmodel

from fuseml.domain import errors, origins, plans
from fuseml.domain.documents import document
from fuseml.domain.registry import selector
from fuseml.runtime import secrets
from fuseml.store import extensions, resolution
from fuseml.store import origins as stored
from fuseml.usecases.repositories import Account

CATEGORY = "VCS"
"""The category of the services of git hosts in the registry."""


@dataclass(frozen=True, slots=True)
class Service:
    """A registered git host; empty fields are none."""

    extension: str = ""
    service: str = ""
    product: str = ""
    url: str = ""


def address(public_url: str, project: str, codeset: str) -> str:
    """The address at which the webhooks of a codeset's origin arrive."""
    return f"{public_url.rstrip('/')}/webhooks/git/{project}/{codeset}"


def of_row(row: stored.CodesetOrigin) -> origins.Origin:
    """The origin that is stored."""
    host: origins.Host = next((item for item in origins.HOSTS if item == row.host), "git")
    return origins.Origin(row.url, host, row.base, row.path)


def choose(session: sqlmodel.Session, url: str, vcs: str, *, project: str, zone: str) -> Service:
    """The registered git host for an address: the one named by `vcs` (EXTENSION or EXTENSION/SERVICE), else one that covers the address.

    An empty service where none does. Raises InvalidError for a named one that does not cover the address: its account would go elsewhere.
    """
    extension, _, service = vcs.partition("/")
    if extension:
        named = {"name": "origin", "extension_id": extension, "service_id": service, "service_category": CATEGORY}
        wanted = document.validate(selector.Selector, named, kind="name of a git host")
        [binding] = resolution.resolve(session, [wanted], selector.Context(project=project, zone=zone), home=zone).bindings
        covering = _covering(session, binding, url)
        if not covering:
            raise errors.InvalidError(f"the git host {vcs!r} is at {binding.url}, which does not cover the address of the repository")
        return Service(binding.extension_id, binding.service_id, binding.product, covering)
    found = [
        Service(record.id, item.id, record.product, endpoint.url)
        for resource in resolution.resources(session, CATEGORY)
        for record in extensions.with_resource(session, resource)
        for item in record.services
        if item.category == CATEGORY and item.resource == resource
        for endpoint in item.endpoints
        if origins.covers(endpoint.url, url)
    ]
    # The most exact address; of several alike the first id.
    return min(found, key=lambda each: (-len(each.url), each.extension, each.service), default=Service())


def account(session: sqlmodel.Session, keyring: secrets.Keyring, row: stored.CodesetOrigin, zone: str) -> Account:
    """The account of an origin for its project; empty for a public repository.

    Raises NotFoundError where the registered git host is gone or has moved to other addresses, UnresolvedError where no account applies to the
    project.
    """
    if not row.extension:
        return Account()
    if not extensions.is_known(session, row.extension):
        raise errors.NotFoundError(f"the git host {row.extension!r} of the codeset is not registered any more")
    wanted = selector.Selector(name="origin", extension_id=row.extension, service_id=row.service)
    [binding] = resolution.resolve(session, [wanted], selector.Context(project=row.project, zone=zone), home=zone).bindings
    # The endpoints may have changed since the registration: an account goes only to the addresses that it was given for.
    if not _covering(session, binding, row.url):
        raise errors.NotFoundError(f"the git host {row.extension!r} is at {binding.url} now, which does not cover {row.url}")
    opened = {key: keyring.unseal(extensions.sealed_secret(session, _secret(binding, key))) for key in binding.secret_keys}
    opened = {**binding.configuration, **opened}
    return Account(opened.get("username", ""), opened.get("token") or opened.get("password", ""))


def _covering(session: sqlmodel.Session, binding: selector.Binding, url: str) -> str:
    """The most exact address of the bound service that covers `url`, also one that is not preferred here; empty without one."""
    record = extensions.get(session, binding.extension_id)
    endpoints = [endpoint.url for item in record.services if item.id == binding.service_id for endpoint in item.endpoints]
    return max((endpoint for endpoint in endpoints if origins.covers(endpoint, url)), key=len, default="")


def _secret(binding: selector.Binding, key: str) -> plans.SecretPart:
    return plans.SecretPart(extension=binding.extension_id, service=binding.service_id, credentials=binding.credentials_id, key=key)
