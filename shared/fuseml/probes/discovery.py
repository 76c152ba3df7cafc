"""From addresses to proposals: what stands there, and whether the registry has it already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from fuseml import probes
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import extension as records
from fuseml.domain.registry.extension import Extension
from fuseml.probes import fan_out, targets
from fuseml.probes.targets import Target

_SECONDS = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)


class Proposal(document.Model):
    """What was found at `url`.

    `state` is `new` (`extension` is a draft), `registered` (just now; `extension` is the record), `known` (it was there before) or
    `unknown` (nothing to propose). `id` names the registered record, `message` says what a person should know.
    """

    url: str
    state: Literal["new", "registered", "known", "unknown"]
    id: str = ""
    extension: Extension | None = None
    message: str = ""


def addresses(record: Extension) -> set[str]:
    """Where the record's services are, in the spelling that `propose` compares."""
    return {targets.normal(endpoint.url) for service in record.services for endpoint in service.endpoints}


def propose(wanted: Sequence[Target], registered: Mapping[str, str]) -> list[Proposal]:
    """One proposal for each address, in the order given, after ten seconds at most.

    `registered` maps the `addresses` of the registry's records to their ids; these are not asked again.
    """
    asked = {targets.normal(target.url): target for target in wanted}
    answers = dict(fan_out.fan_out(lambda url: _look(url, asked[url]), [url for url in asked if url not in registered], _SECONDS))
    late = f"it was not clear within {_SECONDS:g} seconds what answers there; try again"
    return [
        Proposal(url=url, state="known", id=registered[url], message=f"registered as {registered[url]}")
        if url in registered
        else answers.get(url, Proposal(url=url, state="unknown", message=late))
        for url in asked
    ]


def register(proposal: Proposal, create: Callable[[Extension], Extension]) -> Proposal:
    """Have a new proposal registered: under the product's name, or a generated id where that is taken. Others stay as they are."""
    draft = proposal.extension
    if proposal.state != "new" or draft is None:
        return proposal
    try:
        record = create(draft)
    except errors.ConflictError:
        record = create(draft.model_copy(update={"id": ""}))
    return proposal.model_copy(update={"state": "registered", "id": record.id, "extension": record})


def hidden(proposal: Proposal) -> Proposal:
    """The proposal as it may be shown: `<hidden>` for every credentials value."""
    return proposal.model_copy(update={"extension": records.hidden(proposal.extension)}) if proposal.extension else proposal


def _look(url: str, target: Target) -> Proposal:
    try:
        draft = probes.detect(target)
        if draft is None:
            return Proposal(url=url, state="unknown", message=_unrecognised(target))
    except errors.FusemlError as error:
        return Proposal(url=url, state="unknown", message=error.message)
    trouble = _trouble(draft, target)
    if trouble:
        services = tuple(service.model_copy(update={"credentials": ()}) for service in draft.services)
        draft, trouble = draft.model_copy(update={"services": services}), f"{trouble}; they are left out"
    return Proposal(url=url, state="new", extension=draft, message=trouble)


def _trouble(draft: Extension, target: Target) -> str:
    """Why the credentials that the draft holds are of no use. Where that cannot be found out, nothing."""
    resource = next((service.resource for service in draft.services if service.credentials), None)
    if resource is None:
        return ""
    try:
        return probes.check(resource, target) or ""
    except errors.FusemlError:
        return ""


def _unrecognised(target: Target) -> str:
    answer = target.get()
    try:
        elsewhere = Target(answer.headers.get("location", "")).origin
    except errors.InvalidError:
        elsewhere = target.origin
    if answer.status in _REDIRECTS and elsewhere != target.origin:
        return f"it sends visitors to {elsewhere}; discover that address"
    return "it answers, but is no tool that can be recognised; register it with `fuseml extension register`"
