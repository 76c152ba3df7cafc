"""Use cases of `gitea_ingress`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Literal

from functions.gitea_ingress.deps import Deps
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, decisions, moves, webhooks
from fuseml.webhooks import claims, gitea, signatures, wire

_INGRESS = "gitea"
_CHUNK = 1 << 16
_IN_MEMORY = 1 << 20
# A body without the usual key of its repository is parsed before it is verified only if it is short.
_SHORT = 64 << 10
_POSITION = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_PING = "the git host only checks that the webhook of an organisation can be reached; its repositories are verified one by one"


@dataclasses.dataclass
class _Received:
    """A body on its way in: its bytes, in memory or a temporary file, its SHA-256, and its claims."""

    file: IO[bytes]
    size: int = 0
    digest: str = ""
    claims: claims.Claims = dataclasses.field(default_factory=claims.Claims)

    def parts(self) -> Iterator[bytes]:
        self.file.seek(0)
        return iter(lambda: self.file.read(_CHUNK), b"")


def receive(deps: Deps, headers: Mapping[str, str], stream: IO[bytes]) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, the reason why the delivery was ignored). A delivery without an event is recorded for `why`.

    The body is verified before it is parsed. Raises UnauthenticatedError alike for a missing or wrong signature and for a codeset that is
    not registered, so that a stranger cannot find out registered codesets; InvalidError for a body that is no delivery.
    """
    delivery = gitea.Delivery(id=gitea.delivery_id(headers))
    event: str | None
    ignored: str | None
    duplicate: str | None
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        received = _read(stream, _Received(file), gitea.MAX_BODY if gitea.is_signed(headers) else _SHORT)
        try:
            if received.size == _SHORT and not gitea.is_signed(headers):
                raise gitea.unsigned()
            delivery = _claimed(headers, received)
            if not delivery.project and delivery.event == "ping":
                event, ignored, duplicate = None, _PING, None
            else:
                delivery, row = _authenticate(deps, headers, received, delivery)
                event, ignored, duplicate = _publish(deps, delivery, row, received.digest)
        except errors.PermanentError as error:
            _decline(deps, delivery, "refused", error.message)
            raise
    if duplicate is not None:
        _decline(deps, delivery, "duplicate", duplicate)
    elif ignored is not None:
        _decline(deps, delivery, "ignored", ignored)
    return event, ignored


def _read(stream: IO[bytes], received: _Received, most: int) -> _Received:
    digest = hashlib.sha256()
    while received.size < most and (part := stream.read(min(_CHUNK, most - received.size))):
        received.file.write(part)
        received.size += len(part)
        digest.update(part)
        received.claims.feed(part)
    received.digest = digest.hexdigest()[:32]
    return received


def _claimed(headers: Mapping[str, str], received: _Received) -> gitea.Delivery:
    """The delivery as it describes itself. Raises InvalidError for a body that is no delivery."""
    if not received.claims.repositories and received.size <= _SHORT:
        return gitea.decode(headers, b"".join(received.parts()))
    project, codeset = received.claims.repositories[0] if received.claims.repositories else ("", "")
    return gitea.Delivery(id=gitea.delivery_id(headers), project=project, codeset=codeset, commit=received.claims.commit)


def _authenticate(
    deps: Deps, headers: Mapping[str, str], received: _Received, claimed: gitea.Delivery
) -> tuple[gitea.Delivery, codesets.Codeset]:
    """The decoded delivery and its codeset. Raises UnauthenticatedError, InvalidError."""
    if not claimed.project:
        raise errors.InvalidError("the body is not a webhook of a git host: it names no repository")
    # The claimed repository selects the secret; nothing else of the body is used before the signature is verified.
    names = received.claims.repositories or [(claimed.project, claimed.codeset)]
    refusal = errors.UnauthenticatedError(
        f"no webhook secret fits: {claimed.project}/{claimed.codeset} is not registered, or the signature is wrong"
    )
    for project, name in names:
        with deps.store.read() as session:
            row = codesets.find_codeset(session, project, name)
            sealed = webhooks.of_codeset(session, row, clock.now()) if row else []
        if row is None:
            continue
        try:
            secrets = [deps.keyring.unseal(each) for each in sealed]
            signatures.verify_any(secrets, lambda secret: gitea.verify(secret, headers, received.parts()))
        except errors.UnauthenticatedError as error:
            refusal = error
            continue
        delivery = claimed if claimed.data is not None else gitea.decode(headers, b"".join(received.parts()))
        if (delivery.project, delivery.codeset) == (project, name):
            return delivery, row
    raise refusal


def _publish(deps: Deps, delivery: gitea.Delivery, row: codesets.Codeset, digest: str) -> tuple[str | None, str | None, str | None]:
    """(Event id, reason why it was ignored, reason why it is a duplicate)."""
    push = gitea.read_push(delivery)
    now = clock.now()
    # The header is not signed: a long or odd id must not reach the id of an event.
    position = delivery.id if _POSITION.fullmatch(delivery.id) else hashlib.sha256(delivery.id.encode("utf-8", "replace")).hexdigest()[:32]
    if isinstance(push, wire.Ignored):
        if isinstance(push, gitea.Deleted):
            with deps.store.write() as session:
                moves.take_deletion(session, row, push.ref, push.before, position, now)
        return None, push.reason, None
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
        push=position,
    )
    with deps.store.write() as session:
        if push.default_branch != row.default_branch and (stored := codesets.find_codeset(session, row.project, row.name)):
            codesets.record_default_branch(session, stored, push.default_branch)
        taken = moves.take(session, row, payload, digest, now)
        enqueued = cloudevents.enqueue(session, *taken.published, cause=(f"/webhooks/{_INGRESS}", position))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    # A delivery that the sweep anticipated has no event of its own.
    return (events.event(payload, now).id, None, taken.duplicate) if taken.has_event else (None, taken.duplicate, taken.duplicate)


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
