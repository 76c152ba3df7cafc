"""Catalogues of templates: the one that ships, and git repositories that are records of the registry."""

from __future__ import annotations

import functools
import importlib.resources
import random
from collections.abc import Mapping
from dataclasses import dataclass

import sqlmodel

from functions.pipelines.deps import Deps
from fuseml.domain import errors, events, urls
from fuseml.domain.documents import document
from fuseml.domain.pipelines import templates
from fuseml.domain.registry import extension, registry
from fuseml.githosts import snapshots
from fuseml.runtime import clock, cloudevents
from fuseml.store import extensions
from fuseml.usecases import own_tokens, repositories
from fuseml.version import __version__

RESOURCE = "fuseml-catalog"
"""The resource of the service that is a catalogue."""

CATEGORY = "pipeline-catalog"
_USE = repositories.Use(RESOURCE, CATEGORY, "catalog", "catalogue", "fuseml extension delete")
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
    found = repositories.of_record(record, _USE)
    return Catalog(found.name, found.description, found.url, found.branch) if found else None


def read(deps: Deps, name: str, project: str = "") -> Contents:
    """The templates of a catalogue at its newest commit, with the account that the project may use.

    Raises NotFoundError, TemporaryError while its repository cannot be read, TooLargeError and InvalidError for one that is no catalogue.
    """
    if name == templates.SHIPPED:
        return Contents(BUILT_IN, __version__, shipped())
    with deps.store.read() as session:
        catalog, account = _registered(deps, session, name, project)
    return _fetched(catalog, account)


def _registered(deps: Deps, session: sqlmodel.Session, name: str, project: str) -> tuple[Catalog, repositories.Account]:
    found = repositories.registered(session, deps.keyring, name, _USE, project=project, zone=deps.zone)
    if found is None:
        raise errors.NotFoundError(f"there is no catalogue {name[:100]!r}; `fuseml catalog list` shows those that exist")
    repository, account = found
    return Catalog(name, repository.description, repository.url, repository.branch), account


def _fetched(catalog: Catalog, account: repositories.Account) -> Contents:
    given = snapshots.Account(account.username, account.password)
    snapshot = snapshots.read(catalog.url, given, templates.is_template, catalog.branch)
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
    url, account = repositories.split(address)
    repository = repositories.Repository(name, description, url, branch)
    draft = repositories.draft(repository, _USE, account)
    # Before the account is sent to the repository.
    own_tokens.refuse(deps.tokens, draft)
    with deps.store.read() as session:
        known = repositories.same(session, repository, _USE)
        if known and account.password:
            repositories.expect_account(extensions.get(session, name), account, deps.keyring, _USE)
    if known and not account.password:
        return read(deps, name)
    catalog = Catalog(name, known.description if known else description, url, branch)
    contents = _fetched(catalog, account)
    if known:
        return contents
    record = registry.create(extension.map_secrets(draft, deps.keyring.seal), clock.now(), _new_id)
    with deps.store.write() as session:
        extensions.add(session, record, clock.now())
        enqueued = cloudevents.enqueue(session, events.ExtensionRegistered(extension=record.id, revision=record.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return contents
