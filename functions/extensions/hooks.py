"""The webhook of a tracking server: its URL, and a secret that is shown once and replaced without losing a delivery."""

from __future__ import annotations

from functions.extensions.deps import Deps
from fuseml.contents import trackers
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.runtime import clock, secrets
from fuseml.store import extensions, webhooks

NAME = "fuseml"
"""The name of the webhook on the tracking server."""


class Webhook(document.Model):
    """The settings for the tracking server. `former_until` is the end of validity of the previous secret; `registered` means that FuseML has set
    the webhook up there.
    """

    url: str
    secret: str
    former_until: str | None = None
    registered: bool = False


def renew(deps: Deps, extension_id: str, *, rotate: bool, register: bool) -> Webhook:
    """The first secret of the tracking server or, with `rotate`, a new one; with `register`, the webhook is set up on the server.

    Raises NotFoundError; InvalidError if the record is no tracking server; ConflictError if there is a secret already; and the error of the
    server if the registration fails, in which case the previous secret stays valid.
    """
    if not deps.public_url:
        raise errors.PermanentError("missing settings: FUSEML_PUBLIC_URL, the address for deliveries of the tracking server")
    url = f"{deps.public_url.rstrip('/')}/webhooks/mlflow/{extension_id}"
    secret, until = secrets.new_webhook_secret(), clock.ahead(secrets.WEBHOOK_OVERLAP)
    with deps.store.write() as session:
        record = extensions.get(session, extension_id)
        if not any(service.resource == trackers.RESOURCE for service in record.services):
            raise errors.InvalidError(f"{extension_id} is no tracking server: none of its services has the resource {trackers.RESOURCE}")
        if not rotate and webhooks.of_tracker(session, extension_id, clock.now()):
            raise errors.ConflictError(f"{extension_id} has a webhook secret already, which is not shown again; rotate it to get a new one")
        replaced = webhooks.replace_of_tracker(session, extension_id, deps.keyring.seal(secret), until)
    if register:
        tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone, deps.tracking)
        if tracking is None:
            raise errors.PermanentError(f"no endpoint of {extension_id} can be reached from here; set the webhook up by hand")
        try:
            tracking.ensure_webhook(NAME, url, secret)
        except errors.FusemlError as error:
            raise type(error)(f"{error.message}; its present secret stays valid: try again, with rotation") from error
    return Webhook(url=url, secret=secret, former_until=until if replaced else None, registered=register)
