"""Use cases of `sources`: add, list, compare, reconcile, remove."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlmodel

from functions.sources import applying, reading, settling
from functions.sources.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.documents import document
from fuseml.domain.registry import extension, registry
from fuseml.domain.sources import files
from fuseml.domain.sources.refusals import Refusal
from fuseml.githosts import snapshots
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, extensions, sources
from fuseml.usecases import own_tokens, repositories

_ATTEMPTS = 5
_new_id = registry.id_source(random.SystemRandom())


@dataclass(frozen=True, slots=True)
class View:
    """A source with its items, those of them that were changed by hand, and the address of a repository elsewhere."""

    row: sources.Source
    url: str
    branch: str
    items: Sequence[sources.SourceItem]
    drifted: Sequence[sources.SourceItem]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a sync at `commit` would change, or why it would be refused."""

    commit: str
    changes: Sequence[applying.Change]
    refusals: Sequence[Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The repository of a source, by an address or as a codeset; the branch, the default one where it is empty; the path of the folders."""

    name: str
    address: str = ""
    project: str = ""
    codeset: str = ""
    branch: str = ""
    path: str = ""


def listed(deps: Deps) -> list[View]:
    """All sources, by name. No repository is asked."""
    with deps.store.read() as session:
        return [_view(session, row) for row in sources.listed(session)]


def get(deps: Deps, name: str) -> View:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return _view(session, sources.get(session, name))


def _view(session: sqlmodel.Session, row: sources.Source) -> View:
    url, branch = "", row.branch
    if not row.codeset and extensions.is_known(session, row.name):
        repository = repositories.of_record(extensions.get(session, row.name), reading.USE)
        url, branch = (repository.url, repository.branch) if repository else ("", "")
    return View(row, url, branch, sources.items(session, row.name), applying.drifted(session, row))


def add(deps: Deps, place: Place, by: str, *, adopt: bool) -> View:
    """Add a source, once its repository can be read, and reconcile it; files that are refused are a result. The same again reconciles it.

    An account in the address becomes credentials of a record of the source's name. Raises InvalidError for the name, the path and the address,
    NotFoundError for the codeset or branch, ConflictError for another source of the name or another account, TemporaryError while the repository
    cannot be read.
    """
    document.check_identifier("name", place.name)
    path = files.normalized(place.path)
    if place.codeset:
        _add_codeset(deps, place, path, by)
    else:
        _add_repository(deps, place, path, by)
    reconcile(deps, place.name, adopt=adopt)
    return get(deps, place.name)


def _add_codeset(deps: Deps, place: Place, path: str, by: str) -> None:
    with deps.store.read() as session:
        registered = codesets.codeset(session, place.project, place.codeset).created
    row = sources.Source(
        name=place.name,
        project=place.project,
        codeset=place.codeset,
        registered=registered,
        branch=place.branch,
        path=path,
        by=by,
        created=clock.now(),
    )
    # Raises NotFoundError for the codeset and the branch.
    reading.head(deps, row)
    with deps.store.write() as session:
        codesets.codeset(session, place.project, place.codeset)
        _save_new(session, row)


def _save_new(session: sqlmodel.Session, row: sources.Source) -> bool:
    """Store a new source; False for one that exists. Raises ConflictError for another one of the name."""
    stored = sources.find(session, row.name)
    if stored is None:
        sources.save(session, row)
        return True
    wanted, present = ((item.project, item.codeset, item.registered, item.branch, item.path) for item in (row, stored))
    if wanted != present:
        where = f"{stored.project}/{stored.codeset}" if stored.codeset else "a repository elsewhere"
        raise errors.ConflictError(
            f"the source {row.name!r} exists, for {where}, path {stored.path or '/'}; choose another name, "
            f"or remove it with `fuseml source remove {row.name}`"
        )
    return False


def _add_repository(deps: Deps, place: Place, path: str, by: str) -> None:
    url, account = repositories.split(place.address)
    repository = repositories.Repository(place.name, f"The repository of the source {place.name}.", url, place.branch)
    draft = repositories.draft(repository, reading.USE, account)
    # Before the account is sent to the repository.
    own_tokens.refuse(deps.tokens, draft)
    with deps.store.read() as session:
        _refuse_owned(session, place.name)
        known = repositories.same(session, repository, reading.USE)
        if known and account.password:
            repositories.expect_account(extensions.get(session, place.name), account, deps.keyring, reading.USE)
    if known is None:
        # Raises what speaks against it, before anything is stored.
        snapshots.head(url, snapshots.Account(account.username, account.password), place.branch)
    sealed = registry.create(extension.map_secrets(draft, deps.keyring.seal), clock.now(), _new_id)
    payloads: list[events.Payload] = []
    with deps.store.write() as session:
        _refuse_owned(session, place.name)
        _save_new(session, sources.Source(name=place.name, path=path, by=by, created=clock.now()))
        if repositories.same(session, repository, reading.USE) is None:
            extensions.add(session, sealed, clock.now())
            payloads = [events.ExtensionRegistered(extension=sealed.id, revision=sealed.revision)]
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _refuse_owned(session: sqlmodel.Session, record: str) -> None:
    """Raises ConflictError for a record that a source makes: it cannot also hold the address of a source."""
    owner = sources.owner(session, ("extension", record))
    if owner:
        raise errors.ConflictError(f"the record {record!r} belongs to the source {owner!r}; choose another name")


def reconcile(deps: Deps, name: str, *, adopt: bool = False, cause: tuple[str, str] | None = None, seconds: float = 20) -> sources.Source:
    """Bring everything to the newest commit of the source; a refusal is a result. `cause` is an event.

    Raises NotFoundError, and TemporaryError where others reconcile the source all the time.
    """
    for _ in range(_ATTEMPTS):
        with deps.store.read() as session:
            row = sources.get(session, name)
        look = reading.look(deps, row, seconds=seconds)
        with deps.store.write() as session:
            row = sources.get(session, name)
            if not settling.is_current(session, look):
                continue
            enqueued = cloudevents.enqueue(session, *settling.settle(deps, session, row, look, adopt=adopt), cause=cause)
        cloudevents.relay(deps.store, deps.publisher, enqueued)
        return row
    raise errors.TemporaryError(f"the source {name!r} is being reconciled by others; try again")


def sync(deps: Deps, name: str, *, adopt: bool) -> View:
    """Reconcile a source now. Raises as `reconcile` does."""
    reconcile(deps, name, adopt=adopt)
    return get(deps, name)


def difference(deps: Deps, name: str, *, adopt: bool) -> Difference:
    """What a sync would do now; nothing is stored. Raises NotFoundError, and TemporaryError while the repository cannot be read."""
    with deps.store.read() as session:
        row = sources.get(session, name)
    look = reading.look(deps, row)
    if look.problem:
        raise errors.TemporaryError(look.problem)
    if not look.commit:
        return Difference("", [], [])
    with deps.store.write() as session:
        # In a transaction, because only the changes themselves show what a later one would meet; they are undone.
        applied = applying.apply(deps, session, sources.get(session, name), look.declared, adopt=adopt, keep=False)
    return Difference(look.commit, applied.changes, applied.refusals)


def remove(deps: Deps, name: str, *, delete: bool) -> None:
    """Remove a source. Its items stay, and belong to none; with `delete` those that it has made go, all or none.

    Raises NotFoundError, and ConflictError where an item is needed.
    """
    with deps.store.write() as session:
        row = sources.get(session, name)
        payloads: list[events.Payload] = []
        if delete:
            applied = applying.apply(deps, session, row, reading.NOTHING, adopt=False)
            if applied.refusals:
                raise errors.ConflictError(f"nothing was deleted: {settling.reason(applied.refusals)}", details=_details(applied.refusals))
            payloads += applied.payloads
        sources.remove(session, row)
        if not row.codeset and _is_address(session, name):
            removed = extensions.remove(session, name)
            payloads.append(events.ExtensionRemoved(extension=removed.id, revision=removed.revision))
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _is_address(session: sqlmodel.Session, name: str) -> bool:
    """Whether the record of the name is that with the address of a source: it may be another one, registered by hand in its place."""
    return extensions.is_known(session, name) and repositories.of_record(extensions.get(session, name), reading.USE) is not None


def _details(refusals: Sequence[Refusal]) -> Mapping[str, object]:
    return {"refusals": [str(refusal) for refusal in refusals]}
