"""Health checks of records: when the next one is due, and what a check that changes nothing leaves to store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from fuseml.domain.registry import extension

_LONGEST = 4
"""Intervals between two checks of a record of which nothing answers any more."""

_JITTER = 0.1
"""The share of a pause by which it varies, so that records registered together are not checked together for ever."""

Probed = extension.Endpoint | extension.Credentials
"""The parts of a record that have a health."""

_Part = TypeVar("_Part", extension.Endpoint, extension.Credentials)


def pause(interval: float, failures: int, draw: float) -> float:
    """Seconds until the next check of a record.

    Each of the `failures`, checks in a row in which nothing was healthy, doubles the interval after the first, up to four intervals. `draw`,
    a random number from 0 to 1, spreads the checks by a tenth.
    """
    doubled = interval * min(1 << min(max(failures - 1, 0), _LONGEST), _LONGEST)
    return doubled * (1 + _JITTER * (2 * draw - 1))


def parts(record: extension.Extension) -> Iterator[Probed]:
    """The endpoints and credentials of a record."""
    for service in record.services:
        yield from service.endpoints
        yield from service.credentials


def seen(part: Probed) -> str:
    """The time of the last result for the part as it is now; empty without one."""
    health = part.status.health
    return health.seen if health and health.seen > (part.status.updated or "") else ""


def state(part: Probed) -> str:
    """`healthy`, `unhealthy`, or empty for a part without a result."""
    return part.status.health.state if part.status.health else ""


def verdict(part: Probed) -> tuple[str, str]:
    """State and cause: what a check changes, beside its time."""
    health = part.status.health
    return (health.state, health.cause) if health else ("", "")


def confirmed(record: extension.Extension, checked: str) -> extension.Extension:
    """The record whose last check, at `checked`, found each health as it was before."""
    if not any(_is_older(part, checked) for part in parts(record)):
        return record
    services = tuple(
        service.model_copy(
            update={
                "endpoints": tuple(_confirmed(part, checked) for part in service.endpoints),
                "credentials": tuple(_confirmed(part, checked) for part in service.credentials),
            }
        )
        for service in record.services
    )
    return record.model_copy(update={"services": services})


def _is_older(part: Probed, checked: str) -> bool:
    # A result for a former version of the part stays as old as it is.
    return "" < seen(part) < checked


def _confirmed(part: _Part, checked: str) -> _Part:
    if not _is_older(part, checked) or part.status.health is None:
        return part
    health = part.status.health.model_copy(update={"seen": checked})
    return part.model_copy(update={"status": part.status.model_copy(update={"health": health})})
