"""One object for the whole API of a server, one attribute for each concept."""

from __future__ import annotations

from typing import cast

from fuseml.client import (
    applications,
    artifacts,
    codesets,
    events,
    extensions,
    predictions,
    projects,
    resolve,
    runs,
    shapes,
    transport,
    workflows,
)

DEFAULT_TIMEOUT = 30.0


class Client:
    """One FuseML server. `url` may hold `{function}` where every function has an address of its own (Knative)."""

    def __init__(self, url: str, token: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`timeout` is in seconds, for each request. Raises InvalidError for a URL that is none."""
        self._transport = transport.Transport(url, token, timeout)
        self.projects = projects.Projects(self._transport)
        self.codesets = codesets.Codesets(self._transport)
        self.workflows = workflows.Workflows(self._transport)
        self.runs = runs.Runs(self._transport)
        self.applications = applications.Applications(self._transport)
        self.artifacts = artifacts.Artifacts(self._transport)
        self.events = events.Events(self._transport)
        self.extensions = extensions.Extensions(self._transport)
        self.resolver = resolve.Resolver(self._transport)
        self.predictions = predictions.Predictions(self._transport)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    @property
    def url(self) -> str:
        """The server's address without a trailing slash, `{function}` unresolved."""
        return self._transport.url

    def version(self) -> dict[str, object]:
        """What the server says about its build."""
        return self._transport.get_object("/version")

    def text_at(self, url: str) -> str:
        """The text at an address outside the API, such as a tool's version page; the token is not sent there."""
        return self._transport.call("GET", url, headers={"Accept": "text/plain"}).body.decode("utf-8", "replace")

    def readiness(self) -> shapes.Readiness:
        """`GET /readyz`: also an answer when the server is not ready yet, which is news and no error."""
        answer = self._transport.send("GET", "/readyz", expected=(200, 503))
        return cast(shapes.Readiness, transport.object_of(answer))
