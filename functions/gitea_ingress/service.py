"""Use cases of `gitea_ingress`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from functions.gitea_ingress.deps import Deps
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, decisions, deliveries, webhooks
from fuseml.webhooks import gitea, signatures, wire

_INGRESS = "gitea"


def receive(deps: Deps, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, the reason why the delivery was ignored). A delivery without an event is recorded for `why`.

    Raises UnauthenticatedError alike for a missing or wrong signature and for a codeset that is not registered, so that a stranger
    cannot find out registered codesets; InvalidError for a body that is no delivery.
    """
    delivery = gitea.Delivery(id=gitea.delivery_id(headers))
    try:
        delivery = gitea.decode(headers, body)
        event, ignored = _publish(deps, delivery, lambda secret: gitea.verify(secret, headers, body))
    except errors.PermanentError as error:
        _decline(deps, delivery, "refused", error.message)
        raise
    if ignored is not None:
        _decline(deps, delivery, "ignored", ignored)
    return event, ignored


def _publish(deps: Deps, delivery: gitea.Delivery, verify: Callable[[str], None]) -> tuple[str | None, str | None]:
    if not delivery.project:
        raise errors.InvalidError("the body is not a webhook of a git host: it names no repository")
    # The claimed repository selects the secret; nothing else of the body is used before the signature is verified.
    with deps.store.read() as session:
        row = codesets.find_codeset(session, delivery.project, delivery.codeset)
        sealed = webhooks.of_codeset(session, row, clock.now()) if row else []
    if row is None:
        raise errors.UnauthenticatedError(
            f"no webhook secret fits: {delivery.project}/{delivery.codeset} is not registered, or the signature is wrong"
        )
    signatures.verify_any([deps.keyring.unseal(each) for each in sealed], verify)
    push = gitea.read_push(delivery)
    if isinstance(push, wire.Ignored):
        return None, push.reason
    payload = events.CodesetPushed(
        project=row.project,
        codeset=row.name,
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
        duplicate = deliveries.is_known(session, event)
        codesets.record_commit(session, row, push.ref, push.commit, event.time)
        enqueued = cloudevents.enqueue(session, payload, cause=(f"/webhooks/{_INGRESS}", push.delivery_id))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    if duplicate:
        _decline(deps, delivery, "duplicate", f"this push was delivered before: event {event.id}")
    return event.id, None


def _decline(deps: Deps, delivery: gitea.Delivery, outcome: Literal["refused", "ignored", "duplicate"], reason: str) -> None:
    with deps.store.write() as session:
        decisions.decline(
            session,
            clock.now(),
            ingress=_INGRESS,
            subject=f"{delivery.project}/{delivery.codeset}" if delivery.project else "",
            registered=codesets.find_codeset(session, delivery.project, delivery.codeset) is not None,
            delivery=delivery.id,
            outcome=outcome,
            reason=reason,
            commit=delivery.commit if delivery.project else None,
        )
