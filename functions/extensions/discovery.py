"""Discovery: which tools answer at given URLs. What is registered goes through the same use case as any other record.

The server asks from where it stands, so this is for administrators, as every route of this function; an answer tells no more of what
listens there than its product and version.
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
        named = "@" in targets.parse(url).netloc
    except errors.InvalidError as error:
        raise ValueError(error.message) from None
    if named:
        raise ValueError("must not hold a user or a password; credentials are registered with the record")
    return url


_Url = Annotated[str, pydantic.Field(max_length=200), pydantic.AfterValidator(_check_url)]


class Search(document.Model):
    """Where to look for tools; with `apply` what is new gets registered."""

    urls: Annotated[list[_Url], pydantic.Field(min_length=1, max_length=20)]
    apply: bool = False


class Found(document.Model):
    """One proposal for each address, credentials hidden."""

    proposals: list[discovery.Proposal]


def discover(deps: Deps, search: Search) -> Found:
    """What answers at each URL; with `apply` the new ones are records afterwards."""
    wanted = [Target(url) for url in search.urls]
    with deps.store.read() as session:
        records = extensions.at_addresses(session, [targets.normal(url) for url in search.urls])
    registered = {address: record.id for record in records for address in discovery.addresses(record)}
    proposals = discovery.propose(wanted, registered)
    if search.apply:
        proposals = [discovery.register(proposal, functools.partial(service.create, deps)) for proposal in proposals]
    return Found(proposals=[discovery.hidden(proposal) for proposal in proposals])
