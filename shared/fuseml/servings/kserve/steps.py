"""The steps by which KServe moves requests from one revision of an application to others in the mode Knative.

KServe knows two revisions: the one of its template, and the one that it rolled out last. `canaryTrafficPercent` is the share of the first one;
without it all requests go to the newest Knative revision that is ready, whatever it serves. After a rollback that is the model that was rolled
back, so a new one is held at 0 percent until it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuseml.domain.application import Traffic


@dataclass(frozen=True, slots=True)
class Step:
    """The revision of the template, and its share of the requests; None: all, as soon as it is ready."""

    template: int
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The revisions of the application that KServe has: in the template, as the newest ready one, as the one rolled out last and the one before.
    None where there is none."""

    template: int | None = None
    ready: int | None = None
    rolled_out: int | None = None
    previous: int | None = None


def step(traffic: Traffic, seen: Seen) -> Step:
    """The next step towards the traffic of one or two revisions; the present one when that is reached. No step sends a request to a revision
    that neither got some before, nor is among those of the traffic, nor still loads since it was."""
    if len(traffic) == 2 and (seen.rolled_out is None or seen.rolled_out in traffic):
        base = seen.rolled_out if seen.rolled_out is not None else _largest(traffic)
        if seen.rolled_out is not None:
            (canary,) = traffic.keys() - {base}
            return Step(canary, traffic[canary] if seen.ready in (base, canary, None) else 0)
        return Step(base)
    wanted = _largest(traffic)
    if seen.template != wanted and seen.rolled_out == wanted:
        return Step(seen.template, 0) if seen.template is not None else Step(wanted)
    if seen.template is not None and seen.template != wanted and seen.rolled_out == seen.template and seen.previous == wanted:
        return Step(seen.template, 0)
    return Step(wanted, None if seen.ready in (seen.rolled_out, wanted, None) else 0)


def _largest(traffic: Traffic) -> int:
    return max(traffic, key=lambda number: (traffic[number], number))
