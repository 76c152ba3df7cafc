"""Applications: services that runs create, such as predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from fuseml.client import application_shapes, transport
from fuseml.domain import errors

INTERVAL = 0.2
"""Seconds between two looks at an application that is starting."""


class Applications:
    """`/applications`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(
        self, type: str | None = None, workflow: str | None = None, limit: int | None = None
    ) -> Iterator[application_shapes.Application]:
        """Applications, filtered by type and workflow."""
        return cast(
            Iterator[application_shapes.Application], self._http.pages("/applications", {"type": type, "workflow": workflow}, limit)
        )

    def get(self, name: str) -> application_shapes.Application:
        """The application of that name. Raises NotFoundError."""
        return cast(application_shapes.Application, self._http.get_object(transport.address("applications", name)))

    def apply(self, application: application_shapes.ApplicationSpec) -> application_shapes.Application:
        """Create the application, or replace the application of the same name."""
        document = cast(dict[str, object], application)
        return cast(application_shapes.Application, self._http.change("POST", "/applications", document=document))

    def route(self, name: str, traffic: Mapping[str, int]) -> application_shapes.Application:
        """Split the requests among revisions: percent by revision number, `current` or `previous`."""
        address = transport.address("applications", name, "traffic")
        return cast(application_shapes.Application, self._http.change("PUT", address, document={"traffic": dict(traffic)}))

    def publish(self, name: str, *, public: bool) -> application_shapes.Application:
        """Open the application to every caller that reaches its address, or close it."""
        address = transport.address("applications", name, "visibility")
        return cast(application_shapes.Application, self._http.change("PUT", address, document={"public": public}))

    def roll_back(self, name: str) -> application_shapes.Application:
        """Send all requests to the previous revision."""
        return cast(application_shapes.Application, self._http.change("POST", transport.address("applications", name, "rollback")))

    def watch(
        self,
        name: str,
        timeout: float,
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[application_shapes.Application]:
        """The application at each interval while it is starting; the last item is ready, failed or not served by FuseML.

        Retries while the server is unreachable. Raises TemporaryError after `timeout` seconds.
        """
        end = clock() + timeout
        while True:
            try:
                application = self.get(name)
            except errors.TemporaryError:
                if clock() >= end:
                    raise
            else:
                yield application
                if application.get("status") != "starting":
                    return
                if clock() >= end:
                    cause = application.get("cause") or "it is starting"
                    raise errors.TemporaryError(f"application {name!r} is not ready after {timeout:g} s: {cause}")
            sleep(interval)

    def delete(self, name: str) -> None:
        """Stop serving the application and delete it."""
        self._http.change("DELETE", transport.address("applications", name))
