"""Use cases of `gitea_ingress`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fuseml.domain import errors, events, webhook
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets

if TYPE_CHECKING:
    from functions.gitea_ingress.app import Deps


def receive(deps: Deps, headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, why the delivery was ignored).

    Raises UnauthenticatedError for a missing or wrong signature and for codesets that are not registered, which a stranger cannot
    tell apart; InvalidError for a body that is no delivery.
    """
    project, codeset = _repository(body)
    with deps.store.read() as session:
        row = codesets.find_codeset(session, project, codeset)
    if row is None:
        raise errors.UnauthenticatedError(f"no webhook secret fits: {project}/{codeset} is not registered, or the signature is wrong")
    webhook.verify_gitea(deps.keyring.unseal(row.webhook_secret), headers, body)
    push = webhook.parse_push(headers, body)
    if isinstance(push, webhook.Ignored):
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
    with deps.store.write() as session:
        codesets.announce(session, row, push.ref, push.commit, clock.now())
        cloudevents.announce(session, payload)
    cloudevents.relay(deps.store, deps.publisher)
    return events.event(payload, "").id, None


def _repository(body: bytes) -> tuple[str, str]:
    # Only to find the secret: nothing of the body is believed before the signature is checked.
    try:
        repository = json.loads(body)["repository"]
        owner = repository["owner"]
        return str(owner.get("login") or owner.get("username") or owner["name"]), str(repository["name"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise errors.InvalidError("the body is not a webhook of a git host: it names no repository") from error
