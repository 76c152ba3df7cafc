"""Use cases of `gitea_ingress`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

from functions.gitea_ingress.deps import Deps
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, decisions, deliveries, webhooks
from fuseml.webhooks import gitea, signatures, wire

_INGRESS = "gitea"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def receive(deps: Deps, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, why the delivery was ignored). What becomes no event is remembered, for `why`.

    Raises UnauthenticatedError for a missing or wrong signature and for codesets that are not registered, which a stranger cannot
    tell apart; InvalidError for a body that is no delivery.
    """
    try:
        event, ignored = _take(deps, headers, body)
    except errors.PermanentError as error:
        _decline(deps, headers, body, "refused", error.message)
        raise
    if ignored is not None:
        _decline(deps, headers, body, "ignored", ignored)
    return event, ignored


def _take(deps: Deps, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    project, codeset = gitea.claimed_repository(headers, body)
    with deps.store.read() as session:
        row = codesets.find_codeset(session, project, codeset)
        sealed = webhooks.of_codeset(session, row, clock.now()) if row else []
    if row is None:
        raise errors.UnauthenticatedError(f"no webhook secret fits: {project}/{codeset} is not registered, or the signature is wrong")
    signatures.verify_any([deps.keyring.unseal(each) for each in sealed], lambda secret: gitea.verify(secret, headers, body))
    push = gitea.parse_push(headers, body)
    if isinstance(push, wire.Ignored):
        return None, push.reason
    payload = events.CodesetPushed(
        project=project,
        codeset=codeset,
        ref=push.ref,
        before=push.before,
        commit=push.commit,
        paths=list(push.paths) if push.paths is not None else None,
        message=push.message,
        pusher=push.pusher,
        registered=row.created,
    )
    event = events.event(payload, clock.now())
    with deps.store.write() as session:
        known = deliveries.is_known(session, event)
        codesets.announce(session, row, push.ref, push.commit, event.time)
        announced = cloudevents.enqueue(session, payload, cause=(f"/webhooks/{_INGRESS}", push.delivery_id))
    cloudevents.relay(deps.store, deps.publisher, announced)
    if known:
        _decline(deps, headers, body, "duplicate", f"this push was told before: event {event.id}")
    return event.id, None


def _decline(deps: Deps, headers: Mapping[str, str], body: bytes, outcome: Literal["refused", "ignored", "duplicate"], reason: str) -> None:
    try:
        project, codeset = gitea.claimed_repository(headers, body)
    except errors.InvalidError:
        project, codeset = "", ""
    with deps.store.write() as session:
        decisions.decline(
            session,
            clock.now(),
            ingress=_INGRESS,
            subject=f"{project}/{codeset}" if project else "",
            registered=codesets.find_codeset(session, project, codeset) is not None,
            delivery=gitea.delivery_id(headers),
            outcome=outcome,
            reason=reason,
            commit=_commit(body) if project else None,
        )


def _commit(body: bytes) -> str | None:
    """The commit that the delivery claims to be about."""
    claimed = json.loads(body).get("after")
    return claimed if isinstance(claimed, str) and _COMMIT.fullmatch(claimed) else None
