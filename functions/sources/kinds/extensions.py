"""Records of a source. Values of credentials that the files do not hold, `<hidden>`, stay as they were given by hand."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml import artifactstores
from fuseml.domain import events
from fuseml.domain.registry import custody, difference, extension, registry
from fuseml.runtime import clock
from fuseml.store import extensions, webhooks
from fuseml.usecases import own_tokens, registry_impact, sealing

_new_id = registry.id_source(random.SystemRandom())
_SHOWN = 20


def fingerprints(session: sqlmodel.Session, names: Collection[str]) -> Mapping[str, str]:
    """See `Kind`. Times, health and the values of credentials do not count."""
    return {record.id: digest(_facts(extension.hidden(record).model_dump(mode="json"))) for record in extensions.of_ids(session, names)}


def _facts(value: object) -> object:
    if isinstance(value, dict):
        # The keys of a configuration are any names, also those of read-only fields.
        return {key: item if key == "configuration" else _facts(item) for key, item in value.items() if key not in registry.READ_ONLY}
    return [_facts(item) for item in value] if isinstance(value, list) else value


def put(deps: Deps, session: sqlmodel.Session, item: extension.Extension) -> Put:
    """See `Kind`: also for an API token of this server, and for a kept secret at a new address."""
    own_tokens.refuse(deps.tokens, item)
    if not extensions.is_known(session, item.id):
        record = registry.create(extension.map_secrets(item, deps.keyring.seal), clock.now(), _new_id)
        extensions.add(session, record, clock.now())
        return Put("created", payloads=[events.ExtensionRegistered(extension=record.id, revision=record.revision)])
    stored = extensions.get(session, item.id)
    changed = registry.replace(stored, sealing.seal(deps.keyring, item, stored), clock.now(), _new_id)
    custody.expect_given(stored, changed, item, deps.keyring.unseal)
    if changed is stored:
        return Put("unchanged")
    extensions.replace(session, changed, clock.now())
    fields = [change.path for change in difference.compare(stored, changed)][:_SHOWN]
    return Put("updated", fields, [events.ExtensionUpdated(extension=changed.id, revision=changed.revision)])


def remove(deps: Deps, session: sqlmodel.Session, name: str) -> Sequence[events.Payload]:
    """See `Kind`: while assigned workflows need it."""
    stored = extensions.get(session, name)
    impact = registry_impact.assess(session, stored, None, home=deps.zone, facts=artifactstores.facts)
    registry_impact.refuse_breaking(impact, f"extension {name}", "change or unassign them first, or keep the record")
    removed = extensions.remove(session, name)
    webhooks.forget_tracker(session, name)
    return [events.ExtensionRemoved(extension=removed.id, revision=removed.revision)]
