"""Discovery of the tools at given URLs. New records are registered by the same use case as any other.

The requests come from the server's network, so discovery is for administrators only, like all routes of this function. A response reveals
no more about a server than product and version.
"""

from __future__ import annotations

import functools
from typing import Annotated

import pydantic

from functions.extensions import service
from functions.extensions.deps import Deps
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.probes import discovery, targets
from fuseml.probes.targets import Target
from fuseml.store import extensions


def _check_url(url: str) -> str:
    try:
        has_user = "@" in targets.parse(url).netloc
    except errors.InvalidError as error:
        raise ValueError(error.message) from None
    if has_user:
        raise ValueError("must not hold a user or a password; register credentials with the record")
    return url


_Url = Annotated[str, pydantic.Field(max_length=200), pydantic.AfterValidator(_check_url)]


class Search(document.Model):
    """URLs to probe for tools; with `apply`, new ones are registered."""

    urls: Annotated[list[_Url], pydantic.Field(min_length=1, max_length=20)]
    apply: bool = False


class Proposals(document.Model):
    """One proposal for each URL, with hidden credentials."""

    proposals: list[discovery.Proposal]


def discover(deps: Deps, search: Search) -> Proposals:
    """A proposal for each URL; with `apply`, new ones are registered."""
    with deps.store.read() as session:
        records = extensions.at_addresses(session, [targets.normalise(url) for url in search.urls])
    registered = {address: record.id for record in records for address in discovery.addresses(record)}
    proposals = discovery.propose([Target(url, access=deps.tracking(url, {}).headers) for url in search.urls], registered)
    if search.apply:
        proposals = [discovery.register(proposal, functools.partial(service.create, deps)) for proposal in proposals]
    return Proposals(proposals=[discovery.without_secrets(proposal) for proposal in proposals])
