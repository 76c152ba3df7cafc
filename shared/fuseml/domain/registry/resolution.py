"""The choice of a service for each selector, and its explanation.

Pure: the same records, selectors and context give the same answer, in any order of the records. The rules are in
`domain.registry.matching`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import extension, matching
from fuseml.domain.registry.selector import Binding, Candidate, Context, Explanation, Resolution, Selector, Verdict

MAX_EXPLAINED = 200
"""Candidates that one explanation lists at most; the rest are counted."""

MAX_TIES = 10
"""Services that `ambiguous_with` lists at most."""


def resolve(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """A binding for every selector. Raises UnresolvedError, with explanations in its details, when one finds nothing."""
    found = attempt(selectors, extensions, context, home=home, explain=explain)
    require_all(found)
    return found


def attempt(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """As `resolve`, but what finds nothing is told in `unresolved` and explained."""
    records = list(extensions)
    choices = [choose(wanted, records, context, home=home) for wanted in selectors]
    return conclude(choices, [choice.explanation() if explain or choice.binding is None else None for choice in choices])


def require_all(found: Resolution) -> None:
    """Raises UnresolvedError, with what was looked for and what came nearest, when a selector found nothing."""
    if not found.unresolved:
        return
    missed = [explanation for explanation in found.explanations if not any(item.verdict == "chosen" for item in explanation.candidates)]
    parts: list[str] = []
    for name, explanation in zip(found.unresolved, missed, strict=True):
        near = nearest(explanation.candidates)
        parts.append(f"{name!r} found nothing" + (f" ({near})" if near else ": no extension is registered that could be meant"))
    details = {"unresolved": found.unresolved, "explanations": [item.model_dump(mode="json") for item in found.explanations]}
    raise errors.UnresolvedError(f"selector {'; selector '.join(parts)}", details=details)


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
