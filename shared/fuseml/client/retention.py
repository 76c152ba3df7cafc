"""Retention of artifacts: the policies of projects, and the removal of what they do not keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fuseml.client import retention_shapes, transport

BATCH = 100
"""The most artifacts of one call of `prune`."""


class Retention:
    """`/artifacts/retention` and `/artifacts/prune`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def policies(self, project: str = "", kind: str = "") -> list[retention_shapes.RetentionPolicy]:
        """The policies, by kind and project."""
        query = {"project": project or None, "kind": kind or None}
        return cast(list[retention_shapes.RetentionPolicy], list(self._http.pages("/artifacts/retention", query, None)))

    def set(self, project: str, kind: str, *, newest: int | None = None, days: int | None = None) -> retention_shapes.RetentionPolicy:
        """Set the policy of a kind of a project. Raises NotFoundError for an unknown project, InvalidError without a number."""
        path, numbers = transport.address("artifacts", "retention", project, kind), {"newest": newest, "days": days}
        return cast(retention_shapes.RetentionPolicy, self._http.change("PUT", path, document=dict(numbers)))

    def remove(self, project: str, kind: str) -> None:
        """Remove the policy of a kind of a project. Raises NotFoundError without one."""
        self._http.change("DELETE", transport.address("artifacts", "retention", project, kind))

    def fates(
        self, project: str = "", kind: str = "", *, kept: bool = False, newest: int | None = None, days: int | None = None
    ) -> Iterator[retention_shapes.Fate]:
        """The artifacts that go now, by kind, project and address; with `kept` all that are under a policy.

        `newest` and `days` ask about a policy of the project and kind that is not set.
        """
        query = {"project": project or None, "kind": kind or None, "kept": "true" if kept else None, "newest": newest, "days": days}
        return cast(Iterator[retention_shapes.Fate], self._http.pages("/artifacts/prune", query, None))

    def prune(self, addresses: Sequence[str]) -> list[retention_shapes.Fate]:
        """Remove those of at most `BATCH` artifacts that go as they are now; the fate of each."""
        answer = self._http.change("POST", "/artifacts/prune", document={"addresses": list(addresses)})
        return cast(retention_shapes.Fates, answer)["fates"]
