"""Use cases of `extensions`: read, seal, apply a pure change of `domain.registry.registry`, store, publish."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Literal

import sqlmodel

from functions.extensions.deps import Deps
from fuseml import artifactstores
from fuseml.domain import errors, events
from fuseml.domain.registry import constraint, custody, extension, registry
from fuseml.domain.registry.selector import Selector
from fuseml.domain.workflows import impact
from fuseml.runtime import clock, cloudevents, http
from fuseml.store import extensions, paging, webhooks
from fuseml.usecases import own_tokens, sealing
from fuseml.usecases.registry_impact import assess, refuse_breaking

_new_id = registry.id_source(random.SystemRandom())
Change = Callable[[extension.Extension], extension.Extension]


def page(deps: Deps, selector: Selector, limit: int, cursor: str | None) -> http.ListPage[extension.Extension]:
    """A page of the matching records, each with its matching services only."""
    with deps.store.read() as session:
        rows = extensions.find(session, selector, paging.Page(limit, cursor))
    records = [extensions.of_row(row) for row in rows.rows]
    matching = [
        record.model_copy(update={"services": tuple(service for service in record.services if _matches(service, selector))})
        for record in records
        if not selector.version or constraint.satisfies(record.version, selector.version)
    ]
    return http.ListPage([extension.hidden(record) for record in matching], rows.next_cursor)


def _matches(service: extension.Service, selector: Selector) -> bool:
    pairs = (
        (selector.service_id, service.id),
        (selector.service_resource, service.resource),
        (selector.service_category, service.category),
    )
    return all(not expected or expected == actual for expected, actual in pairs)


def get(deps: Deps, extension_id: str) -> extension.Extension:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return extension.hidden(extensions.get(session, extension_id))


def create(deps: Deps, draft: extension.Extension) -> extension.Extension:
    """Register a record. Raises ConflictError for taken and repeated ids."""
    now = clock.now()
    own_tokens.refuse(deps.tokens, draft)
    record = registry.create(extension.map_secrets(draft, deps.keyring.seal), now, _new_id)
    with deps.store.write() as session:
        extensions.add(session, record, now)
        enqueued = cloudevents.enqueue(session, events.ExtensionRegistered(extension=record.id, revision=record.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return extension.hidden(record)


Scope = Literal["fields", "lists", "record"]
"""What a document replaces: the fields that it names, with listed parts merged; these fields with their lists; or the whole record."""


def update(deps: Deps, extension_id: str, document: extension.Extension, expected: int | None, scope: Scope) -> extension.Extension:
    """Apply `document`. Raises NotFoundError, StaleError, ConflictError, InvalidError."""
    return extension.hidden(_change(deps, extension_id, expected, lambda stored: _updated(deps, stored, document, scope)))


def _updated(deps: Deps, stored: extension.Extension, document: extension.Extension, scope: Scope) -> extension.Extension:
    own_tokens.refuse(deps.tokens, document)
    change = registry.replace if scope == "record" else functools.partial(registry.update, replace_lists=scope == "lists")
    changed = change(stored, sealing.seal(deps.keyring, document, stored), clock.now(), _new_id)
    custody.expect_given(stored, changed, document, deps.keyring.unseal)
    return changed


def delete(deps: Deps, extension_id: str, expected: int | None, *, force: bool) -> None:
    """Raises NotFoundError, StaleError and, unless forced, ConflictError if it breaks assigned workflows."""
    with deps.store.write() as session:
        stored = _expected(session, extension_id, expected)
        if not force:
            refuse_breaking(assess(session, stored, None, home=deps.zone, facts=artifactstores.facts), f"extension {extension_id}")
        removed = extensions.remove(session, extension_id)
        webhooks.forget_tracker(session, extension_id)
        enqueued = cloudevents.enqueue(session, events.ExtensionRemoved(extension=removed.id, revision=removed.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def plan(deps: Deps, document: extension.Extension, scope: Scope) -> impact.Impact:
    """The impact of registering a record, or of updating the one of its id. Raises ConflictError, InvalidError."""
    with deps.store.read() as session:
        try:
            stored = extensions.get(session, document.id)
        except errors.NotFoundError:
            stored = None
        if scope == "record":
            registry.refuse_anonymous(document)
        record = _updated(deps, stored, document, scope) if stored else registry.create(document, clock.now(), _new_id)
        return assess(session, stored, record, home=deps.zone, facts=artifactstores.facts)


def plan_update(deps: Deps, extension_id: str, document: extension.Extension, expected: int | None, scope: Scope) -> impact.Impact:
    """The impact of `update`. Raises as it does."""
    with deps.store.read() as session:
        stored = _expected(session, extension_id, expected)
        return assess(session, stored, _updated(deps, stored, document, scope), home=deps.zone, facts=artifactstores.facts)


def plan_deletion(deps: Deps, extension_id: str, expected: int | None) -> impact.Impact:
    """The impact of a forced `delete`. Raises NotFoundError, StaleError."""
    with deps.store.read() as session:
        return assess(session, _expected(session, extension_id, expected), None, home=deps.zone, facts=artifactstores.facts)


def parts(deps: Deps, extension_id: str, collection: registry.Path) -> list[extension.Part]:
    """The parts of one list. Raises NotFoundError for their owners."""
    with deps.store.read() as session:
        record = extension.hidden(extensions.get(session, extension_id))
    *above, name = collection
    owner = registry.find(record, above) if above else record
    return list(getattr(owner, name))


def part(deps: Deps, extension_id: str, path: registry.Path) -> extension.Part:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return registry.find(extension.hidden(extensions.get(session, extension_id)), path)


def add_part(deps: Deps, extension_id: str, collection: registry.Path, draft: extension.Part) -> extension.Part:
    """Raises NotFoundError, ConflictError, InvalidError."""
    own_tokens.refuse(deps.tokens, draft)
    sealed = extension.map_secrets(draft, deps.keyring.seal)
    added: list[extension.Part] = []

    def change(stored: extension.Extension) -> extension.Extension:
        record, part = registry.add(stored, collection, sealed, clock.now(), _new_id)
        custody.expect_given(stored, record, registry.naming(collection, draft), deps.keyring.unseal)
        added[:] = [part]
        return record

    _change(deps, extension_id, None, change)
    return extension.hidden(added[0])


def change_part(
    deps: Deps,
    extension_id: str,
    path: registry.Path,
    patch: extension.Part,
    expected: int | None,
    *,
    replace_lists: bool = False,
) -> extension.Part:
    """Raises NotFoundError, StaleError, InvalidError, ConflictError."""

    def change(stored: extension.Extension) -> extension.Extension:
        own_tokens.refuse(deps.tokens, patch)
        part = registry.find(stored, path)
        sealed = sealing.seal(deps.keyring, patch, part)
        changed = registry.change(stored, path, sealed, clock.now(), _new_id, replace_lists=replace_lists)[0]
        given = registry.naming(path[:-1], patch.model_copy(update={part.key: part.address}))
        custody.expect_given(stored, changed, given, deps.keyring.unseal)
        return changed

    return extension.hidden(registry.find(_change(deps, extension_id, expected, change), path))


def remove_part(deps: Deps, extension_id: str, path: registry.Path, expected: int | None, *, force: bool) -> None:
    """Raises NotFoundError, StaleError and, unless forced, ConflictError if it breaks assigned workflows."""
    subject = "" if force else f"{extension_id}: {'/'.join(path)}"
    _change(deps, extension_id, expected, lambda stored: registry.remove(stored, path, clock.now()), removal=subject)


def _change(deps: Deps, extension_id: str, expected: int | None, change: Change, *, removal: str = "") -> extension.Extension:
    """Store a changed record. `removal` names a removed part: the change is refused if it breaks assigned workflows."""
    with deps.store.write() as session:
        stored = _expected(session, extension_id, expected)
        changed = change(stored)
        if changed is stored:
            return stored
        if removal:
            refuse_breaking(assess(session, stored, changed, home=deps.zone, facts=artifactstores.facts), removal)
        extensions.replace(session, changed, clock.now())
        enqueued = cloudevents.enqueue(session, events.ExtensionUpdated(extension=changed.id, revision=changed.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return changed


def _expected(session: sqlmodel.Session, extension_id: str, revision: int | None) -> extension.Extension:
    stored = extensions.get(session, extension_id)
    if revision is not None:
        registry.expect_revision(stored, revision)
    return stored


def revision_of(if_match: str | None) -> int | None:
    """The revision in an `If-Match` header, `"3"`; None for any. Raises InvalidError."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise errors.InvalidError(f'If-Match must be the revision from ETag, such as "3", not {if_match}')
    return int(text)
