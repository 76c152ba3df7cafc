"""The health of what is registered: endpoints are asked whether they answer, credentials whether they are accepted.

The longest unseen come first, within a time limit, so that a tick stays short however large the registry is. What cannot be known
from here stays as it was: an internal endpoint of another zone, credentials whose endpoints are all away.
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

# For all endpoints together, and for all credentials; one that hangs takes four seconds.
_SECONDS = 5.0
_MOST_PROBES = 200


@dataclass(frozen=True)
class _Probe:
    """One question about the part at `path` of a record. `credentials` are sealed; `seen` is when it was last answered."""

    record: str
    path: registry.Path
    resource: str
    target: Target
    seen: str
    credentials: extension.Credentials | None = None

    @property
    def name(self) -> str:
        """How logs name the part; its URL may hold a password."""
        return f"{self.record}/{self.path[1]}/{self.credentials.id if self.credentials else self.target.origin}"


def check_health(deps: Deps, _tick: events.Event) -> None:
    """Probe what was not seen for `health_interval` seconds, and note the findings on the records."""
    started, due = clock.now(), clock.ago(deps.health_interval)
    with deps.store.read() as session:
        records = {record.id: record for record in extensions.unseen_since(session, due)}
    probed: set[str] = set()
    # Endpoints first: credentials are tried where somebody answers.
    for probes in (_endpoint_probes, functools.partial(_credentials_probes, started=started)):
        wanted = [probe for record in records.values() for probe in probes(record, deps.zone) if probe.seen < due]
        longest = sorted(wanted, key=lambda probe: probe.seen)[:_MOST_PROBES]
        for probe, health in fan_out.fan_out(functools.partial(_ask, deps), longest, _SECONDS):
            if health is not None:
                records[probe.record] = _observed(records[probe.record], probe, health)
                probed.add(probe.record)
    for extension_id in sorted(probed):
        with deps.store.write() as session:
            extensions.store_health(session, records[extension_id])


def _endpoint_probes(record: extension.Extension, zone: str) -> Iterator[_Probe]:
    for service in record.services:
        for endpoint in _askable(record, service, zone):
            path = ("services", service.id, "endpoints", endpoint.url)
            yield _Probe(record.id, path, service.resource, Target(endpoint.url), _seen(endpoint))


def _credentials_probes(record: extension.Extension, zone: str, started: str) -> Iterator[_Probe]:
    for service in record.services:
        well = next((endpoint for endpoint in _askable(record, service, zone) if _state(endpoint) == "healthy"), None)
        for credentials in service.credentials if well else ():
            # What could not be found out before is tried again when its endpoint is asked anyway, not with every tick.
            if well and (credentials.status.health or _seen(well) >= started):
                path = ("services", service.id, "credentials", credentials.id)
                target = Target(well.url, {**record.configuration, **service.configuration, **well.configuration})
                yield _Probe(record.id, path, service.resource, target, _seen(credentials), credentials)


def _askable(record: extension.Extension, service: extension.Service, zone: str) -> Iterable[extension.Endpoint]:
    reachable = record.zone in ("", zone)
    return (endpoint for endpoint in service.endpoints if (reachable or endpoint.type == "external") and targets.askable(endpoint.url))


def _seen(part: extension.Endpoint | extension.Credentials) -> str:
    """When it was last seen as it is now; empty for never."""
    health = part.status.health
    return health.seen if health and health.seen > (part.status.updated or "") else ""


def _state(part: extension.Endpoint | extension.Credentials) -> str:
    return part.status.health.state if part.status.health else ""


def _ask(deps: Deps, probe: _Probe) -> extension.Health | None:
    """What was found; None where nothing can be said."""
    try:
        trouble = deps.check(probe.resource, _with_secrets(deps, probe))
    except errors.FusemlError as error:
        _log.debug("the health of %s is not known: %s", probe.name, error.message)
        return None
    now = clock.now()
    return extension.Health(state="unhealthy" if trouble else "healthy", since=now, seen=now, cause=trouble or "")


def _with_secrets(deps: Deps, probe: _Probe) -> Target:
    if probe.credentials is None:
        return probe.target
    secrets = extension.map_secrets(probe.credentials, deps.keyring.unseal).configuration
    known = {key: text for key, text in secrets.items() if text != extension.HIDDEN}
    if not known:
        raise errors.PermanentError("they hold no values")
    return Target(probe.target.url, probe.target.configuration, known)


def _observed(record: extension.Extension, probe: _Probe, health: extension.Health) -> extension.Extension:
    before = registry.find(record, probe.path)
    assert not isinstance(before, extension.Service)
    if _state(before) != health.state and (health.cause or before.status.health):
        _log.warning("%s is %s now%s", probe.name, health.state, f": {health.cause}" if health.cause else "")
    return registry.observe(record, probe.path, healthy=health.state == "healthy", now=health.seen, cause=health.cause)
