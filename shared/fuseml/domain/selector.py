"""From selectors to bindings: which registered tool a step gets, by rules that anybody can repeat (design section 5, seed 004).

Pure: the same records, selectors and context give the same answer, in whatever order the records come. Each rule is written once,
as a function that returns None or the reason for a rejection; choosing asks only whether there is one, explaining tells it.

Zones: a record or a consumer without a zone is in the control plane's own zone. Internal endpoints are reached from their own zone only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import pydantic

from fuseml.domain import constraint, document, errors, extension

MAX_EXPLAINED = 200
"""Candidates that one explanation lists at most; the rest are counted."""

_Name = Annotated[document.Text, pydantic.Field(max_length=100)]
_SCOPES = {"user": 0, "project": 1, "global": 2}
Verdict = Literal["chosen", "eligible", "rejected"]


def _version(text: str) -> str:
    if not text:
        return text
    try:
        return constraint.accept(text)
    except errors.InvalidError as error:
        raise ValueError(error.message) from error


class Selector(document.Model):
    """What a step asks for; an empty field asks for nothing. `ambiguity: error` refuses a choice that only the id would decide."""

    name: _Name = ""
    extension_id: _Name = ""
    service_id: _Name = ""
    product: _Name = ""
    version: Annotated[document.Text, pydantic.Field(max_length=constraint.MAX_LENGTH), pydantic.AfterValidator(_version)] = ""
    zone: _Name = ""
    service_resource: _Name = ""
    service_category: _Name = ""
    ambiguity: Literal["first", "error"] = "first"
    healthy: bool = False


class Context(document.Model):
    """On whose behalf, and from where, a selector is resolved. `zone` is where the consumer runs."""

    project: document.Text = ""
    user: document.Text = ""
    zone: document.Text = ""


class Binding(document.Model):
    """What a selector resolved to. `secret_keys` are the keys of the credentials; `configuration` holds the other keys with their values.

    `ambiguous_with` lists the services (`extension/service`) that only the id put behind this one.
    """

    name: str
    extension_id: str
    service_id: str
    service_resource: str
    service_category: str
    product: str
    version: str
    zone: str
    url: str
    endpoint_type: str
    credentials_id: str = ""
    credentials_scope: str = ""
    configuration: dict[str, str] = {}
    secret_keys: list[str] = []
    revision: int = 0
    ambiguous_with: list[str] = []

    def environment(self) -> dict[str, str]:
        """What the step's environment gets from it, secrets as `<hidden>`."""
        return {**self.configuration, **dict.fromkeys(self.secret_keys, extension.HIDDEN)}


class Candidate(document.Model):
    """An extension, or a service, endpoint or set of credentials of it, and why it was kept or dropped."""

    extension_id: str
    service_id: str = ""
    url: str = ""
    credentials_id: str = ""
    verdict: Verdict
    rule: str
    sentence: str


class Explanation(document.Model):
    """Every candidate of one selector, the chosen one first. `omitted` counts those beyond the limit."""

    selector: str
    candidates: list[Candidate]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """Bindings in the order of their selectors, without those of `unresolved`; explanations where they were asked for or are needed."""

    bindings: list[Binding]
    explanations: list[Explanation]
    unresolved: list[str]


class _Rejection(NamedTuple):
    rule: str
    sentence: str


class _Place(NamedTuple):
    """How far into a record a judgement goes."""

    record: extension.Extension
    service: extension.Service | None = None
    endpoint: extension.Endpoint | None = None
    credentials: extension.Credentials | None = None


@dataclass(frozen=True, slots=True)
class _Match:
    """A candidate that satisfies every rule, with what the order needs."""

    record: extension.Extension
    service: extension.Service
    endpoint: extension.Endpoint
    credentials: extension.Credentials | None
    merit: tuple[object, ...]
    """Same zone first, then internal endpoints, then higher versions; greater is better."""

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.record.id, self.service.id, self.endpoint.url

    @property
    def place(self) -> _Place:
        return _Place(self.record, self.service, self.endpoint, self.credentials)


_Note = Callable[[_Place, _Rejection], None]


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules for one selector. `home` is the control plane's own zone."""

    wanted: Selector
    context: Context
    home: str

    def matches(self, records: Iterable[extension.Extension], note: _Note) -> Iterator[_Match]:
        """Every candidate that is left; `note` hears of every rejection."""
        for record in records:
            rejection = self._extension(record)
            if rejection:
                note(_Place(record), rejection)
                continue
            if not record.services:
                note(_Place(record), _Rejection("service", "it has no services"))
            for service in record.services:
                yield from self._service_matches(record, service, note)

    def _service_matches(self, record: extension.Extension, service: extension.Service, note: _Note) -> Iterator[_Match]:
        place = _Place(record, service)
        rejection = self._service(service)
        if rejection:
            note(place, rejection)
            return
        credentials = self._credentials(place, service, note)
        if credentials is None and service.auth_required:
            note(place, _Rejection("auth_required", f"it needs credentials, and none are for {self._consumer()}"))
            return
        if not service.endpoints:
            note(place, _Rejection("endpoint", "it has no endpoints"))
        for endpoint in service.endpoints:
            rejection = self._endpoint(record, endpoint)
            if rejection:
                note(place._replace(endpoint=endpoint), rejection)
            else:
                yield _Match(record, service, endpoint, credentials, self._merit(record, endpoint))

    def _extension(self, record: extension.Extension) -> _Rejection | None:
        wanted = self.wanted
        if wanted.extension_id and wanted.extension_id != record.id:
            return _Rejection("extension_id", f"its id is not {wanted.extension_id}")
        if wanted.product and wanted.product != record.product:
            return _Rejection("product", f"its product is {record.product or 'not given'}, not {wanted.product}")
        if wanted.zone and wanted.zone != self._zone(record.zone):
            return _Rejection("zone", f"its zone is {self._zone(record.zone) or 'the control plane'}, not {wanted.zone}")
        if wanted.version and not constraint.satisfies(record.version, wanted.version):
            return _Rejection("version", constraint.explain(record.version, wanted.version))
        return None

    def _service(self, service: extension.Service) -> _Rejection | None:
        for rule, wanted, has in (
            ("service_id", self.wanted.service_id, service.id),
            ("service_resource", self.wanted.service_resource, service.resource),
            ("service_category", self.wanted.service_category, service.category),
        ):
            if wanted and wanted != has:
                return _Rejection(rule, f"its {rule.removeprefix('service_')} is {has or 'not given'}, not {wanted}")
        return None

    def _endpoint(self, record: extension.Extension, endpoint: extension.Endpoint) -> _Rejection | None:
        theirs, ours = self._zone(record.zone), self._zone(self.context.zone)
        if endpoint.type == "internal" and theirs != ours:
            where = f"zone {theirs}" if theirs else "the control plane's zone"
            return _Rejection("zone", f"it is internal to {where}, and the consumer is in {ours or 'the control plane'}")
        health = endpoint.status.health
        if self.wanted.healthy and health is not None and health.state == "unhealthy":
            return _Rejection("healthy", _unhealthy(health))
        return None

    def _credentials(self, place: _Place, service: extension.Service, note: _Note) -> extension.Credentials | None:
        """The credentials that fit best: user before project before global, then the default, then the id."""
        fitting: list[extension.Credentials] = []
        for credentials in service.credentials:
            rejection = self._credentials_rejection(credentials)
            if rejection:
                note(place._replace(credentials=credentials), rejection)
            else:
                fitting.append(credentials)
        return min(fitting, key=lambda found: (_SCOPES[found.scope], not found.default, found.id), default=None)

    def _credentials_rejection(self, credentials: extension.Credentials) -> _Rejection | None:
        project, user = self.context.project, self.context.user
        missing = sorted(key for key, value in credentials.configuration.items() if value == extension.HIDDEN)
        if missing:
            return _Rejection("credentials", f"no value was ever given for {', '.join(missing)}")
        if credentials.scope == "project" and project not in credentials.projects:
            return _Rejection(
                "credentials_scope", f"they are for the projects {_listed(credentials.projects)}, not for {project or 'no project'}"
            )
        if credentials.scope == "user" and user not in credentials.users:
            return _Rejection("credentials_scope", f"they are for the users {_listed(credentials.users)}, not for {user or 'no user'}")
        if credentials.scope == "user" and credentials.projects and project not in credentials.projects:
            return _Rejection(
                "credentials_scope", f"they are for the projects {_listed(credentials.projects)}, not for {project or 'no project'}"
            )
        return None

    def _merit(self, record: extension.Extension, endpoint: extension.Endpoint) -> tuple[object, ...]:
        version = constraint.parse_version(record.version)
        # A version that is no semantic one ranks below every one that is.
        rank = (version is not None, version.key if version else ())
        return self._zone(record.zone) == self._zone(self.context.zone), endpoint.type == "internal", rank

    def _zone(self, zone: str) -> str:
        return zone or self.home

    def _consumer(self) -> str:
        who = [f"{what} {value}" for what, value in (("user", self.context.user), ("project", self.context.project)) if value]
        return " in ".join(who) or "a consumer without project"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "") if names else "none"


def _unhealthy(health: extension.Health) -> str:
    return f"it is unhealthy since {health.since}" + (f": {health.cause}" if health.cause else "")


def resolve(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """A binding for every selector. Raises UnresolvedError, with explanations in its details, when one finds nothing."""
    found = attempt(selectors, extensions, context, home=home, explain=explain)
    if found.unresolved:
        details = {"unresolved": found.unresolved, "explanations": [item.model_dump(mode="json") for item in found.explanations]}
        raise errors.UnresolvedError(_refusal(found), details=details)
    return found


def attempt(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """As `resolve`, but what finds nothing is told in `unresolved` and explained."""
    records = sorted(extensions, key=lambda record: record.id)
    bindings: list[Binding] = []
    explanations: list[Explanation] = []
    unresolved: list[str] = []
    for wanted in selectors:
        rules = _Rules(wanted, context, home)
        ranked = _ranked(rules.matches(records, lambda *_: None))
        binding = _bind(wanted, ranked)
        if binding is None:
            unresolved.append(wanted.name)
        else:
            bindings.append(binding)
        if explain or binding is None:
            explanations.append(_explain(rules, records, ranked, binding))
    return Resolution(bindings, explanations, unresolved)


def _ranked(matches: Iterable[_Match]) -> list[_Match]:
    """Best first. Sorting is stable, so the ids order what merit does not."""
    return sorted(sorted(matches, key=lambda match: match.identity), key=lambda match: match.merit, reverse=True)


def _rivals(ranked: Sequence[_Match]) -> list[str]:
    """Other services that are as good as the first: only the id decided. Endpoints of one service are equivalent, no rivals."""
    best = ranked[0]
    same = [match for match in ranked if match.merit == best.merit and match.identity[:2] != best.identity[:2]]
    return list(dict.fromkeys("/".join(match.identity[:2]) for match in same))


def _bind(wanted: Selector, ranked: Sequence[_Match]) -> Binding | None:
    if not ranked:
        return None
    best, rivals = ranked[0], _rivals(ranked)
    if rivals and wanted.ambiguity == "error":
        return None
    secrets = best.credentials.configuration if best.credentials else {}
    merged = {**best.record.configuration, **best.service.configuration, **best.endpoint.configuration}
    return Binding(
        name=wanted.name,
        extension_id=best.record.id,
        service_id=best.service.id,
        service_resource=best.service.resource,
        service_category=best.service.category,
        product=best.record.product,
        version=best.record.version,
        zone=best.record.zone,
        url=best.endpoint.url,
        endpoint_type=best.endpoint.type,
        credentials_id=best.credentials.id if best.credentials else "",
        credentials_scope=best.credentials.scope if best.credentials else "",
        configuration={key: value for key, value in merged.items() if key not in secrets},
        secret_keys=list(secrets),
        revision=best.record.revision,
        ambiguous_with=rivals,
    )


def _explain(rules: _Rules, records: Sequence[extension.Extension], ranked: Sequence[_Match], binding: Binding | None) -> Explanation:
    told: list[Candidate] = []
    rejected: list[Candidate] = []
    for position, match in enumerate(ranked):
        verdict: Verdict = "chosen" if binding is not None and position == 0 else "eligible"
        told.append(_candidate(match.place, verdict, *_standing(rules, match, ranked, position)))
    list(rules.matches(records, lambda place, why: rejected.append(_candidate(place, "rejected", *why))))
    listed = [*told, *rejected]
    return Explanation(selector=rules.wanted.name, candidates=listed[:MAX_EXPLAINED], omitted=max(0, len(listed) - MAX_EXPLAINED))


def _candidate(place: _Place, verdict: Verdict, rule: str, sentence: str) -> Candidate:
    return Candidate(
        extension_id=place.record.id,
        service_id=place.service.id if place.service else "",
        url=place.endpoint.url if place.endpoint else "",
        credentials_id=place.credentials.id if place.credentials else "",
        verdict=verdict,
        rule=rule,
        sentence=sentence,
    )


_MERITS = (("zone", "is in the consumer's own zone"), ("endpoint", "is internal"), ("version", "has the higher version"))


def _standing(rules: _Rules, match: _Match, ranked: Sequence[_Match], position: int) -> _Rejection:
    """Why an eligible candidate stands where it stands."""
    health = match.endpoint.status.health
    note = f"; {_unhealthy(health)}" if health is not None and health.state == "unhealthy" else ""
    rivals = _rivals(ranked)
    if position == 0:
        if rivals and rules.wanted.ambiguity == "error":
            return _Rejection("ambiguity", f"it is as good as {', '.join(rivals)}, and the selector refuses to choose by id{note}")
        if len(ranked) == 1:
            return _Rejection("only", f"it is the only one that fits{note}")
        return _Rejection("first", f"it is the best that fits{f', by its id alone before {rivals[0]}' if rivals else ''}{note}")
    first = ranked[0]
    for (rule, words), theirs, ours in zip(_MERITS, first.merit, match.merit, strict=True):
        if theirs != ours:
            return _Rejection(rule, f"it fits, but {first.record.id}/{first.service.id} {words}{note}")
    return _Rejection("id", f"it fits as well as {first.record.id}/{first.service.id}, which comes first by its id{note}")


def _refusal(found: Resolution) -> str:
    """One line that says what was looked for and what came nearest."""
    explained = {explanation.selector: explanation for explanation in found.explanations}
    parts: list[str] = []
    for name in found.unresolved:
        near = _nearest(explained[name].candidates)
        parts.append(f"{name!r} found nothing" + (f" ({near})" if near else ": no extension is registered that could be meant"))
    return f"selector {'; selector '.join(parts)}"


def _nearest(candidates: Sequence[Candidate]) -> str:
    """The candidate that came furthest before it was rejected."""
    depth = max(candidates, key=lambda found: (bool(found.url), bool(found.credentials_id), bool(found.service_id)), default=None)
    if depth is None:
        return ""
    return f"{'/'.join(filter(None, (depth.extension_id, depth.service_id, depth.url)))}: {depth.sentence}"
