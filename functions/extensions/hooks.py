"""The webhook of a tracking server: its address here, and a secret that is shown once and can be replaced without losing a delivery."""

from __future__ import annotations

from functions.extensions.deps import Deps
from fuseml.contents import trackers
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.runtime import clock, secrets
from fuseml.store import extensions, webhooks

NAME = "fuseml"
"""How the webhook is called on the tracking server."""


class Webhook(document.Model):
    """What to set up on the tracking server. `former_until`: how long the secret before is accepted; `registered`: the server was told."""

    url: str
    secret: str
    former_until: str | None = None
    registered: bool = False


def renew(deps: Deps, extension_id: str, *, rotate: bool, register: bool) -> Webhook:
    """The server's first secret or, if `rotate`, another one; if `register`, the server itself is told.

    Raises NotFoundError, InvalidError for a record that is no tracking server, ConflictError where there is a secret already, and, when the
    server could not be told, what kept us from it: the secret before stays good.
    """
    if not deps.public_url:
        raise errors.PermanentError("missing settings: FUSEML_PUBLIC_URL, the address that the tracking server delivers to")
    url = f"{deps.public_url.rstrip('/')}/webhooks/mlflow/{extension_id}"
    secret, until = secrets.new_webhook_secret(), clock.ahead(secrets.WEBHOOK_OVERLAP)
    with deps.store.write() as session:
        record = extensions.get(session, extension_id)
        if not any(service.resource == trackers.RESOURCE for service in record.services):
            raise errors.InvalidError(f"{extension_id} is no tracking server: it has no service with the resource {trackers.RESOURCE}")
        if not rotate and webhooks.of_tracker(session, extension_id, clock.now()):
            raise errors.ConflictError(f"{extension_id} has a webhook secret, which is not shown again; rotate it to get another one")
        replaced = webhooks.replace_of_tracker(session, extension_id, deps.keyring.seal(secret), until)
    if register:
        tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone)
        if tracking is None:
            raise errors.PermanentError(f"no endpoint of {extension_id} can be reached from here; set the webhook up by hand")
        try:
            tracking.ensure_webhook(NAME, url, secret)
        except errors.FusemlError as error:
            raise type(error)(f"{error.message}; the secret that it signs with stays good: try again, with rotation") from error
    return Webhook(url=url, secret=secret, former_until=until if replaced else None, registered=register)
