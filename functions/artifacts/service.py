"""Use cases of `artifacts`: descriptors, the search for them, their deletion, and lineage."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlmodel

from functions.artifacts import contents
from functions.artifacts.deps import Deps
from fuseml.domain import artifact, errors, events
from fuseml.domain.artifacts import descriptor, search
from fuseml.domain.registry import versions
from fuseml.domain.runnables import descriptor as runnable_descriptor
from fuseml.domain.runnables import matching
from fuseml.runtime import auth, clock, cloudevents
from fuseml.store import (
    applications,
    artifact_copies,
    artifact_names,
    artifact_search,
    artifacts,
    codesets,
    executions,
    lineage,
    paging,
    runs,
)
from fuseml.usecases import artifact_records, runnables

MOST_EDGES = 2000
"""Edges of one answer about lineage."""
MOST_DEPTH = 100
_DEPTH = 10
_SHOWN = 5
_FACTS = ("digest", "run", "step", "type", "format", "size", "location", "external")


@dataclass(frozen=True, slots=True)
class View:
    """An artifact with its metrics and names, and the copies of its contents."""

    row: artifacts.Artifact
    metrics: Mapping[str, float]
    tags: Sequence[artifact_names.Tag]
    labels: Sequence[str]
    copies: Sequence[artifact_copies.ArtifactCopy]


@dataclass(frozen=True, slots=True)
class Lineage:
    """The edges near `address`, nearest first. `nodes` is the addresses at their ends, each with whether it has an artifact."""

    address: str
    neighbourhood: lineage.Neighbourhood
    nodes: Mapping[str, bool]


def page(
    deps: Deps, limit: int, cursor: str | None, wanted: search.Search, origin: artifact_search.Origin, accepts: str | None = None
) -> paging.Slice[View]:
    """A page of artifacts that pass all filters, by address. `accepts` is `RUNNABLE:INPUT`, an input that they must fit.

    The runnable is that of the project of the search, or a built-in one. Raises NotFoundError for an unknown one, InvalidError.
    """
    with deps.store.read() as session:
        admits = None
        if accepts:
            taken = runnables.input_of(session, wanted.project or "", accepts)
            wanted = wanted.narrowed(search.Search(kind=runnables.kind_of(taken)))
            admits = functools.partial(_fits, taken)
        found = artifact_search.page(session, paging.Page(limit, cursor), wanted, origin, admits)
        return paging.Slice(views(session, found.rows), found.next_cursor)


def _fits(taken: runnable_descriptor.Input, row: artifacts.Artifact) -> bool:
    return matching.match(matching.of_artifact(row.kind, row.format, row.framework, row.framework_version), taken).fits


def views(session: sqlmodel.Session, rows: Sequence[artifacts.Artifact]) -> list[View]:
    """The artifacts with their metrics, names and copies."""
    addresses = [row.address for row in rows]
    metrics, tags = artifacts.metrics_of(session, addresses), artifact_names.tags(session, addresses)
    labels, copies = artifact_names.labels(session, addresses), artifact_copies.of(session, addresses)
    return [
        View(row, metrics.get(row.address, {}), tags.get(row.address, []), labels.get(row.address, []), copies.get(row.address, []))
        for row in rows
    ]


def get(deps: Deps, reference: artifact.Address | artifact.Tagged, caller: auth.Caller) -> View:
    """The artifact at an address, or the one that a tag is on. Raises NotFoundError, ForbiddenError for a step of another project."""
    _check_project(reference.project, caller)
    with deps.store.read() as session:
        address = artifact_names.tagged(session, reference) if isinstance(reference, artifact.Tagged) else str(reference)
        return views(session, [artifacts.get(session, address)])[0]


def register(deps: Deps, given: descriptor.Descriptor, caller: auth.Caller) -> View:
    """Register an artifact; the same facts again change nothing.

    Raises NotFoundError for an unknown project, InvalidError for an unknown run or source, ConflictError for other facts than those of
    the address and for contents that retention has deleted, ForbiddenError for a step that registers for another project or run.
    """
    address = artifact.Address.parse(given.address)
    _check_project(address.project, caller)
    claimed, given = given, _of_step(given, caller.step) if caller.step else given
    proof = contents.check_deleted(deps, _row(address, given), caller)
    with deps.store.write() as session:
        codesets.project(session, address.project)
        _check_origin(session, address, given, caller)
        row = _row(address, given)
        stored = artifacts.find(session, row.address)
        if stored is None:
            _check_runnable(address)
            _check_deleted(session, row)
        else:
            descriptor.check_same(row.address, _facts(session, stored), _given_facts(claimed))
            if caller.step and (stored.run != caller.step.run or stored.step not in (None, caller.step.step)):
                # A step adds no facts to what another step has made.
                return views(session, [stored])[0]
        completed = artifacts.completed(session, row, given.metrics)
        new = artifacts.record(session, row, given.metrics, needs_contents=not given.external, proof=proof)
        payloads = [artifact_records.recorded(row, completed)] if new or completed else []
        made = artifacts.get(session, row.address)
        for source in given.sources:
            lineage.link(session, source, made.address, made.run or "", made.step)
        enqueued = cloudevents.enqueue(session, *payloads)
        view = views(session, [made])[0]
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return view


def _check_runnable(address: artifact.Address) -> None:
    # Contents of a store have other versions, such as a digest.
    if address.kind == "runnable" and runnable_descriptor.is_version(address.version):
        raise errors.InvalidError(f"{address} has no descriptor of a runnable; use `fuseml runnable register` (POST /runnables)")


def _check_project(project: str, caller: auth.Caller) -> None:
    # Alike for artifacts that exist and that do not: names cannot be probed.
    if caller.step is not None and caller.step.project != project:
        raise errors.ForbiddenError(f"a step of run {caller.step.run} works with the artifacts of its own project only")


def _of_step(given: descriptor.Descriptor, step: auth.StepCaller) -> descriptor.Descriptor:
    for name, own in (("run", step.run), ("step", step.step)):
        claimed = getattr(given, name)
        if claimed and claimed != own:
            raise errors.ForbiddenError(f"a step of run {step.run} registers artifacts of its own {name} only")
    return given if given.external else given.model_copy(update={"run": step.run, "step": step.step})


def _check_origin(session: sqlmodel.Session, address: artifact.Address, given: descriptor.Descriptor, caller: auth.Caller) -> None:
    run = runs.find_named(session, given.run) if given.run else None
    if given.run and (run is None or run.project != address.project):
        raise errors.InvalidError(f"run: there is no run {given.run!r} of the project {address.project!r}")
    if run is not None and given.step and given.step not in {step.name for step in runs.steps(session, [run.id])}:
        raise errors.InvalidError(f"step: {run.name} has no step {given.step!r}")
    readable = [source for source in given.sources if caller.step is None or artifact.Address.parse(source).project == address.project]
    missing = set(given.sources) - artifacts.known(session, readable)
    if missing:
        # Alike for those of other projects, which a step cannot probe.
        raise errors.InvalidError(f"sources: there is no artifact {min(missing)}" + (" in the project" if caller.step else ""))


def _check_deleted(session: sqlmodel.Session, row: artifacts.Artifact) -> None:
    digest = artifact_names.deleted_digest(session, row.address)
    if digest is not None and digest != row.digest:
        raise errors.ConflictError(
            f"{row.address} was deleted with the digest {digest}, and an address never gets other contents: choose another version",
            details={"address": row.address, "different": {"digest": {"stored": digest, "given": row.digest}}},
        )


def _row(address: artifact.Address, given: descriptor.Descriptor) -> artifacts.Artifact:
    framework = given.framework
    return artifacts.Artifact(
        address=str(address),
        kind=address.kind,
        project=address.project,
        name=address.name,
        version=address.version,
        framework=framework.name if framework else None,
        framework_version=framework.version if framework else None,
        framework_order=versions.sort_key(framework.version) if framework else None,
        details=given.metadata,
        created=clock.now(),
        **given.model_dump(include={"type", "format", "digest", "size", "location", "external", "run", "step"}),
    )


def _facts(session: sqlmodel.Session, row: artifacts.Artifact) -> dict[str, object]:
    framework = f"{row.framework} {row.framework_version or ''}".strip() if row.framework else None
    metrics = artifacts.metrics_of(session, [row.address]).get(row.address, {})
    return {
        **{name: getattr(row, name) for name in _FACTS},
        "framework": framework,
        **{f"metrics.{name}": value for name, value in metrics.items()},
        **{f"metadata.{name}": value for name, value in row.details.items()},
    }


def _given_facts(given: descriptor.Descriptor) -> dict[str, object]:
    return {
        **given.model_dump(include=set(_FACTS)),
        "framework": f"{given.framework.name} {given.framework.version}".strip() if given.framework else None,
        **{f"metrics.{name}": value for name, value in given.metrics.items()},
        **{f"metadata.{name}": value for name, value in given.metadata.items()},
    }


def delete(deps: Deps, address: artifact.Address, by: str) -> None:
    """Delete the descriptor of an artifact; its contents and its lineage stay, its copies in other stores go. Raises NotFoundError, ConflictError while it is in use."""
    with deps.store.write() as session:
        row = artifacts.get(session, str(address))
        tags = [tag.tag for tag in artifact_names.tags(session, [row.address]).get(row.address, [])]
        if tags:
            raise errors.ConflictError(f"{address} has tags ({', '.join(tags[:_SHOWN])}); remove them first, with `fuseml artifact untag`")
        serving = _serving(session, row)
        if row.kind == "runnable" and runnables.is_registered(session, row.address):
            raise errors.ConflictError(
                f"{address} is a registered runnable; delete it with `fuseml runnable delete {row.name}@{row.version}`"
            )
        if serving:
            raise errors.ConflictError(f"{address} is served by {', '.join(serving[:_SHOWN])}; serve another version first")
        noted = artifact_names.note_deletion(session, row, by, clock.now())
        digest = row.digest
        executions.forget(session, artifact_copies.discard(session, row.address, clock.ahead(deps.contents_grace)))
        artifacts.delete(session, row)
        deleted = events.ArtifactDeleted(address=str(address), by=by, change=noted.sequence or 0, digest=digest)
        enqueued = cloudevents.enqueue(session, deleted)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _serving(session: sqlmodel.Session, row: artifacts.Artifact) -> list[str]:
    if row.kind != "model":
        return []
    return applications.serving(session, row.project, {row.address, f"models:/{row.name}/{row.version}", row.location or row.address})


def lineage_of(deps: Deps, address: artifact.Address, direction: lineage.Direction = "both", depth: int = _DEPTH) -> Lineage:
    """The neighbourhood of an artifact, also of a deleted one. Raises NotFoundError for an address without artifact and edges."""
    text = str(address)
    with deps.store.read() as session:
        near = lineage.neighbourhood(session, text, direction, depth, MOST_EDGES)
        ends = list(dict.fromkeys([text, *(end for edge in near.edges for end in (edge.source, edge.target))]))
        recorded = artifacts.known(session, ends)
        if text not in recorded and len(ends) == 1:
            artifacts.get(session, text)
        return Lineage(text, near, {end: end in recorded for end in ends})
