"""The way to the contents of artifacts: the store of each, with the account that a user may use there. No function carries contents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlmodel

from functions.artifacts.deps import Deps
from fuseml import artifactstores
from fuseml.artifactstores import choice
from fuseml.domain import artifact, errors
from fuseml.domain.registry import selector
from fuseml.domain.workflows import artifact_rules
from fuseml.runtime import auth
from fuseml.store import artifact_names, artifacts, codesets, removals
from fuseml.usecases import stores

_OUTSIDE = "(outside)"
"""A zone that no record names. A caller outside of all zones reaches external endpoints only."""


@dataclass(frozen=True, slots=True)
class Access:
    """A store for one artifact or name, and the connection of a caller to it. `row` is the artifact, None for a new one."""

    store: str
    connection: artifactstores.Connection
    row: artifacts.Artifact | None = None


def place(deps: Deps, address: artifact.Address, wanted: selector.Selector | None, caller: auth.Caller) -> Access:
    """The store for a new version of a name. Raises NotFoundError for an unknown project, InvalidError, UnresolvedError."""
    artifact_rules.check_output_name(address.kind, address.name)
    with deps.store.read() as session:
        codesets.project(session, address.project)
        return _access(deps, session, address.project, caller, lambda found: found.writer(address.kind, wanted))


def location(deps: Deps, reference: artifact.Address | artifact.Tagged, caller: auth.Caller) -> Access:
    """The store that holds an artifact. Raises NotFoundError, InvalidError for an external artifact or a store that hands out nothing."""
    with deps.store.read() as session:
        row = _row(session, reference)
        return _access(deps, session, row.project, caller, lambda found: found.holder(row, opens=True), row)


def page(deps: Deps, reference: artifact.Address | artifact.Tagged, caller: auth.Caller) -> tuple[str, str]:
    """The address of an artifact and the URL of its tool's page; that of an external one is its location.

    Raises NotFoundError, and PermanentError for a store without pages.
    """
    with deps.store.read() as session:
        row = _row(session, reference)
        if row.external:
            return row.address, row.location or ""
        access = _access(deps, session, row.project, caller, lambda found: found.holder(row, opens=False), row)
    return row.address, artifactstores.connect(access.connection).page(artifact.Address.parse(row.address))


def check_deleted(deps: Deps, row: artifacts.Artifact, caller: auth.Caller) -> str | None:
    """The moment at which retention had deleted the contents of an artifact that is stored again since; None for contents that were not deleted.

    Raises ConflictError for contents that were not stored again.
    """
    try:
        with deps.store.read() as session:
            deletion = removals.gone(session, row.address)
            if deletion is None or row.external or artifacts.find(session, row.address) is not None:
                return deletion
            access = _access(deps, session, row.project, caller, lambda found: found.holder(row, opens=False), row)
        artifactstores.connect(access.connection).describe(artifact.Address.parse(row.address))
    except (errors.NotFoundError, errors.UnresolvedError):
        raise errors.ConflictError(
            f"retention deleted the contents of {row.address} at {deletion}; push them again, then register it"
        ) from None
    return deletion


def _row(session: sqlmodel.Session, reference: artifact.Address | artifact.Tagged) -> artifacts.Artifact:
    address = artifact_names.tagged(session, reference) if isinstance(reference, artifact.Tagged) else str(reference)
    return artifacts.get(session, address)


def _access(
    deps: Deps,
    session: sqlmodel.Session,
    project: str,
    caller: auth.Caller,
    choose: Callable[[stores.ProjectStores], selector.Binding],
    row: artifacts.Artifact | None = None,
) -> Access:
    """The access by an external endpoint or, where there is none, by that for the control plane's own zone, such as a folder of a laptop."""

    def chosen(zone: str) -> selector.Binding:
        context = selector.Context(project=project, user=caller.name, zone=zone)
        return choose(stores.ProjectStores(session, context, deps.zone, artifactstores.facts))

    try:
        binding = chosen(_OUTSIDE)
    except errors.UnresolvedError:
        binding = chosen(deps.zone)
    connection = choice.connection(session, binding, deps.keyring.unseal, project)
    return Access(f"{binding.extension_id}/{binding.service_id}", connection, row)
