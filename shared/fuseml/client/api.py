"""The client of one server: an attribute for each part of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fuseml.client import (
    applications,
    artifacts,
    codesets,
    events,
    extensions,
    identity_shapes,
    mirrors,
    pipelines,
    predictions,
    projects,
    resolve,
    retention,
    runnables,
    runs,
    settings,
    shapes,
    sources,
    transport,
    workflows,
)


class Client:
    """A client of one FuseML server. `url` may contain `{function}` where every function has its own address (Knative)."""

    def __init__(
        self, url: str, token: str | None = None, timeout: float = settings.DEFAULT_TIMEOUT, trace: Callable[[str], object] | None = None
    ) -> None:
        """`timeout` is in seconds, for each request. `trace` gets a line for each request and each response, without secrets and bodies.

        Raises InvalidError for an invalid URL.
        """
        self._transport = transport.Transport(url, token, timeout, trace)
        self.projects = projects.Projects(self._transport)
        self.codesets = codesets.Codesets(self._transport)
        self.workflows = workflows.Workflows(self._transport)
        self.runnables = runnables.Runnables(self._transport)
        self.pipelines = pipelines.Pipelines(self._transport)
        self.catalogs = pipelines.Catalogs(self._transport)
        self.sources = sources.Sources(self._transport)
        self.runs = runs.Runs(self._transport)
        self.applications = applications.Applications(self._transport)
        self.artifacts = artifacts.Artifacts(self._transport)
        self.retention = retention.Retention(self._transport)
        self.mirrors = mirrors.Mirrors(self._transport)
        self.events = events.Events(self._transport)
        self.extensions = extensions.Extensions(self._transport)
        self.resolver = resolve.Resolver(self._transport)
        self.predictions = predictions.Predictions(self._transport)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    @property
    def url(self) -> str:
        """The server's URL without a trailing slash; `{function}` is kept."""
        return self._transport.url

    @property
    def token(self) -> str | None:
        """The token that the server receives."""
        return self._transport.token

    def version(self) -> dict[str, object]:
        """The version of the server, as the server reports it."""
        return self._transport.get_object("/version")

    def whoami(self) -> identity_shapes.Identity:
        """The caller as the server sees it. Raises NotFoundError from a server of a former release."""
        return cast(identity_shapes.Identity, self._transport.get_object("/whoami"))

    def text_at(self, url: str) -> str:
        """The text at a URL outside the API, such as a tool's version page. The token is not sent to another host."""
        return self._transport.call("GET", url, headers={"Accept": "text/plain"}).body.decode("utf-8", "replace")

    def readiness(self) -> shapes.Readiness:
        """The readiness of the server and its components. A server that is not ready (status 503) is a result, not an error."""
        response = self._transport.send("GET", "/readyz", expected=(200, 503))
        return cast(shapes.Readiness, transport.object_of(response))
