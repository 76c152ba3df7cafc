"""The model servers of this process as a serving."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fuseml.embedded import model_servers
from fuseml.servings import ServingSpec, Status


class EmbeddedServing:
    """Model servers read the records with every request and periodically, so that a change needs no call."""

    splits = False

    def __init__(self, apps: model_servers.ModelServers, url: str) -> None:
        self._apps, self._url = apps, url

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`."""

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        self._apps.forget(name)

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`. An idle application is ready: its first request starts it."""
        condition = self._apps.status(spec.name)
        (revision,) = spec.traffic
        url = f"{self._url}/apps/{spec.name}"
        if condition.failed is not None:
            return Status("failed", condition.failed, url, {condition.serving: 100} if condition.serving else {})
        if condition.serving not in (None, revision):
            return Status(
                "starting",
                f"revision {condition.serving} serves until the next request has started the new one",
                url,
                {condition.serving: 100},
            )
        return Status("ready", "", url, {revision: 100})

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`."""
        return [revision.number for revision in spec.revisions]

    def reconcile(self, spec: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
