"""Discovery: proposals of records for the tools at given URLs, unless the registry has them already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from fuseml import probes
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry.extension import Extension, hidden
from fuseml.probes import fan_out, targets
from fuseml.probes.targets import Target

_SECONDS = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)


class Proposal(document.Model):
    """The result for one URL.

    `state` is `new` (`extension` is a draft), `registered` (by this request; `extension` is the record), `known` (registered before) or
    `unknown` (no proposal). `id` is that of the registered record, `message` an explanation.
    """

    url: str
    state: Literal["new", "registered", "known", "unknown"]
    id: str = ""
    extension: Extension | None = None
    message: str = ""


def addresses(record: Extension) -> set[str]:
    """The normalised URLs of the record's endpoints, as `propose` compares them."""
    return {targets.normalise(endpoint.url) for service in record.services for endpoint in service.endpoints}


def propose(candidates: Sequence[Target], registered: Mapping[str, str]) -> list[Proposal]:
    """One proposal for each URL, in the given order, after at most ten seconds.

    `registered` maps the `addresses` of registered records to their ids; these URLs are not probed.
    """
    by_url = {targets.normalise(target.url): target for target in candidates}
    proposals = dict(fan_out.fan_out(lambda url: _probe(url, by_url[url]), [url for url in by_url if url not in registered], _SECONDS))
    late = f"no result within {_SECONDS:g} seconds; try again"
    return [
        Proposal(url=url, state="known", id=registered[url], message=f"registered as {registered[url]}")
        if url in registered
        else proposals.get(url, Proposal(url=url, state="unknown", message=late))
        for url in by_url
    ]


def register(proposal: Proposal, create: Callable[[Extension], Extension]) -> Proposal:
    """Register a new proposal, with the product's name as its id, or a generated id if that is taken. Other proposals are unchanged."""
    draft = proposal.extension
    if proposal.state != "new" or draft is None:
        return proposal
    try:
        record = create(draft)
    except errors.ConflictError:
        record = create(draft.model_copy(update={"id": ""}))
    return proposal.model_copy(update={"state": "registered", "id": record.id, "extension": record})


def without_secrets(proposal: Proposal) -> Proposal:
    """The proposal with `<hidden>` for every credentials value, as responses show it."""
    return proposal.model_copy(update={"extension": hidden(proposal.extension)}) if proposal.extension else proposal


def _probe(url: str, target: Target) -> Proposal:
    try:
        draft = probes.detect(target)
        if draft is None:
            return Proposal(url=url, state="unknown", message=_describe_unknown(target))
    except errors.FusemlError as error:
        return Proposal(url=url, state="unknown", message=error.message)
    problem = _credentials_problem(draft, target)
    if problem:
        services = tuple(service.model_copy(update={"credentials": ()}) for service in draft.services)
        draft, problem = draft.model_copy(update={"services": services}), f"{problem}; the proposal omits them"
    return Proposal(url=url, state="new", extension=draft, message=problem)


def _credentials_problem(draft: Extension, target: Target) -> str:
    """The problem of the draft's credentials; empty if there is none, and if no probe can check them."""
    resource = next((service.resource for service in draft.services if service.credentials), None)
    if resource is None:
        return ""
    try:
        return probes.check(resource, target) or ""
    except errors.FusemlError:
        return ""


def _describe_unknown(target: Target) -> str:
    answer = target.get()
    try:
        elsewhere = Target(answer.headers.get("location", "")).origin
    except errors.InvalidError:
        elsewhere = target.origin
    if answer.status in _REDIRECTS and elsewhere != target.origin:
        return f"it redirects to {elsewhere}; discover that URL"
    return "the server is no recognised tool; register it with `fuseml extension register`"
