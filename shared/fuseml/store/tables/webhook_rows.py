"""How webhooks are signed, where that is not told by the codeset's own row."""

from __future__ import annotations

from sqlmodel import Field

from fuseml.store.tables import columns


class TrackerWebhook(columns.Row, table=True):
    """How a tracking server signs its webhooks; `extension` is the id under which they come in, registered or not yet. Sealed."""

    __tablename__ = "tracker_webhook"

    extension: str = Field(primary_key=True)
    secret: str


class FormerSecret(columns.Row, table=True):
    """A webhook secret that was replaced and is good until a moment, because who signs with it may not know yet. Sealed."""

    __tablename__ = "former_secret"

    sequence: int | None = Field(default=None, primary_key=True)
    owner: str = Field(index=True)
    secret: str
    until: str = Field(index=True)
