"""Health checks of the registry: whether endpoints answer, and whether credentials are accepted.

Each record has the time of its next check, so that a tick reads only what is due. A tick checks a bounded number of parts within a time limit,
the least recently checked first; the next tick continues. A part that cannot be checked from here keeps its health: an internal endpoint of
another zone, credentials without a healthy endpoint.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from functions.housekeeper.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.registry import extension, health, registry
from fuseml.probes import fan_out, targets
from fuseml.probes.targets import Target
from fuseml.runtime import clock
from fuseml.store import health_checks

_log = logging.getLogger("fuseml.housekeeper")

# For all endpoints together, and for all credentials; an unresponsive one takes four seconds.
_SECONDS = 5.0
_MOST_RECORDS = 200
_MOST_PROBES = 200


@dataclass(frozen=True)
class _Probe:
    """One check of the part at `path` of a record. `credentials` are sealed; `seen` is the time of the last result."""

    record: str
    path: registry.Path
    resource: str
    target: Target
    seen: str
    credentials: extension.Credentials | None = None

    @property
    def name(self) -> str:
        """The part's name in logs, without its URL, which may hold a password."""
        return f"{self.record}/{self.path[1]}/{self.credentials.id if self.credentials else self.target.origin}"


def check_health(deps: Deps, _tick: events.Event) -> None:
    """Check the records that are due, and store the results and the time of the next check."""
    started = clock.now()
    with deps.store.read() as session:
        due = {item.record.id: item for item in health_checks.due(session, started, _MOST_RECORDS)}
    records = {name: item.record for name, item in due.items()}
    unfinished: set[str] = set()
    # Endpoints first: credentials are checked at a healthy endpoint.
    for probes in (_endpoint_probes, functools.partial(_credentials_probes, started=started)):
        wanted = [probe for name, item in due.items() for probe in probes(records[name], deps.zone) if not (item.changed and probe.seen)]
        wanted.sort(key=lambda probe: probe.seen)
        unanswered = set(range(len(wanted)))
        oldest = list(enumerate(wanted))[:_MOST_PROBES]
        for (number, probe), result in fan_out.fan_out(lambda item: _health(deps, item[1]), oldest, _SECONDS):
            unanswered.discard(number)
            if result is not None:
                records[probe.record] = _observed(records[probe.record], probe, result)
        unfinished |= {wanted[number].record for number in unanswered}
    checks = [_outcome(deps, item, records[name], name in unfinished) for name, item in due.items()]
    if checks:
        with deps.store.write() as session:
            health_checks.store(session, checks)


def _outcome(deps: Deps, due: health_checks.Due, after: extension.Extension, unfinished: bool) -> health_checks.Check:
    """What a check leaves to store. An unfinished one continues after those that are due already."""
    now = clock.now()
    pairs = list(zip(health.parts(due.record), health.parts(after), strict=True))
    results = [part for before, part in pairs if health.seen(part) != health.seen(before)]
    if unfinished:
        return health_checks.Check(after, now, due.failures, "", bool(results))
    failed = bool(results) and not any(health.state(part) == "healthy" for part in results)
    failures = due.failures + 1 if failed else 0
    next_check = clock.ahead(health.pause(deps.health_interval, failures, random.random()))  # noqa: S311 - spreads load
    known = [(before, part) for before, part in pairs if health.seen(part)]
    # Without a change, one time stands for the results of all parts that have one.
    confirmed = len(results) == len(known) and all(
        health.seen(before) and health.verdict(before) == health.verdict(part) for before, part in known
    )
    checked = min((health.seen(part) for _, part in known), default="") if confirmed else ""
    return health_checks.Check(after, next_check, failures, checked, bool(results) and not confirmed)


def _endpoint_probes(record: extension.Extension, zone: str) -> Iterator[_Probe]:
    for service in record.services:
        for endpoint in _reachable(record, service, zone):
            path = ("services", service.id, "endpoints", endpoint.url)
            yield _Probe(record.id, path, service.resource, Target(endpoint.url), health.seen(endpoint))


def _credentials_probes(record: extension.Extension, zone: str, started: str) -> Iterator[_Probe]:
    for service in record.services:
        healthy = next((endpoint for endpoint in _reachable(record, service, zone) if health.state(endpoint) == "healthy"), None)
        for credentials in service.credentials if healthy else ():
            # Credentials without a result are checked again with their endpoint, not with every tick.
            if healthy and (credentials.status.health or health.seen(healthy) >= started):
                path = ("services", service.id, "credentials", credentials.id)
                target = Target(healthy.url, {**record.configuration, **service.configuration, **healthy.configuration})
                yield _Probe(record.id, path, service.resource, target, health.seen(credentials), credentials)


def _reachable(record: extension.Extension, service: extension.Service, zone: str) -> Iterable[extension.Endpoint]:
    same_zone = record.zone in ("", zone)
    return (endpoint for endpoint in service.endpoints if (same_zone or endpoint.type == "external") and targets.is_http(endpoint.url))


def _health(deps: Deps, probe: _Probe) -> extension.Health | None:
    """The result of a check; None if it cannot be made."""
    try:
        problem = deps.check(probe.resource, _with_secrets(deps, probe))
    except errors.FusemlError as error:
        _log.debug("the health of %s is not known: %s", probe.name, error.message)
        return None
    now = clock.now()
    return extension.Health(state="unhealthy" if problem else "healthy", since=now, seen=now, cause=problem or "")


def _with_secrets(deps: Deps, probe: _Probe) -> Target:
    if probe.credentials is None:
        return probe.target
    secrets = extension.map_secrets(probe.credentials, deps.keyring.unseal).configuration
    values = {key: text for key, text in secrets.items() if text != extension.HIDDEN}
    if not values:
        raise errors.PermanentError("the credentials have no stored values")
    return Target(probe.target.url, probe.target.configuration, values)


def _observed(record: extension.Extension, probe: _Probe, result: extension.Health) -> extension.Extension:
    before = registry.find(record, probe.path)
    assert not isinstance(before, extension.Service)
    if health.state(before) != result.state and (result.cause or before.status.health):
        _log.warning("%s is %s now%s", probe.name, result.state, f": {result.cause}" if result.cause else "")
    return registry.observe(record, probe.path, healthy=result.state == "healthy", now=result.seen, cause=result.cause)
