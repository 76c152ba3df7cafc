"""Resolution: the choice of a service for each selector, with its explanation.

Pure: the same records, selectors and context give the same result, in any order of the records. The rules are in
`domain.registry.matching`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import extension, matching
from fuseml.domain.registry.selector import Binding, Candidate, Context, Explanation, Resolution, Selector, Verdict

MAX_EXPLAINED = 200
"""Largest number of candidates in one explanation; the rest are counted."""

MAX_TIES = 10
"""Largest number of services in `Binding.ambiguous_with`."""

NO_CANDIDATE = "the registry has no candidate for it"
"""The reason for an unresolved selector without any rejected candidate."""

_WAY_OUT = "register one by `fuseml extension discover --apply` or `fuseml extension register`"


def resolve(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """A binding for every selector. `home` is the control plane's own zone.

    Raises UnresolvedError, with explanations in its details, for selectors without a match.
    """
    resolution = attempt(selectors, extensions, context, home=home, explain=explain)
    require_all(resolution)
    return resolution


def attempt(
    selectors: Sequence[Selector], extensions: Iterable[extension.Extension], context: Context, *, home: str = "", explain: bool = False
) -> Resolution:
    """As `resolve`, but lists selectors without a match in `unresolved`, with explanations."""
    records = list(extensions)
    choices = [preferred(selector, lambda wanted: choose(wanted, records, context, home=home)) for selector in selectors]
    return conclude(choices, [choice.explanation() if explain or choice.binding is None else None for choice in choices])


def require_all(resolution: Resolution) -> None:
    """Raises UnresolvedError that names each unresolved selector with the nearest candidate."""
    if not resolution.unresolved:
        return
    missed = [
        explanation for explanation in resolution.explanations if not any(item.verdict == "chosen" for item in explanation.candidates)
    ]
    reasons = [nearest(explanation.candidates) for explanation in missed]
    parts = [f"selector {name!r} matches nothing ({reason})" for name, reason in zip(resolution.unresolved, reasons, strict=True)]
    parts += [_WAY_OUT] if NO_CANDIDATE in reasons else []
    details = {
        "unresolved": resolution.unresolved,
        "explanations": [explanation.model_dump(mode="json") for explanation in resolution.explanations],
    }
    raise errors.UnresolvedError("; ".join(parts), details=details)


def conclude(choices: Sequence[Choice], explanations: Sequence[Explanation | None]) -> Resolution:
    """The resolution of all selectors from the choice and the explanation, if any, of each."""
    return Resolution(
        [choice.binding for choice in choices if choice.binding is not None],
        [explanation for explanation in explanations if explanation is not None],
        [choice.rules.selector.name for choice in choices if choice.binding is None],
    )


def choose(selector: Selector, records: Sequence[extension.Extension], context: Context, *, home: str = "") -> Choice:
    """The choice of one selector among these records. `home` is the control plane's own zone."""
    rules = matching.Rules(selector, context, home)
    return Choice(rules, records, rules.matches(records, lambda *_: None))


def preferred(selector: Selector, choose: Callable[[Selector], Choice]) -> Choice:
    """The choice of a selector or, where it matches nothing, that of `Selector.otherwise` if this one matches."""
    choice = choose(selector)
    if choice.matches or selector.otherwise is None:
        return choice
    other = choose(selector.otherwise)
    return other if other.matches else choice


@dataclass(frozen=True, slots=True)
class Edge:
    """Position of a reader that reads services in order: services behind it have no better rank, nor an earlier tie-break in this rank."""

    rank: matching.Rank
    tie_break: matching.TieBreak


@dataclass(frozen=True)
class Choice:
    """The matches of one selector among some records, the best first."""

    rules: matching.Rules
    records: Sequence[extension.Extension]
    matches: Sequence[matching.Match]

    @functools.cached_property
    def ties(self) -> list[str]:
        """Other services of the best rank, separated by id only. Endpoints of one service are equivalent and no ties."""
        equals = [match for match in self.matches if match.rank == self.matches[0].rank]
        names = dict.fromkeys("/".join(match.tie_break[:2]) for match in equals)
        return list(names)[1 : MAX_TIES + 1]

    @functools.cached_property
    def binding(self) -> Binding | None:
        """The binding to the best match; None without a match, and for ties if the selector refuses ambiguity."""
        if not self.matches or (self.ties and self.rules.selector.ambiguity == "error"):
            return None
        record, service, endpoint, credentials = self.matches[0].candidate
        assert service is not None and endpoint is not None
        secrets = credentials.configuration if credentials else {}
        merged = {**record.configuration, **service.configuration, **endpoint.configuration}
        return Binding(
            name=self.rules.selector.name,
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
            secret_files=dict(credentials.files) if credentials else {},
            revision=record.revision,
            ambiguous_with=self.ties,
            withheld=self.rules.withheld(self.matches[0].candidate),
        )

    def is_final(self, edge: Edge) -> bool:
        """Whether services behind the edge cannot change the binding."""
        if not self.matches or self.matches[0].rank > edge.rank:
            return False
        if self.matches[0].rank < edge.rank:
            return True
        # Ties may follow behind the edge, but none before these: further ones are not listed once the list is full.
        equals = {match.tie_break[:2] for match in self.matches if match.rank == edge.rank and match.tie_break[:2] <= edge.tie_break[:2]}
        return len(equals) > MAX_TIES

    def explanation(self, unseen: int = 0) -> Explanation:
        """Every candidate with its verdict. `unseen` counts candidates that are not among the records."""
        rejected: list[tuple[matching.Candidate, matching.Rejection]] = []
        self.rules.matches(self.records, lambda candidate, reason: rejected.append((candidate, reason)))
        rejected.sort(key=lambda item: (-item[0].depth, item[0].record.id))
        listed = [_candidate(match.candidate, *self._verdict(position)) for position, match in enumerate(self.matches[:MAX_EXPLAINED])]
        listed += [_candidate(candidate, "rejected", reason) for candidate, reason in rejected[: MAX_EXPLAINED - len(listed)]]
        omitted = len(self.matches) + len(rejected) - len(listed) + unseen
        return Explanation(selector=self.rules.selector.name, candidates=listed, omitted=omitted)

    def _verdict(self, position: int) -> tuple[Verdict, matching.Rejection]:
        """The verdict for a match, with the rule that decided its position."""
        match, first = self.matches[position], self.matches[0]
        verdict: Verdict = "chosen" if position == 0 and self.binding is not None else "eligible"
        rule, sentence = self._reason(match, first)
        clauses = [matching.unhealthy(part) for part in (match.candidate.endpoint, match.candidate.credentials) if part]
        warnings = [f"it is {clause}" for clause in clauses if clause]
        if self.binding is not None and position == 0 and self.binding.withheld:
            warnings.append(self.binding.withheld)
        return verdict, matching.Rejection(rule, "; ".join((sentence, *warnings)))

    def _reason(self, match: matching.Match, first: matching.Match) -> tuple[str, str]:
        if match is first:
            if self.binding is None:
                return "ambiguity", f"it ties with {', '.join(self.ties)}, and the selector refuses a choice by id"
            if len(self.matches) == 1:
                return "only", "it is the only match"
            return "first", "it is the best match" + (f"; only the id puts it before {self.ties[0]}" if self.ties else "")
        name = "/".join(first.tie_break[:2])
        for (rule, advantage), best, own in zip(_ADVANTAGES, first.rank, match.rank, strict=True):
            if best != own:
                return rule, f"it matches, but {name} {advantage}"
        if match.tie_break[:2] == first.tie_break[:2]:
            return "url", "it matches equally well, as another endpoint of the same service"
        return "id", f"it matches equally well, but {name} comes first by id"


_ADVANTAGES = (
    ("health", "is not known to be unhealthy"),
    ("zone", "is in the consumer's own zone"),
    ("endpoint", "is internal"),
    ("version", "has the higher version"),
)


def _candidate(candidate: matching.Candidate, verdict: Verdict, reason: matching.Rejection) -> Candidate:
    return Candidate(
        extension_id=candidate.record.id,
        service_id=candidate.service.id if candidate.service else "",
        url=candidate.endpoint.url if candidate.endpoint else "",
        credentials_id=candidate.credentials.id if candidate.credentials else "",
        verdict=verdict,
        rule=reason.rule,
        sentence=reason.sentence,
    )


# The rules of a record and its services in the order of their application (`domain.registry.matching`).
_RULES = (
    *("extension_id", "product", "zone", "version", "service"),
    *("service_id", "service_resource", "service_category", "auth_required", "endpoint"),
)


def nearest(candidates: Sequence[Candidate]) -> str:
    """The candidate that satisfied the most rules, with the reason for its rejection; `NO_CANDIDATE` when there is none."""
    # Rejected credentials reject no service: the rejection of the service itself reports that none are left.
    services = [candidate for candidate in candidates if candidate.url or not candidate.credentials_id]
    best = max(services, key=lambda candidate: len(_RULES) if candidate.url else _RULES.index(candidate.rule), default=None)
    if best is None:
        return NO_CANDIDATE
    return f"{'/'.join(filter(None, (best.extension_id, best.service_id, best.url)))}: {best.sentence}"
