"""Receivers of what FuseML exports, outside of it."""

from __future__ import annotations

from fuseml.exports.openlineage import Receiver
from fuseml.runtime.settings import Settings


def connect(settings: Settings) -> Receiver | None:
    """The OpenLineage endpoint of the settings; None without one. Raises PermanentError for a wrong address. Connects at its first use."""
    return Receiver(settings.openlineage_url, settings.openlineage_token) if settings.openlineage_url else None
