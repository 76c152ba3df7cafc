"""Documents of the API about copies of repositories elsewhere, and commit statuses."""

from __future__ import annotations

from typing import TypedDict

from fuseml.client.shapes import Codeset


class Webhook(TypedDict):
    """The webhook of an origin: its address, the fields of the host's form, its state, and the problem with it."""

    url: str
    state: str
    problem: str
    content_type: str
    secret_field: str
    events: list[str]


class NewWebhook(Webhook):
    """A webhook that was set up, or, with a `secret`, that a person must enter."""

    secret: str


class CopyRegistration(TypedDict):
    """A codeset that follows a repository elsewhere, and the webhook there."""

    codeset: Codeset
    webhook: NewWebhook


class Access(TypedDict):
    """The rights of the account at the origin's host."""

    read: bool
    webhooks: bool
    statuses: bool
    problem: str


class OriginStatus(TypedDict):
    """The repository elsewhere that a codeset follows; times are empty before the first time."""

    url: str
    host: str
    vcs: str
    synced: str
    checked: str
    due: str
    problem: str
    delivered: str
    delivery: str
    refused: str
    refusal: str


class CommitStatus(TypedDict):
    """A commit status: `sent` once the git host has it."""

    context: str
    commit: str
    run: str
    state: str
    description: str
    sent: bool
    problem: str
    updated: str


class CodesetStatus(TypedDict):
    """What is set up for a codeset, and, in `missing`, what is not."""

    name: str
    project: str
    url: str
    origin: OriginStatus | None
    webhook: Webhook | None
    access: Access | None
    statuses: list[CommitStatus]
    missing: list[str]
