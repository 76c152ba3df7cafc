"""Health checks of the registry: whether endpoints answer, and whether credentials are accepted.

The least recently checked parts come first, within a time limit, so a tick stays short in a large registry. A part that cannot be checked
from here keeps its health: an internal endpoint of another zone, credentials without a healthy endpoint.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from functions.housekeeper.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.registry import extension, registry
from fuseml.probes import fan_out, targets
from fuseml.probes.targets import Target
from fuseml.runtime import clock
from fuseml.store import extensions

_log = logging.getLogger("fuseml.housekeeper")

# For all endpoints together, and for all credentials; an unresponsive one takes four seconds.
_SECONDS = 5.0
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
    """Check the parts whose last result is older than `health_interval` seconds, and store the results."""
    started, due = clock.now(), clock.ago(deps.health_interval)
    with deps.store.read() as session:
        records = {record.id: record for record in extensions.unseen_since(session, due)}
    probed: set[str] = set()
    # Endpoints first: credentials are checked at a healthy endpoint.
    for probes in (_endpoint_probes, functools.partial(_credentials_probes, started=started)):
        due_probes = [probe for record in records.values() for probe in probes(record, deps.zone) if probe.seen < due]
        oldest = sorted(due_probes, key=lambda probe: probe.seen)[:_MOST_PROBES]
        for probe, health in fan_out.fan_out(functools.partial(_health, deps), oldest, _SECONDS):
            if health is not None:
                records[probe.record] = _observed(records[probe.record], probe, health)
                probed.add(probe.record)
    for extension_id in sorted(probed):
        with deps.store.write() as session:
            extensions.store_health(session, records[extension_id])


def _endpoint_probes(record: extension.Extension, zone: str) -> Iterator[_Probe]:
    for service in record.services:
        for endpoint in _reachable(record, service, zone):
            path = ("services", service.id, "endpoints", endpoint.url)
            yield _Probe(record.id, path, service.resource, Target(endpoint.url), _seen(endpoint))


def _credentials_probes(record: extension.Extension, zone: str, started: str) -> Iterator[_Probe]:
    for service in record.services:
        healthy = next((endpoint for endpoint in _reachable(record, service, zone) if _state(endpoint) == "healthy"), None)
        for credentials in service.credentials if healthy else ():
            # Credentials without a result are checked again with their endpoint, not with every tick.
            if healthy and (credentials.status.health or _seen(healthy) >= started):
                path = ("services", service.id, "credentials", credentials.id)
                target = Target(healthy.url, {**record.configuration, **service.configuration, **healthy.configuration})
                yield _Probe(record.id, path, service.resource, target, _seen(credentials), credentials)


def _reachable(record: extension.Extension, service: extension.Service, zone: str) -> Iterable[extension.Endpoint]:
    same_zone = record.zone in ("", zone)
    return (endpoint for endpoint in service.endpoints if (same_zone or endpoint.type == "external") and targets.is_http(endpoint.url))


def _seen(part: extension.Endpoint | extension.Credentials) -> str:
    """The time of the last result for the current record; empty without one."""
    health = part.status.health
    return health.seen if health and health.seen > (part.status.updated or "") else ""


def _state(part: extension.Endpoint | extension.Credentials) -> str:
    return part.status.health.state if part.status.health else ""


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


def _observed(record: extension.Extension, probe: _Probe, health: extension.Health) -> extension.Extension:
    before = registry.find(record, probe.path)
    assert not isinstance(before, extension.Service)
    if _state(before) != health.state and (health.cause or before.status.health):
        _log.warning("%s is %s now%s", probe.name, health.state, f": {health.cause}" if health.cause else "")
    return registry.observe(record, probe.path, healthy=health.state == "healthy", now=health.seen, cause=health.cause)
