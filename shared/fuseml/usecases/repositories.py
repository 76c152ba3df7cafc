"""Git repositories elsewhere as records of the registry: their addresses, branches and accounts.

A record has one service, whose resource says what the repository is for. Its account is a set of credentials, so that it is sealed, rotated,
restricted to projects and replaced like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlmodel

from fuseml.domain import errors, plans, urls
from fuseml.domain.documents import document
from fuseml.domain.registry import extension, selector
from fuseml.runtime import secrets
from fuseml.store import extensions, resolution

_BRANCH = "branch"
_PRODUCT = "git"


@dataclass(frozen=True, slots=True)
class Use:
    """The use of a repository: the resource, category and id of its service, its name in messages, and the command that removes one."""

    resource: str
    category: str
    service: str
    noun: str
    removal: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The address and branch of a repository; without a branch it is the default one."""

    name: str
    description: str
    url: str
    branch: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and a password, or a token as the password; empty for a public repository."""

    username: str = ""
    password: str = field(default="", repr=False)


def split(address: str) -> tuple[str, Account]:
    """The URL of an address, and the account in it. Raises InvalidError for an account without a password."""
    url, username, password = urls.split(address.strip())
    if username and not password and url.startswith(("http:", "https:")):
        raise errors.InvalidError(
            "an account in the address is USER:PASSWORD or USER:TOKEN, and this one has no password; add it, or leave it out"
        )
    return url.rstrip("/"), Account(username, password)


def of_record(record: extension.Extension, use: Use) -> Repository | None:
    """The repository in a record; None for a record of another use, or without an address."""
    for service in record.services:
        if service.resource == use.resource and service.endpoints:
            configuration = {**record.configuration, **service.configuration, **service.endpoints[0].configuration}
            return Repository(record.id, record.description, urls.shown(service.endpoints[0].url), configuration.get(_BRANCH, ""))
    return None


def draft(repository: Repository, use: Use, account: Account) -> extension.Extension:
    """The record of a repository, unsealed. Raises InvalidError."""
    configuration = {"username": account.username, "password": account.password}
    service = {
        "id": use.service,
        "resource": use.resource,
        "category": use.category,
        "auth_required": bool(account.password),
        "configuration": {_BRANCH: repository.branch} if repository.branch else {},
        "endpoints": [{"url": repository.url}],
        "credentials": [{"id": "account", "default": True, "configuration": configuration}] if account.password else [],
    }
    record = {"id": repository.name, "product": _PRODUCT, "description": repository.description, "services": [service]}
    return document.validate(extension.Extension, record, kind=use.noun)


def registered(
    session: sqlmodel.Session, keyring: secrets.Keyring, name: str, use: Use, *, project: str, zone: str
) -> tuple[Repository, Account] | None:
    """The repository of a record, with the account that the project may use; None where the record is missing or of another use.

    Raises UnresolvedError where no account applies to the project.
    """
    stored = of_record(extensions.get(session, name), use) if extensions.is_known(session, name) else None
    if stored is None:
        return None
    wanted = selector.Selector(name=use.service, extension_id=name, service_resource=use.resource)
    [binding] = resolution.resolve(session, [wanted], selector.Context(project=project, zone=zone), home=zone).bindings
    opened = {key: keyring.unseal(extensions.sealed_secret(session, _secret(binding, key))) for key in binding.secret_keys}
    account = Account(opened.get("username", ""), opened.get("password") or opened.get("token", ""))
    return Repository(name, stored.description, binding.url, binding.configuration.get(_BRANCH, "")), account


def _secret(binding: selector.Binding, key: str) -> plans.SecretPart:
    return plans.SecretPart(extension=binding.extension_id, service=binding.service_id, credentials=binding.credentials_id, key=key)


def same(session: sqlmodel.Session, repository: Repository, use: Use) -> Repository | None:
    """The repository as it is registered with this address and branch; None if it is not. Raises ConflictError for another record of the name."""
    if not extensions.is_known(session, repository.name):
        return None
    stored = of_record(extensions.get(session, repository.name), use)
    if stored is None:
        raise errors.ConflictError(f"{repository.name!r} is an extension, and no {use.noun}; choose another name")
    if (stored.url.rstrip("/"), stored.branch) != (repository.url, repository.branch):
        what = f"the {use.noun} at {stored.url}" + (f", branch {stored.branch}" if stored.branch else "")
        raise errors.ConflictError(
            f"{repository.name!r} is {what}; choose another name, or remove it with `{use.removal} {repository.name}`"
        )
    return stored


def expect_account(record: extension.Extension, account: Account, keyring: secrets.Keyring, use: Use) -> None:
    """Raises ConflictError unless the account is one of the record's."""
    sealed = [item.configuration for service in record.services for item in service.credentials]
    known = [{key: keyring.unseal(value) for key, value in item.items()} for item in sealed]
    if not any((item.get("username", ""), item.get("password")) == (account.username, account.password) for item in known):
        raise errors.ConflictError(
            f"the {use.noun} {record.id!r} is registered with another account; "
            f"`fuseml extension credentials list {record.id} {use.service}` shows which, and `fuseml extension credentials update` changes it"
        )
