"""From selectors to bindings: which registered tool a step gets, by rules that anybody can repeat.

Pure: the same records, selectors and context give the same answer, in whatever order the records come. The rules are in
`domain.registry.matching`; here is what is asked, what is answered, and how a choice is explained.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import constraint, extension, matching, versions

MAX_EXPLAINED = 200
"""Candidates that one explanation lists at most; the rest are counted."""

MAX_TIES = 10
"""Services that `ambiguous_with` lists at most."""

_Name = Annotated[document.Text, pydantic.Field(max_length=100)]
Verdict = Literal["chosen", "eligible", "rejected"]


def _version(text: str) -> str:
    if not text:
        return text
    try:
        return constraint.accept(text)
    except errors.InvalidError as error:
        raise ValueError(error.message) from error


class Selector(document.Model):
    """What a step asks for; an empty field asks for nothing.

    `ambiguity: error` refuses a choice that only the id would decide; `healthy` leaves out what was found unhealthy.
    """

    name: _Name = ""
    extension_id: _Name = ""
    service_id: _Name = ""
    product: _Name = ""
    version: Annotated[document.Text, pydantic.Field(max_length=versions.MAX_LENGTH), pydantic.AfterValidator(_version)] = ""
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

    `ambiguous_with` lists the services (`extension/service`) that only the id put behind this one, the first `MAX_TIES` of them.
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
    """The candidates of one selector: the chosen one, the eligible ones in order, the rejected ones, those that came furthest first.

    `omitted` counts those beyond the limit.
    """

    selector: str
    candidates: list[Candidate]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """Bindings in the order of their selectors, without those of `unresolved`; explanations where they were asked for or are needed."""

    bindings: list[Binding]
    explanations: list[Explanation]
    unresolved: list[str]

    def require_all(self) -> None:
        """Raises UnresolvedError, with what was looked for and what came nearest, when a selector found nothing."""
        if not self.unresolved:
            return
        missed = [explanation for explanation in self.explanations if not any(item.verdict == "chosen" for item in explanation.candidates)]
        parts: list[str] = []
        for name, explanation in zip(self.unresolved, missed, strict=True):
            near = nearest(explanation.candidates)
            parts.append(f"{name!r} found nothing" + (f" ({near})" if near else ": no extension is registered that could be meant"))
        details = {"unresolved": self.unresolved, "explanations": [item.model_dump(mode="json") for item in self.explanations]}
        raise errors.UnresolvedError(f"selector {'; selector '.join(parts)}", details=details)


def resolve(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """A binding for every selector. Raises UnresolvedError, with explanations in its details, when one finds nothing."""
    found = attempt(selectors, extensions, context, home=home, explain=explain)
    found.require_all()
    return found


def attempt(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """As `resolve`, but what finds nothing is told in `unresolved` and explained."""
    records = list(extensions)
    choices = [choose(wanted, records, context, home=home) for wanted in selectors]
    return conclude(choices, [choice.explanation() if explain or choice.binding is None else None for choice in choices])


def conclude(choices: Sequence[Choice], explanations: Sequence[Explanation | None]) -> Resolution:
    """The answer that choices come to, each with its explanation where there shall be one."""
    return Resolution(
        [choice.binding for choice in choices if choice.binding is not None],
        [explanation for explanation in explanations if explanation is not None],
        [choice.rules.wanted.name for choice in choices if choice.binding is None],
    )


def choose(wanted: Selector, records: Sequence[extension.Extension], context: Context, *, home: str = "") -> Choice:
    """What one selector comes to among these records. `home` is the control plane's own zone."""
    rules = matching.Rules(wanted, context, home)
    return Choice(rules, records, rules.ranked(records, lambda *_: None))


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a reader of services stopped who takes them in order: nothing behind it is better, or comes earlier among equals."""

    rank: matching.Rank
    tie_break: matching.TieBreak


@dataclass(frozen=True)
class Choice:
    """What one selector comes to among some records: every match, the best first."""

    rules: matching.Rules
    records: Sequence[extension.Extension]
    ranked: Sequence[matching.Match]

    @functools.cached_property
    def ties(self) -> list[str]:
        """Other services that are as good as the first: only the id decided. Endpoints of one service are equivalent, no ties."""
        same = [match for match in self.ranked if match.rank == self.ranked[0].rank]
        names = dict.fromkeys("/".join(match.tie_break[:2]) for match in same)
        return list(names)[1 : MAX_TIES + 1]

    @functools.cached_property
    def binding(self) -> Binding | None:
        """What the selector is bound to; None when there is nothing, or nothing unambiguous where that is asked for."""
        if not self.ranked or (self.ties and self.rules.wanted.ambiguity == "error"):
            return None
        record, service, endpoint, credentials = self.ranked[0].candidate
        assert service is not None and endpoint is not None
        secrets = credentials.configuration if credentials else {}
        merged = {**record.configuration, **service.configuration, **endpoint.configuration}
        return Binding(
            name=self.rules.wanted.name,
            extension_id=record.id,
            service_id=service.id,
            service_resource=service.resource,
            service_category=service.category,
            product=record.product,
            version=record.version,
            zone=record.zone,
            url=endpoint.url,
            endpoint_type=endpoint.type,
            credentials_id=credentials.id if credentials else "",
            credentials_scope=credentials.scope if credentials else "",
            configuration={key: value for key, value in merged.items() if key not in secrets},
            secret_keys=list(secrets),
            revision=record.revision,
            ambiguous_with=self.ties,
        )

    def is_final(self, edge: Edge) -> bool:
        """Whether no record behind the edge could change the binding."""
        if not self.ranked or self.ranked[0].rank > edge.rank:
            return False
        if self.ranked[0].rank < edge.rank:
            return True
        # Services as good as these may follow, but not before these: that is enough once no more of them would be listed.
        equals = {match.tie_break[:2] for match in self.ranked if match.rank == edge.rank and match.tie_break[:2] <= edge.tie_break[:2]}
        return len(equals) > MAX_TIES

    def explanation(self, unseen: int = 0) -> Explanation:
        """Every candidate and what became of it. `unseen` are candidates that are not among the records."""
        rejected: list[tuple[matching.Candidate, matching.Rejection]] = []
        self.rules.ranked(self.records, lambda place, why: rejected.append((place, why)))
        rejected.sort(key=lambda item: (-item[0].depth, item[0].record.id))
        told = [_candidate(match.candidate, *self._verdict(position)) for position, match in enumerate(self.ranked[:MAX_EXPLAINED])]
        told += [_candidate(place, "rejected", why) for place, why in rejected[: MAX_EXPLAINED - len(told)]]
        omitted = len(self.ranked) + len(rejected) - len(told) + unseen
        return Explanation(selector=self.rules.wanted.name, candidates=told, omitted=omitted)

    def _verdict(self, position: int) -> tuple[Verdict, matching.Rejection]:
        """Why a match stands where it stands."""
        match, first = self.ranked[position], self.ranked[0]
        chosen: Verdict = "chosen" if position == 0 and self.binding is not None else "eligible"
        rule, sentence = self._standing(match, first)
        sick = [part.status.health for part in (match.candidate.endpoint, match.candidate.credentials) if part]
        notes = [matching.unhealthy(health) for health in sick if health is not None and health.state == "unhealthy"]
        return chosen, matching.Rejection(rule, "; ".join((sentence, *(f"it is {note}" for note in notes))))

    def _standing(self, match: matching.Match, first: matching.Match) -> tuple[str, str]:
        if match is first:
            if self.binding is None:
                return "ambiguity", f"it is as good as {', '.join(self.ties)}, and the selector refuses to choose by id"
            if len(self.ranked) == 1:
                return "only", "it is the only one that fits"
            return "first", "it is the best that fits" + (f", by its id alone before {self.ties[0]}" if self.ties else "")
        name = "/".join(first.tie_break[:2])
        for (rule, words), theirs, ours in zip(_MERITS, first.rank, match.rank, strict=True):
            if theirs != ours:
                return rule, f"it fits, but {name} {words}"
        if match.tie_break[:2] == first.tie_break[:2]:
            return "url", "it fits as well, and is another endpoint of the same service"
        return "id", f"it fits as well as {name}, which comes first by its id"


_MERITS = (("zone", "is in the consumer's own zone"), ("endpoint", "is internal"), ("version", "has the higher version"))


def _candidate(place: matching.Candidate, verdict: Verdict, why: matching.Rejection) -> Candidate:
    return Candidate(
        extension_id=place.record.id,
        service_id=place.service.id if place.service else "",
        url=place.endpoint.url if place.endpoint else "",
        credentials_id=place.credentials.id if place.credentials else "",
        verdict=verdict,
        rule=why.rule,
        sentence=why.sentence,
    )


# The order in which the rules of a record and its services are asked; one that fails late came further.
_RULES = (
    *("extension_id", "product", "zone", "version", "service"),
    *("service_id", "service_resource", "service_category", "auth_required", "endpoint"),
)


def nearest(candidates: Sequence[Candidate]) -> str:
    """The candidate that came furthest before it was rejected, and why it was; empty when there was none."""
    # That one account does not fit rejects nothing; that none does is said of the service.
    judged = [candidate for candidate in candidates if candidate.url or not candidate.credentials_id]
    found = max(judged, key=lambda candidate: len(_RULES) if candidate.url else _RULES.index(candidate.rule), default=None)
    if found is None:
        return ""
    return f"{'/'.join(filter(None, (found.extension_id, found.service_id, found.url)))}: {found.sentence}"
