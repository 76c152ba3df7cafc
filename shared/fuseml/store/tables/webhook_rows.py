"""Webhook secrets beside those of the codesets' own rows."""

from __future__ import annotations

from sqlmodel import Field

from fuseml.store.tables import columns


class TrackerWebhook(columns.Row, table=True):
    """The secret of a tracking server's webhooks, sealed; `extension` is the id in their path, registered or not yet."""

    __tablename__ = "tracker_webhook"

    extension: str = Field(primary_key=True)
    secret: str


class FormerSecret(columns.Row, table=True):
    """A replaced webhook secret, sealed. It stays valid for a while, because the sender may not have the new one yet."""

    __tablename__ = "former_secret"

    sequence: int | None = Field(default=None, primary_key=True)
    owner: str = Field(index=True)
    secret: str
    until: str = Field(index=True)
