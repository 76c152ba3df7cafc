"""Projects: tenants that own codesets, runs and artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fuseml.client import shapes, transport
from fuseml.domain import errors


class Projects:
    """`/projects`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, limit: int | None = None) -> Iterator[shapes.Project]:
        """All projects."""
        return cast(Iterator[shapes.Project], self._http.pages("/projects", limit=limit))

    def create(self, name: str, description: str = "") -> shapes.Project:
        """Create a project. Raises ConflictError when the name is taken."""
        return cast(shapes.Project, self._http.change("POST", "/projects", query={"name": name, "description": description}))

    def get(self, name: str) -> shapes.Project:
        """The project of that name. Raises NotFoundError."""
        return cast(shapes.Project, self._http.get_object(transport.address("projects", name)))

    def only(self) -> str:
        """The name of the project, where there is one. Raises InvalidError where there are several or none."""
        names = [project["name"] for project in self.list()]
        if len(names) != 1:
            raise errors.InvalidError(f"name the project; {'there are ' + ', '.join(names[:5]) if names else 'there is none yet'}")
        return names[0]

    def delete(self, name: str) -> None:
        """Delete a project. Raises ConflictError while it has codesets."""
        self._http.change("DELETE", transport.address("projects", name))
