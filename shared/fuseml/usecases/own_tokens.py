"""API tokens of this server are no credentials of a tool: steps would get the rights of their owner."""

from __future__ import annotations

from collections.abc import Iterator

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.runtime import auth


def refuse(tokens: auth.Tokens, record: extension.Record) -> None:
    """Raises InvalidError when a configuration of the record, or of a part of it, has an API token of this server as a value."""
    found = [
        errors.Problem("configuration", f"{key} is an API token of this server, which every step would get")
        for key in _keys(tokens, record)
    ]
    if found:
        remedy = "leave it out: FuseML gives each step a token of its own for its own services"
        raise errors.InvalidError(f"{found[0].message}; {remedy}", found)


def _keys(tokens: auth.Tokens, record: extension.Record) -> Iterator[str]:
    for key, value in getattr(record, "configuration", {}).items():
        if tokens.knows(auth.digest_of(value)):
            yield key
    for name in record.parts:
        for part in getattr(record, name):
            yield from _keys(tokens, part)
