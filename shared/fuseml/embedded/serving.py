"""The model servers of this process as a serving."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fuseml.embedded import model_servers
from fuseml.servings import ServingSpec as Wanted
from fuseml.servings import Status


class EmbeddedServing:
    """Model servers look at the records themselves, with every request and from time to time: there is nothing to tell them."""

    splits = False

    def __init__(self, apps: model_servers.ModelServers, url: str) -> None:
        self._apps, self._url = apps, url

    def apply(self, wanted: Wanted) -> None:
        """See `Serving.apply`."""

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        self._apps.forget(name)

    def status(self, wanted: Wanted) -> Status:
        """See `Serving.status`. An application that nobody asks is ready: its first request starts it."""
        told = self._apps.status(wanted.name)
        (revision,) = wanted.traffic
        url = f"{self._url}/apps/{wanted.name}"
        if told.failed is not None:
            return Status("failed", told.failed, url, {told.serving: 100} if told.serving else {})
        if told.serving not in (None, revision):
            return Status("starting", f"revision {told.serving} goes on until the next request has started it", url, {told.serving: 100})
        return Status("ready", "", url, {revision: 100})

    def servable(self, wanted: Wanted) -> Collection[int]:
        """See `Serving.servable`."""
        return [revision.number for revision in wanted.revisions]

    def reconcile(self, wanted: Sequence[Wanted]) -> None:
        """See `Serving.reconcile`."""
