"""The rules of resolution, each written once.

In the order of application; a candidate that violates one of the first five is rejected with a reason:

1. Extension: the id, product and zone equal those of the selector, where given; the version satisfies its constraint.
2. Service: the id, resource and category equal those of the selector, where given.
3. Credentials: every value is set. Scope `global` applies to every consumer, `project` to the listed projects, and `user` to the listed
   users, within the listed projects if there are any. A service gets one set: user before project before global, then `default: true`,
   then by id.
4. A service with `auth_required` needs credentials that apply.
5. Endpoint: an internal one is reachable from the extension's own zone only.
6. Rank: endpoints that are not known to be unhealthy first, then the consumer's own zone, then internal before external, then the
   higher version.
7. Tie-break: extension id, service id, URL. Services that only their ids separate are ties: reported, or refused with `ambiguity: error`.

With `healthy: true`, rules 3 and 5 also reject credentials and endpoints of unhealthy status; with `healthy: false`, rule 6 disregards
health. An extension or a consumer without a zone is in
the control plane's own zone (`home`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fuseml.domain.registry import constraint, extension, versions
from fuseml.domain.registry.selector import Context, Selector

_SCOPES = {"user": 0, "project": 1, "global": 2}


class Rejection(NamedTuple):
    """The rule that rejected a candidate, and the reason as a sentence."""

    rule: str
    sentence: str


class Candidate(NamedTuple):
    """An extension, or one of its services, or an endpoint or credentials of that service."""

    record: extension.Extension
    service: extension.Service | None = None
    endpoint: extension.Endpoint | None = None
    credentials: extension.Credentials | None = None

    @property
    def depth(self) -> int:
        """0 for the extension as a whole, 1 for a service, 2 for an endpoint or credentials."""
        return sum(part is not None for part in self[1:])


class Rank(NamedTuple):
    """The order of candidates before ids; the smaller one is better. `version` is a sort key, the newest first (`versions.sort_key`)."""

    unhealthy: bool
    elsewhere: bool
    external: bool
    version: bytes = b""


class TieBreak(NamedTuple):
    """The order of candidates of equal rank, which makes the choice unique."""

    extension: str
    service: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate that satisfies all rules, with its position in the order."""

    candidate: Candidate
    rank: Rank
    tie_break: TieBreak


Note = Callable[[Candidate, Rejection], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one selector. `home` is the control plane's own zone."""

    selector: Selector
    context: Context
    home: str

    def matches(self, records: Iterable[extension.Extension], note: Note) -> list[Match]:
        """All matches, the best first; `note` gets every rejection."""
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
            note(candidate, Rejection("auth_required", f"it needs credentials, and none apply to {self._consumer()}"))
            return
        if not service.endpoints:
            note(candidate, Rejection("endpoint", "it has no endpoints"))
        for endpoint in service.endpoints:
            rejection = self._endpoint(record, endpoint)
            if rejection:
                note(candidate._replace(endpoint=endpoint), rejection)
                continue
            elsewhere = self._zone(record.zone) != self._zone(self.context.zone)
            unhealthy = self.selector.healthy is not False and is_unhealthy(endpoint)
            rank = Rank(unhealthy, elsewhere, endpoint.type == "external", versions.sort_key(record.version))
            yield Match(Candidate(record, service, endpoint, credentials), rank, TieBreak(record.id, service.id, endpoint.url))

    def withheld(self, candidate: Candidate) -> str:
        """The clause for a service whose credentials are all for others; empty for any other candidate."""
        service = candidate.service
        if service is None or candidate.credentials is not None or not service.credentials:
            return ""
        return f"it gives no credentials: it has some, and none apply to {self._consumer()}"

    def _extension(self, record: extension.Extension) -> Rejection | None:
        selector = self.selector
        if selector.extension_id and selector.extension_id != record.id:
            return Rejection("extension_id", f"its id is not {selector.extension_id}")
        if selector.product and selector.product != record.product:
            return Rejection("product", f"its product is {record.product or 'not given'}, not {selector.product}")
        if selector.zone and selector.zone != self._zone(record.zone):
            return Rejection("zone", f"its zone is {self._zone(record.zone) or 'the control plane'}, not {selector.zone}")
        if selector.version and not constraint.satisfies(record.version, selector.version):
            return Rejection("version", constraint.explain(record.version, selector.version))
        return None

    def _service(self, service: extension.Service) -> Rejection | None:
        for rule, expected, actual in (
            ("service_id", self.selector.service_id, service.id),
            ("service_resource", self.selector.service_resource, service.resource),
            ("service_category", self.selector.service_category, service.category),
        ):
            if expected and expected != actual:
                return Rejection(rule, f"its {rule.removeprefix('service_')} is {actual or 'not given'}, not {expected}")
        return None

    def _endpoint(self, record: extension.Extension, endpoint: extension.Endpoint) -> Rejection | None:
        theirs, ours = self._zone(record.zone), self._zone(self.context.zone)
        if endpoint.type == "internal" and theirs != ours:
            where = f"zone {theirs}" if theirs else "the control plane's zone"
            return Rejection("zone", f"it is internal to {where}, and the consumer is in {ours or 'the control plane'}")
        return self._health(endpoint)

    def _credentials(self, candidate: Candidate, service: extension.Service, note: Note) -> extension.Credentials | None:
        """The credentials of the service for this consumer, by rule 3."""
        applicable: list[extension.Credentials] = []
        for credentials in service.credentials:
            rejection = self._credentials_rejection(credentials)
            if rejection:
                note(candidate._replace(credentials=credentials), rejection)
            else:
                applicable.append(credentials)
        return min(applicable, key=lambda item: (_SCOPES[item.scope], not item.default, item.id), default=None)

    def _credentials_rejection(self, credentials: extension.Credentials) -> Rejection | None:
        project, user = self.context.project, self.context.user
        missing = sorted(key for key, value in credentials.configuration.items() if value == extension.HIDDEN)
        if missing:
            return Rejection("credentials", f"they have no value for {', '.join(missing)}")
        not_this_project = Rejection(
            "credentials_scope", f"they are for the projects {_listed(credentials.projects)}, not for {project or 'no project'}"
        )
        if credentials.scope == "project" and project not in credentials.projects:
            return not_this_project
        if credentials.scope == "user" and user not in credentials.users:
            return Rejection("credentials_scope", f"they are for the users {_listed(credentials.users)}, not for {user or 'no user'}")
        if credentials.scope == "user" and credentials.projects and project not in credentials.projects:
            return not_this_project
        return self._health(credentials)

    def _health(self, part: extension.Endpoint | extension.Credentials) -> Rejection | None:
        if self.selector.healthy and (clause := unhealthy(part)):
            return Rejection("healthy", f"it is {clause}")
        return None

    def _zone(self, zone: str) -> str:
        return zone or self.home

    def _consumer(self) -> str:
        parts = [f"{noun} {value}" for noun, value in (("user", self.context.user), ("project", self.context.project)) if value]
        return " in ".join(parts) or "a consumer without project"


def is_unhealthy(part: extension.Endpoint | extension.Credentials) -> bool:
    """Whether the last probe found the part unhealthy."""
    return part.status.health is not None and part.status.health.state == "unhealthy"


def unhealthy(part: extension.Endpoint | extension.Credentials) -> str:
    """The clause `unhealthy since TIME: CAUSE`; empty for a part that is not known to be unhealthy."""
    health = part.status.health
    if health is None or health.state != "unhealthy":
        return ""
    return f"unhealthy since {health.since}" + (f": {health.cause}" if health.cause else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "") if names else "none"
