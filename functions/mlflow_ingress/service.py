"""Use cases of `mlflow_ingress`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from functions.mlflow_ingress.deps import Deps
from fuseml.contents import trackers
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import decisions, deliveries, extensions, model_versions, webhooks
from fuseml.webhooks import mlflow, signatures, wire

_INGRESS = "mlflow"


def receive(deps: Deps, extension: str, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, the reason why the delivery was ignored). A delivery without an event is recorded for `why`.

    Raises UnauthenticatedError for a missing, wrong or stale signature, InvalidError for a body that is no delivery,
    TemporaryError while the tracking server does not answer: MLflow tries again.
    """
    try:
        event, ignored = _publish(deps, extension, headers, body)
    except errors.PermanentError as error:
        _decline(deps, extension, headers, "refused", error.message)
        raise
    if ignored is not None:
        _decline(deps, extension, headers, "ignored", ignored)
    return event, ignored


def _publish(deps: Deps, extension: str, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    with deps.store.read() as session:
        sealed = webhooks.of_tracker(session, extension, clock.now())
    if not sealed:
        raise errors.UnauthenticatedError(f"no webhook of {extension} is known; `fuseml extension webhook {extension}` creates its secret")
    signatures.verify_any([deps.keyring.unseal(each) for each in sealed], lambda secret: mlflow.verify(secret, headers, body, deps.now()))
    change = mlflow.parse(headers, body)
    if isinstance(change, wire.Ignored):
        return None, change.reason
    if change.test:
        return None, "a test delivery: signature and age are right"
    payload = _payload(deps, extension, change)
    if payload is None:
        return None, f"{change.kind} starts nothing"
    event = events.event(payload, clock.now())
    with deps.store.write() as session:
        duplicate = deliveries.is_known(session, event)
        if isinstance(payload, events.ModelRegistered):
            model_versions.record_published(session, extension, payload.name, payload.version)
        enqueued = cloudevents.enqueue(session, payload, cause=(f"/webhooks/{_INGRESS}/{extension}", change.delivery_id))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    if duplicate:
        _decline(deps, extension, headers, "duplicate", f"this change was delivered before: event {event.id}")
    return event.id, None


def _decline(
    deps: Deps, extension: str, headers: Mapping[str, str], outcome: Literal["refused", "ignored", "duplicate"], reason: str
) -> None:
    with deps.store.write() as session:
        decisions.decline(
            session,
            clock.now(),
            ingress=_INGRESS,
            subject=extension,
            registered=extensions.is_known(session, extension),
            delivery=mlflow.delivery_id(headers),
            outcome=outcome,
            reason=reason,
        )


def _payload(deps: Deps, extension: str, change: mlflow.RegistryEvent) -> events.Payload | None:
    match change.kind:
        case "model_version.created" if change.version:
            run_id, tags = _enrich(deps, extension, change)
            return events.ModelRegistered(
                extension=extension, name=change.name, version=change.version, model_source=change.source, run_id=run_id, tags=tags
            )
        case "model_version_tag.set" | "model_version_tag.deleted" if change.version and change.key:
            return events.ModelTagged(
                extension=extension,
                name=change.name,
                version=change.version,
                key=change.key,
                value=change.value,
                delivery=change.delivery_id,
            )
        case "model_version_alias.created" | "model_version_alias.deleted" if change.alias:
            return events.ModelAliased(
                extension=extension, name=change.name, alias=change.alias, version=change.version, delivery=change.delivery_id
            )
        case _:
            return None


def _enrich(deps: Deps, extension: str, change: mlflow.RegistryEvent) -> tuple[str | None, dict[str, str]]:
    """Run id and tags of the version and of its run; those of the delivery if the server is not registered."""
    with deps.store.read() as session:
        record = extensions.get(session, extension) if extensions.is_known(session, extension) else None
    tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone, deps.tracking) if record else None
    if tracking is None:
        return change.run_id, dict(change.tags)
    version = tracking.model_version(change.name, change.version or "")
    return tracking.origin(dataclasses.replace(version, run_id=version.run_id or change.run_id))
