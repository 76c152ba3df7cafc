"""Removal of previews: an application that serves a ref ends when the ref is deleted (domain.workflows.deployment)."""

from __future__ import annotations

import logging

from functions.housekeeper.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.workflows import deployment
from fuseml.store import applications, codesets

_log = logging.getLogger("fuseml.housekeeper")


def remove_previews(deps: Deps, _tick: events.Event) -> None:
    """Stop and delete the previews of refs that the git host no longer has, and of codesets that are no longer registered."""
    with deps.store.read() as session:
        previews = [row for row in applications.all_applications(session) if row.document.get("preview")]
        owners = {(row.document.get("project") or "", row.document.get("codeset") or "") for row in previews}
        registered = {owner for owner in owners if codesets.find_codeset(session, *owner)}
    current: dict[tuple[str, str], set[str]] = {owner: set() for owner in owners}
    for owner in registered:
        try:
            current[owner] = {deployment.preview_name(ref) for ref in deps.git.heads(*owner)}
        except errors.NotFoundError:
            continue  # the repository is gone, and its refs with it
        except errors.FusemlError as error:
            _log.warning("the previews of %s/%s are checked again with the next tick: %s", *owner, error.message)
            del current[owner]
    for row in previews:
        owner = (row.document.get("project") or "", row.document.get("codeset") or "")
        if owner in current and row.document["preview"] not in current[owner]:
            _remove(deps, row)


def _remove(deps: Deps, row: applications.Application) -> None:
    serving = deps.serving.get(row.document.get("served_by") or "")
    if serving is not None:
        serving.remove(row.name)
    with deps.store.write() as session:
        stored = applications.find(session, row.name)
        # A push may have registered it again meanwhile.
        if stored is not None and stored.revision == row.revision:
            applications.delete(session, row.name)
            _log.info("the preview %s was removed: its ref was deleted", row.name)
