"""Retention: the policies of projects, the fate of artifacts under them, and the removal of those that go."""

from __future__ import annotations

from typing import Annotated

import pydantic

from functions.artifacts.deps import Deps
from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import retention as rules
from fuseml.runtime import clock, cloudevents, http, operations
from fuseml.store import codesets
from fuseml.store import retention as policies
from fuseml.usecases import retention

MOST = 100
"""Artifacts of one request."""

_ONE = "/artifacts/retention/<project>/<kind>"
_Number = Annotated[int | None, pydantic.Field(ge=1, le=rules.MOST)]


class NewPolicy(pydantic.BaseModel):
    """Keep the `newest` versions of each name, and those of the last `days`. One of both is given at least."""

    model_config = pydantic.ConfigDict(extra="forbid")

    # As spelled: `true` is no number.
    newest: Annotated[_Number, pydantic.Field(strict=True)] = None
    days: Annotated[_Number, pydantic.Field(strict=True)] = None


class Policy(pydantic.BaseModel):
    """The policy of a kind of a project, which `by` has set."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    project: str
    kind: str
    newest: int | None
    days: int | None
    by: str
    updated: str


class PolicyQuery(operations.Query):
    project: str | None = None
    kind: artifact.Kind | None = None


class FateQuery(operations.PageQuery):
    project: str | None = None
    kind: artifact.Kind | None = None
    kept: Annotated[bool, pydantic.Field(description="also those that stay, each with the reason")] = False
    newest: Annotated[_Number, pydantic.Field(description="as if this were the policy of the project and kind")] = None
    days: Annotated[_Number, pydantic.Field(description="as if this were the policy of the project and kind")] = None

    def policy(self) -> rules.Policy | None:
        """The policy that is asked about, if it is another one than the set ones. Raises InvalidError without a project and kind."""
        if self.newest is None and self.days is None:
            return None
        if not (self.project and self.kind):
            raise errors.InvalidError("newest and days stand for the policy of a kind of a project; name project and kind")
        return rules.check(self.newest, self.days)


class Fate(pydantic.BaseModel):
    """An artifact, and whether it goes. One that stays has the `cause` and a `reason` in words; both are null for one that goes.

    At an address without an artifact nothing goes, and the reason says so.
    """

    address: str
    goes: bool
    cause: str | None
    reason: str | None
    size: int | None
    created: str | None

    @staticmethod
    def of(fate: retention.Fate) -> Fate:
        """The document of a fate."""
        if fate.row is None:
            return Fate(address=fate.address, goes=False, cause=None, reason="there is no such artifact", size=None, created=None)
        cause, text = (fate.reason.cause, fate.reason.text) if fate.reason else (None, None)
        return Fate(address=fate.address, goes=fate.goes, cause=cause, reason=text, size=fate.row.size, created=fate.row.created)


class Addresses(pydantic.BaseModel):
    """The artifacts to remove."""

    model_config = pydantic.ConfigDict(extra="forbid")

    addresses: Annotated[list[Annotated[str, pydantic.Field(max_length=artifact.LONGEST)]], pydantic.Field(max_length=MOST)]


class Fates(pydantic.BaseModel):
    """The fates of artifacts, in the order of the request."""

    fates: list[Fate]


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""
    _register_policies(api, deps)

    @api.route("GET", "/artifacts/prune", query=FateQuery, returns=[Fate])
    def list_prunable(query: FateQuery) -> http.ListPage[Fate]:
        """List the artifacts that go now under the policies; with `kept` all under a policy. Changes nothing.

        A page may hold fewer than `limit` while the Link header names a next one.
        """
        instead, project, kind = query.policy(), query.project or "", query.kind or ""
        with deps.store.read() as session:
            found = retention.page(session, query.limit, query.cursor, project, kind, kept=query.kept, instead=instead)
        return http.ListPage([Fate.of(fate) for fate in found.fates], found.next_cursor)

    @api.route("POST", "/artifacts/prune", body=Addresses, returns=Fates)
    def prune_artifacts(body: Addresses) -> Fates:
        """Remove those of the artifacts that go under the policies, as they are now. Their contents follow later.

        The answer names the fate of each. One that was tagged, served or used since it was listed stays.
        """
        for address in body.addresses:
            artifact.Address.parse(address)
        return Fates(fates=[Fate.of(fate) for fate in prune(deps, body.addresses, http.caller().name)])


def _register_policies(api: http.Api, deps: Deps) -> None:
    @api.route("GET", "/artifacts/retention", query=PolicyQuery, returns=[Policy])
    def list_retention_policies(query: PolicyQuery) -> list[Policy]:
        """List the policies, by kind and project. Without a policy nothing is removed."""
        with deps.store.read() as session:
            return [Policy.model_validate(row) for row in policies.policies(session, query.project or "", query.kind or "")]

    @api.route("GET", _ONE, returns=Policy)
    def get_retention_policy(project: str, kind: str) -> Policy:
        """Show the policy of a kind of a project."""
        with deps.store.read() as session:
            return Policy.model_validate(policies.get(session, project, _kind(kind)))

    @api.route("PUT", _ONE, body=NewPolicy, returns=Policy)
    def set_retention_policy(project: str, kind: str, body: NewPolicy) -> Policy:
        """Set the policy of a kind of a project. From now on the artifacts that it does not keep are removed by themselves."""
        rule = rules.check(body.newest, body.days)
        with deps.store.write() as session:
            codesets.project(session, project)
            return Policy.model_validate(policies.put(session, project, _kind(kind), rule, http.caller().name, clock.now()))

    @api.route("DELETE", _ONE, status=204)
    def remove_retention_policy(project: str, kind: str) -> None:
        """Remove the policy of a kind of a project. All its artifacts stay from now on."""
        with deps.store.write() as session:
            policies.remove(session, project, _kind(kind))


def prune(deps: Deps, addresses: list[str], by: str) -> list[retention.Fate]:
    """Remove those of the artifacts that go, a batch at a time; the fate of each."""
    fates: list[retention.Fate] = []
    for batch in retention.batches(addresses):
        with deps.store.write() as session:
            decided, payloads = retention.prune(session, batch, by, deps.contents_grace)
            enqueued = cloudevents.enqueue(session, *payloads)
        cloudevents.relay(deps.store, deps.publisher, enqueued)
        fates += decided
    return fates


def _kind(text: str) -> str:
    if text not in artifact.KINDS:
        raise errors.InvalidError(f"{text[:50]!r} is no kind of artifact; the kinds are {', '.join(artifact.KINDS)}")
    return text
