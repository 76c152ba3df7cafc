"""Codesets: git repositories of ML code. `fuseml.client.git` pushes to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fuseml.client import codeset_shapes, shapes, transport


class Codesets:
    """`/codesets`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, project: str | None = None, label: str | None = None, limit: int | None = None) -> Iterator[shapes.Codeset]:
        """Codesets, filtered by project and label."""
        return cast(Iterator[shapes.Codeset], self._http.pages("/codesets", {"project": project, "label": label}, limit))

    def register(self, project: str, name: str, description: str = "", labels: Sequence[str] = ()) -> shapes.Registration:
        """Create the codeset and its project if they do not exist; the result has the URL and the credentials for pushing."""
        query = {"name": name, "project": project, "description": description, "labels": labels}
        return cast(shapes.Registration, self._http.change("POST", "/codesets", query=query))

    def register_copy(
        self, project: str, name: str, url: str, *, description: str = "", labels: Sequence[str] = (), host: str = "", vcs: str = ""
    ) -> codeset_shapes.CopyRegistration:
        """Register a codeset that follows the repository at `url`; a second call sets its webhook up again. `host` is the product of its host,
        `vcs` the EXTENSION/SERVICE with the account; by default both follow from the address. Raises InvalidError, ConflictError.
        """
        query = {"url": url, "description": description, "labels": labels, "host": host, "vcs": vcs}
        address = transport.address("codesets", project, name, "origin")
        return cast(codeset_shapes.CopyRegistration, self._http.change("POST", address, query=query))

    def status(self, project: str, name: str) -> codeset_shapes.CodesetStatus:
        """What is set up for the codeset, and what is missing; the host of its origin is asked now. Raises NotFoundError."""
        return cast(codeset_shapes.CodesetStatus, self._http.get_object(transport.address("codesets", project, name, "status")))

    def get(self, project: str, name: str) -> shapes.Codeset:
        """The codeset of that name. Raises NotFoundError."""
        return cast(shapes.Codeset, self._http.get_object(transport.address("codesets", project, name)))

    def rotate_webhook(self, project: str, name: str, *, revoke: bool = False) -> shapes.WebhookSecret:
        """Replace the secret that signs the codeset's webhooks, here and at the git host; with `revoke`, former ones end now. Raises
        NotFoundError.
        """
        address, query = transport.address("codesets", project, name, "webhook"), {"revoke": "true"} if revoke else {}
        return cast(shapes.WebhookSecret, self._http.change("POST", address, query=query))

    def rotate_password(self, project: str, name: str) -> shapes.Registration:
        """Replace the password with which git reads and pushes the codeset; the former one ends. Raises NotFoundError."""
        return cast(shapes.Registration, self._http.change("POST", transport.address("codesets", project, name, "password")))

    def delete(self, project: str, name: str) -> None:
        """Delete the repository and its assignments, and cancel its active runs; finished runs and artifacts stay."""
        self._http.change("DELETE", transport.address("codesets", project, name))
