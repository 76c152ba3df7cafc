"""Matching of outputs and artifacts to the inputs of runnables, with an explanation for each criterion.

A criterion that the offer states nothing about is unknown, not refused: an output of a pipeline may turn out to fit, and a search shows what
surely does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors
from fuseml.domain.artifacts import search
from fuseml.domain.registry import constraint
from fuseml.domain.runnables import descriptor

Verdict = Literal["fits", "unknown", "refused"]
_ORDER: tuple[Verdict, ...] = ("fits", "unknown", "refused")
_TYPES = {kind: type_ for type_, kind in descriptor.ARTIFACTS.items()}


@dataclass(frozen=True, slots=True)
class Offer:
    """An output or an artifact: its type, and its format and framework where they are known."""

    type: str
    format: str = ""
    framework: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """The result of one criterion (`type`, `format`, `framework`), as a clause for people."""

    criterion: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Match:
    """The worst verdict of the criteria, and the reason of each."""

    verdict: Verdict
    reasons: tuple[Reason, ...]

    @property
    def fits(self) -> bool:
        return self.verdict == "fits"

    def __str__(self) -> str:
        """The sentences of the verdict."""
        return "; ".join(reason.sentence for reason in self.reasons if reason.verdict == self.verdict)


def of_output(output: descriptor.Output) -> Offer:
    """The offer of an output."""
    framework = _framework(output.gives.framework or "")
    return Offer(output.type, output.gives.format or "", framework.name if framework else "", framework.versions if framework else "")


def of_artifact(kind: str, format: str | None, framework: str | None, version: str | None) -> Offer:
    """The offer of an artifact. Images are the artifact of no type."""
    return Offer(_TYPES.get(kind, kind), format or "", framework or "", version or "")


def match(offer: Offer, item: descriptor.Input) -> Match:
    """Whether the offer fits the input."""
    type_ = _type(offer, item)
    reasons = [type_]
    # Of another type, neither format nor framework mean anything.
    if type_.verdict == "fits" and item.is_artifact:
        reasons += [reason for reason in (_format(offer, item), _frameworks(offer, item)) if reason]
    return Match(max((reason.verdict for reason in reasons), key=_ORDER.index), tuple(reasons))


def _type(offer: Offer, item: descriptor.Input) -> Reason:
    scalar = not item.is_artifact and offer.type not in descriptor.ARTIFACTS and offer.type != "image"
    if offer.type == item.type or (offer.type, item.type) == ("integer", "number") or (scalar and item.type == "string"):
        return Reason("type", "fits", f"{_article(offer.type)} is accepted as {_article(item.type)}")
    return Reason("type", "refused", f"{_article(offer.type)} is not {_article(item.type)}")


def _format(offer: Offer, item: descriptor.Input) -> Reason | None:
    accepted = item.accepts.format
    if not accepted:
        return None
    listed = " or ".join(accepted)
    if not offer.format:
        return Reason("format", "unknown", f"no format is stated, and {listed} is needed")
    if offer.format in accepted:
        return Reason("format", "fits", f"the format {offer.format} is accepted")
    return Reason("format", "refused", f"the format is {offer.format}, and {listed} is needed")


def _frameworks(offer: Offer, item: descriptor.Input) -> Reason | None:
    accepted = item.accepts.framework
    if not accepted:
        return None
    listed = " or ".join(accepted)
    if not offer.framework:
        return Reason("framework", "unknown", f"no framework is stated, and {listed} is needed")
    named = [framework for framework in map(search.framework, accepted) if framework.name == offer.framework]
    if not named:
        return Reason("framework", "refused", f"the framework is {offer.framework}, and {listed} is needed")
    satisfied = [framework for framework in named if not framework.versions or _satisfies(offer.version, framework.versions)]
    if satisfied:
        return Reason("framework", "fits", f"the framework {offer.framework} {offer.version}".rstrip() + f" satisfies {satisfied[0]}")
    if not offer.version:
        return Reason("framework", "unknown", f"the version of {offer.framework} is not stated, and {listed} is needed")
    return Reason("framework", "refused", f"{offer.framework}: {constraint.explain(offer.version, named[0].versions)}")


def _satisfies(version: str, limits: str) -> bool:
    return bool(version) and constraint.satisfies(version, limits)


def _framework(text: str) -> search.Framework | None:
    try:
        return search.framework(text) if text else None
    except errors.InvalidError:
        # An output may give a name of any form; it equals only its own spelling.
        return search.Framework(text)


def _article(type_: str) -> str:
    return f"{'an' if type_[0] in 'aeiou' else 'a'} {type_}"
