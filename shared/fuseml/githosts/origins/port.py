"""The port of origins: what FuseML asks of the host of a repository that a codeset is a copy of.

Code is read over git's own protocol (`copying`), alike for all of them. Pull requests, comments and environments are further methods
here once something uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fuseml.domain import commit_statuses


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of the account: to read the repository, to manage its webhooks, to set commit statuses. `account` says that there is one."""

    account: bool
    read: bool
    webhooks: bool
    statuses: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook of the repository as the host describes it. `problem` is what the host says about failing deliveries."""

    id: str
    url: str
    active: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What a person enters for a webhook at the host: the name of the secret's field, the events, and the content type."""

    secret: str
    events: Sequence[str]
    content_type: Literal["application/json"] = "application/json"


class OriginHost(Protocol):
    """The API of one repository's host, with the account of the registered service.

    Every method raises TemporaryError while the host does not answer, PermanentError where it refuses the account, and NotFoundError for a
    repository that does not exist or that the account may not see.
    """

    form: Form

    def access(self) -> Access:
        """The rights of the account."""

    def webhooks(self) -> list[Webhook]:
        """The webhooks of the repository."""

    def add_webhook(self, url: str, secret: str) -> None:
        """Create a webhook that delivers pushes, tags and pull requests as JSON to `url`, with `secret` as the host proves its deliveries."""

    def remove_webhook(self, id: str) -> None:
        """Delete a webhook; a missing one is no error."""

    def set_status(self, commit: str, status: commit_statuses.Status) -> None:
        """Show a status at a commit, in place of the one with the same context. Raises InvalidError for one that the host refuses."""
