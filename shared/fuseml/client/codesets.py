"""Codesets: git repositories of ML code. `fuseml.client.git` pushes to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fuseml.client import shapes, transport


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
