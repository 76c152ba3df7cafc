"""The rules of resolution, each written once: None, or the reason for a rejection.

Choosing asks only whether there is a reason, explaining tells it. A record or a consumer without a zone is in the control plane's
own zone; internal endpoints are reached from their own zone only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fuseml.domain.registry import constraint, extension, selector, versions

_SCOPES = {"user": 0, "project": 1, "global": 2}


class Rejection(NamedTuple):
    rule: str
    sentence: str


class Candidate(NamedTuple):
    """How far into a record a judgement goes."""

    record: extension.Extension
    service: extension.Service | None = None
    endpoint: extension.Endpoint | None = None
    credentials: extension.Credentials | None = None

    @property
    def depth(self) -> int:
        """0 for the record as a whole, 2 for an endpoint or credentials."""
        return sum(part is not None for part in self[1:])


class Rank(NamedTuple):
    """What the order looks at before ids; the smaller one is better. `version` is the version's candidate (`versions.candidate`)."""

    elsewhere: bool
    external: bool
    version: bytes = b""


class TieBreak(NamedTuple):
    """What orders candidates of equal rank, so that there is always a first one."""

    extension: str
    service: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate that satisfies every rule."""

    candidate: Candidate
    rank: Rank
    tie_break: TieBreak


Note = Callable[[Candidate, Rejection], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one selector. `home` is the control plane's own zone."""

    wanted: selector.Selector
    context: selector.Context
    home: str

    def ranked(self, records: Iterable[extension.Extension], note: Note) -> list[Match]:
        """Every candidate that is left, the best first; `note` hears of every rejection."""
        return sorted(self._matches(records, note), key=lambda match: (match.rank, match.tie_break))

    def _matches(self, records: Iterable[extension.Extension], note: Note) -> Iterator[Match]:
        for record in records:
            rejection = self._extension(record)
            if rejection:
                note(Candidate(record), rejection)
                continue
            if not record.services:
                note(Candidate(record), Rejection("service", "it has no services"))
            for service in record.services:
                yield from self._service_matches(record, service, note)

    def _service_matches(self, record: extension.Extension, service: extension.Service, note: Note) -> Iterator[Match]:
        candidate = Candidate(record, service)
        rejection = self._service(service)
        if rejection:
            note(candidate, rejection)
            return
        credentials = self._credentials(candidate, service, note)
        if credentials is None and service.auth_required:
            note(candidate, Rejection("auth_required", f"it needs credentials, and none are for {self._consumer()}"))
            return
        if not service.endpoints:
            note(candidate, Rejection("endpoint", "it has no endpoints"))
        for endpoint in service.endpoints:
            rejection = self._endpoint(record, endpoint)
            if rejection:
                note(candidate._replace(endpoint=endpoint), rejection)
                continue
            elsewhere = self._zone(record.zone) != self._zone(self.context.zone)
            rank = Rank(elsewhere, endpoint.type == "external", versions.place(record.version))
            yield Match(Candidate(record, service, endpoint, credentials), rank, TieBreak(record.id, service.id, endpoint.url))

    def _extension(self, record: extension.Extension) -> Rejection | None:
        wanted = self.wanted
        if wanted.extension_id and wanted.extension_id != record.id:
            return Rejection("extension_id", f"its id is not {wanted.extension_id}")
        if wanted.product and wanted.product != record.product:
            return Rejection("product", f"its product is {record.product or 'not given'}, not {wanted.product}")
        if wanted.zone and wanted.zone != self._zone(record.zone):
            return Rejection("zone", f"its zone is {self._zone(record.zone) or 'the control plane'}, not {wanted.zone}")
        if wanted.version and not constraint.satisfies(record.version, wanted.version):
            return Rejection("version", constraint.explain(record.version, wanted.version))
        return None

    def _service(self, service: extension.Service) -> Rejection | None:
        for rule, wanted, has in (
            ("service_id", self.wanted.service_id, service.id),
            ("service_resource", self.wanted.service_resource, service.resource),
            ("service_category", self.wanted.service_category, service.category),
        ):
            if wanted and wanted != has:
                return Rejection(rule, f"its {rule.removeprefix('service_')} is {has or 'not given'}, not {wanted}")
        return None

    def _endpoint(self, record: extension.Extension, endpoint: extension.Endpoint) -> Rejection | None:
        theirs, ours = self._zone(record.zone), self._zone(self.context.zone)
        if endpoint.type == "internal" and theirs != ours:
            where = f"zone {theirs}" if theirs else "the control plane's zone"
            return Rejection("zone", f"it is internal to {where}, and the consumer is in {ours or 'the control plane'}")
        return self._health(endpoint.status.health)

    def _credentials(self, candidate: Candidate, service: extension.Service, note: Note) -> extension.Credentials | None:
        """The credentials that fit best: user before project before global, then the default, then the id."""
        fitting: list[extension.Credentials] = []
        for credentials in service.credentials:
            rejection = self._credentials_rejection(credentials)
            if rejection:
                note(candidate._replace(credentials=credentials), rejection)
            else:
                fitting.append(credentials)
        return min(fitting, key=lambda found: (_SCOPES[found.scope], not found.default, found.id), default=None)

    def _credentials_rejection(self, credentials: extension.Credentials) -> Rejection | None:
        project, user = self.context.project, self.context.user
        missing = sorted(key for key, value in credentials.configuration.items() if value == extension.HIDDEN)
        if missing:
            return Rejection("credentials", f"no value was ever given for {', '.join(missing)}")
        not_this_project = Rejection(
            "credentials_scope", f"they are for the projects {_listed(credentials.projects)}, not for {project or 'no project'}"
        )
        if credentials.scope == "project" and project not in credentials.projects:
            return not_this_project
        if credentials.scope == "user" and user not in credentials.users:
            return Rejection("credentials_scope", f"they are for the users {_listed(credentials.users)}, not for {user or 'no user'}")
        if credentials.scope == "user" and credentials.projects and project not in credentials.projects:
            return not_this_project
        return self._health(credentials.status.health)

    def _health(self, health: extension.Health | None) -> Rejection | None:
        if self.wanted.healthy and health is not None and health.state == "unhealthy":
            return Rejection("healthy", f"it is {unhealthy(health)}")
        return None

    def _zone(self, zone: str) -> str:
        return zone or self.home

    def _consumer(self) -> str:
        who = [f"{what} {value}" for what, value in (("user", self.context.user), ("project", self.context.project)) if value]
        return " in ".join(who) or "a consumer without project"


def unhealthy(health: extension.Health) -> str:
    """`unhealthy since ...`, and why."""
    return f"unhealthy since {health.since}" + (f": {health.cause}" if health.cause else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "") if names else "none"
