"""The model servers of this process as a serving."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fuseml.domain import errors
from fuseml.domain import model_servers as rules
from fuseml.embedded import model_servers
from fuseml.servings import ServingSpec, Status


class EmbeddedServing:
    """The model servers read the records themselves, with every request and periodically, so `reconcile` has no work."""

    splits = False
    servers: Collection[rules.Server] = rules.EMBEDDED

    def __init__(self, apps: model_servers.ModelServers, url: str) -> None:
        self._apps, self._url = apps, url

    def check(self, spec: ServingSpec) -> None:
        """See `Serving.check`."""
        if len(spec.traffic) > 1:
            raise errors.InvalidError(
                "requests cannot be split here: the embedded server serves one revision at a time; give 100 percent to one of them"
            )

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`. Replaces the revision that answers. Without one, the first request starts the application."""
        self._apps.replace(spec.name, at_once=True)

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        self._apps.forget(name)

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`. An idle application is ready: its first request starts it."""
        revision = max(spec.traffic, key=lambda number: (spec.traffic[number], number))
        state = self._apps.observe(spec.name, revision)
        url = f"{self._url}/apps/{spec.name}"
        answering = {state.serving: 100} if state.serving else {}
        if state.failed is not None:
            return Status("failed", state.failed, url, answering)
        if state.serving not in (None, revision):
            return Status("starting", f"revision {state.serving} answers until revision {revision} has started", url, answering)
        if state.serving is None and state.starting is not None:
            return Status("starting", f"no revision answers until revision {revision} has started", url, answering)
        return Status("ready", "", url, {revision: 100})

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """See `Serving.statuses`."""
        return {spec.name: self.status(spec) for spec in specs}

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`."""
        return [revision.number for revision in spec.revisions]

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
