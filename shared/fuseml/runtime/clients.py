"""Clients of the original's API and clients of this one: the former know only the statuses, fields and values that the original published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import flask

from fuseml.domain import errors
from fuseml.runtime import catalog

ZERO_TIME = "0001-01-01T00:00:00Z"
"""The original's time of an event that has not happened: its clients require a time."""


def is_original() -> bool:
    """Whether the request that is being handled comes from a client of the original's API: it lacks the header of FuseML's own clients."""
    return catalog.CLIENT not in flask.request.headers


@contextlib.contextmanager
def deletion() -> Iterator[None]:
    """The deletion of a thing that may be missing: a success for clients of the original's API, which know no other status for it."""
    try:
        yield
    except errors.NotFoundError:
        if not is_original():
            raise
