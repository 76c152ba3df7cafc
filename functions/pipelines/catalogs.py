"""Catalogues of templates: the one that ships, and git repositories that are records of the registry."""

from __future__ import annotations

import functools
import importlib.resources
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlmodel

import fuseml
from functions.pipelines.deps import Deps
from fuseml.domain import errors, events, plans, urls
from fuseml.domain.documents import document
from fuseml.domain.pipelines import templates
from fuseml.domain.registry import extension, registry, selector
from fuseml.githosts import snapshots
from fuseml.runtime import clock, cloudevents
from fuseml.store import extensions, resolution
from fuseml.usecases import own_tokens

RESOURCE = "fuseml-catalog"
"""The resource of the service that is a catalogue."""

CATEGORY = "pipeline-catalog"
PRODUCT = "git"

_BRANCH = "branch"
_SERVICE = "catalog"
_new_id = registry.id_source(random.SystemRandom())


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalogue: the address and branch of its repository, both empty for the one that ships."""

    name: str
    description: str = ""
    url: str = ""
    branch: str = ""

    @property
    def is_built_in(self) -> bool:
        return not self.url


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a catalogue's templates by name, at its version: a commit, or the version of FuseML."""

    catalog: Catalog
    version: str
    files: Mapping[str, bytes]


BUILT_IN = Catalog(templates.SHIPPED, "The templates that ship with FuseML.")


@functools.cache
def shipped() -> Mapping[str, bytes]:
    """Name -> document of each template that ships."""
    folder = importlib.resources.files("fuseml").joinpath("examples", "pipelines")
    found = {item.name: item.read_bytes() for item in folder.iterdir() if templates.is_template(item.name)}
    return templates.choose(templates.SHIPPED, found)


def listed(deps: Deps) -> list[Catalog]:
    """The catalogue that ships, and then the registered ones by name. No repository is asked."""
    with deps.store.read() as session:
        records = extensions.with_resource(session, RESOURCE)
    return [BUILT_IN, *(catalog for record in records if (catalog := _of(record)))]


def _of(record: extension.Extension) -> Catalog | None:
    """The catalogue in a record; None for one without an address."""
    for service in record.services:
        if service.resource == RESOURCE and service.endpoints:
            configuration = {**record.configuration, **service.configuration, **service.endpoints[0].configuration}
            return Catalog(record.id, record.description, urls.shown(service.endpoints[0].url), configuration.get(_BRANCH, ""))
    return None


def read(deps: Deps, name: str, project: str = "") -> Contents:
    """The templates of a catalogue at its newest commit, with the account that the project may use.

    Raises NotFoundError, TemporaryError while its repository cannot be read, TooLargeError and InvalidError for one that is no catalogue.
    """
    if name == templates.SHIPPED:
        return Contents(BUILT_IN, fuseml.__version__, shipped())
    with deps.store.read() as session:
        catalog, account = _registered(deps, session, name, project)
    return _fetched(catalog, account)


def _registered(deps: Deps, session: sqlmodel.Session, name: str, project: str) -> tuple[Catalog, snapshots.Account]:
    catalog = _of(extensions.get(session, name)) if extensions.is_known(session, name) else None
    if catalog is None:
        raise errors.NotFoundError(f"there is no catalogue {name[:100]!r}; `fuseml catalog list` shows those that exist")
    wanted = selector.Selector(name="catalog", extension_id=name, service_resource=RESOURCE)
    [binding] = resolution.resolve(session, [wanted], selector.Context(project=project, zone=deps.zone), home=deps.zone).bindings
    secrets = {key: deps.keyring.unseal(extensions.sealed_secret(session, _secret(binding, key))) for key in binding.secret_keys}
    account = snapshots.Account(secrets.get("username", ""), secrets.get("password") or secrets.get("token", ""))
    return Catalog(name, catalog.description, binding.url, binding.configuration.get(_BRANCH, "")), account


def _secret(binding: selector.Binding, key: str) -> plans.SecretPart:
    return plans.SecretPart(extension=binding.extension_id, service=binding.service_id, credentials=binding.credentials_id, key=key)


def _fetched(catalog: Catalog, account: snapshots.Account) -> Contents:
    snapshot = snapshots.read(catalog.url, account, templates.is_template, catalog.branch)
    found = templates.choose(catalog.name, snapshot.files)
    if not found:
        raise errors.InvalidError(
            f"the repository at {urls.shown(catalog.url)} has no template at {snapshot.commit[:12]}: a template is a workflow document, "
            f"NAME.yaml, in the folder {templates.FOLDER}/ or at the root"
        )
    return Contents(catalog, snapshot.commit, found)


def add(deps: Deps, name: str, address: str, branch: str, description: str) -> Contents:
    """Register a repository as a catalogue, once its templates can be read; the same one again changes nothing.

    An account in the address becomes credentials of the record. Raises as `read` does, InvalidError for the name and the address, ConflictError
    for a name that another record has, and for another account of the same repository.
    """
    document.check_identifier("name", name)
    if name == templates.SHIPPED:
        raise errors.ConflictError(f"the catalogue {name!r} is the one that ships; choose another name")
    url, username, password = urls.split(address.strip())
    if username and not password and url.startswith(("http:", "https:")):
        raise errors.InvalidError(
            "an account in the address is USER:PASSWORD or USER:TOKEN, and this one has no password; add it, or leave it out"
        )
    catalog = Catalog(name, description, url.rstrip("/"), branch)
    draft = _draft(catalog, username, password)
    # Before the account is sent to the repository.
    own_tokens.refuse(deps.tokens, draft)
    with deps.store.read() as session:
        known = _same(session, catalog)
        if known and password:
            _expect_account(deps, extensions.get(session, name), username, password)
    if known and not password:
        return read(deps, name)
    contents = _fetched(known or catalog, snapshots.Account(username, password))
    if known:
        return contents
    record = registry.create(extension.map_secrets(draft, deps.keyring.seal), clock.now(), _new_id)
    with deps.store.write() as session:
        extensions.add(session, record, clock.now())
        enqueued = cloudevents.enqueue(session, events.ExtensionRegistered(extension=record.id, revision=record.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return contents


def _same(session: sqlmodel.Session, catalog: Catalog) -> Catalog | None:
    """The catalogue as it is registered with this address and branch; None if it is not. Raises ConflictError for another record of the name."""
    if not extensions.is_known(session, catalog.name):
        return None
    stored = _of(extensions.get(session, catalog.name))
    if stored is None or (stored.url.rstrip("/"), stored.branch) != (catalog.url, catalog.branch):
        if stored is None:
            raise errors.ConflictError(f"{catalog.name!r} is an extension, and no catalogue; choose another name")
        what = f"the catalogue at {stored.url}" + (f", branch {stored.branch}" if stored.branch else "")
        raise errors.ConflictError(
            f"{catalog.name!r} is {what}; choose another name, or remove it with `fuseml extension delete {catalog.name}`"
        )
    return stored


def _expect_account(deps: Deps, record: extension.Extension, username: str, password: str) -> None:
    """Raises ConflictError unless the account is one of the record's."""
    sealed = [item.configuration for service in record.services for item in service.credentials]
    known = [{key: deps.keyring.unseal(value) for key, value in item.items()} for item in sealed]
    if not any((item.get("username", ""), item.get("password")) == (username, password) for item in known):
        raise errors.ConflictError(
            f"the catalogue {record.id!r} is registered with another account; "
            f"`fuseml extension credentials list {record.id} {_SERVICE}` shows which, and `fuseml extension credentials update` changes it"
        )


def _draft(catalog: Catalog, username: str, password: str) -> extension.Extension:
    credentials: Sequence[Mapping[str, object]] = (
        [{"id": "account", "default": True, "configuration": {"username": username, "password": password}}] if password else []
    )
    service = {
        "id": _SERVICE,
        "resource": RESOURCE,
        "category": CATEGORY,
        "auth_required": bool(password),
        "configuration": {_BRANCH: catalog.branch} if catalog.branch else {},
        "endpoints": [{"url": catalog.url}],
        "credentials": credentials,
    }
    record = {"id": catalog.name, "product": PRODUCT, "description": catalog.description, "services": [service]}
    return document.validate(extension.Extension, record, kind="catalogue")
