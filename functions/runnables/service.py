"""Use cases of `runnables`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlmodel

from functions.runnables.deps import Deps
from fuseml.domain import artifact, errors, events
from fuseml.domain.runnables import builtin, descriptor, matching, reference
from fuseml.domain.runnables.descriptor import Runnable
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifact_copies, artifact_names, artifacts, codesets, executions, paging, runnables, workflows
from fuseml.usecases import runnables as registry

DEFAULT_PROJECT = "workspace"
"""The project of a runnable whose client names none: that of the original."""

_BUILT_IN = "built-in:"
_ROUNDS = 20
_ALL = paging.Page(limit=1_000_000)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class View:
    """A version of a runnable; `row` is None for a built-in one. `fits` names the inputs that take the artifact that was asked for."""

    address: str
    project: str
    runnable: Runnable
    row: runnables.Runnable | None = None
    fits: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters of a list. The functions decide about texts; `consumes` is the artifact that an input must take."""

    project: str | None = None
    name: str | None = None
    id: Callable[[str], bool] | None = None
    kind: Callable[[str], bool] | None = None
    labels: Mapping[str, Callable[[str], bool]] | None = None
    consumes: str | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """The match of an offer with one input. `offer` is an address, or the name of an output."""

    input: str
    offer: str
    match: matching.Match


def register(deps: Deps, project: str | None, runnable: Runnable, original: Mapping[str, Any] | None, by: str) -> View:
    """Register a version; the same content again changes nothing. Raises NotFoundError for the project, ConflictError for other content."""
    with deps.store.write() as session:
        if project is None:
            codesets.ensure_project(session, DEFAULT_PROJECT, clock.now())
        row, new = registry.register(session, project or DEFAULT_PROJECT, runnable, by=by, original=original)
        enqueued = cloudevents.enqueue(session, *([_recorded(new)] if new else []))
        view = _view(row)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return view


def _recorded(row: artifacts.Artifact) -> events.Payload:
    return events.ArtifactRecorded(address=row.address, kind=row.kind, project=row.project, name=row.name, version=row.version)


def _view(row: runnables.Runnable, fits: Sequence[str] = ()) -> View:
    return View(row.address, row.project, Runnable.model_validate(row.document), row, fits)


def _built_in(runnable: Runnable) -> View:
    return View(builtin.address(runnable), builtin.PROJECT, runnable)


def page(deps: Deps, limit: int, cursor: str | None, wanted: Wanted) -> paging.Slice[View]:
    """Runnables by address, and after them the built-in ones."""
    found: list[View] = []
    with deps.store.read() as session:
        offer = _offer(session, wanted.consumes) if wanted.consumes else None
        for _ in range(_ROUNDS if not (cursor or "").startswith(_BUILT_IN) else 0):
            rows = runnables.page(session, paging.Page(limit - len(found), cursor), project=wanted.project, name=wanted.name)
            found += (view for row in rows.rows if (view := _admitted(_view(row), wanted, offer)))
            cursor = rows.next_cursor or f"{_BUILT_IN}0"
            if rows.next_cursor is None or len(found) == limit:
                break
    if not (cursor or "").startswith(_BUILT_IN):
        return paging.Slice(found, cursor)
    own = [view for runnable in builtin.by_name().values() if (view := _admitted(_built_in(runnable), wanted, offer))]
    start = _position(cursor or "")
    rest = own[start : start + limit - len(found)]
    following = start + len(rest)
    return paging.Slice([*found, *rest], f"{_BUILT_IN}{following}" if following < len(own) else None)


def _position(cursor: str) -> int:
    text = cursor.removeprefix(_BUILT_IN)
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise errors.InvalidError("the cursor is not one of this server; begin again without it")
    return int(text)


def _admitted(view: View, wanted: Wanted, offer: matching.Offer | None) -> View | None:
    runnable = view.runnable
    is_refused = (
        (wanted.name is not None and runnable.name != wanted.name)
        or (view.row is None and wanted.project not in (None, builtin.PROJECT))
        or (wanted.id is not None and not wanted.id(runnable.name))
        or (wanted.kind is not None and not wanted.kind(runnable.kind))
        or any(
            not admits(runnable.labels.get(label, "")) or label not in runnable.labels for label, admits in (wanted.labels or {}).items()
        )
    )
    if is_refused:
        return None
    if offer is None:
        return view
    fits = [item.name for item in runnable.inputs if item.is_artifact and matching.match(offer, item).fits]
    return View(view.address, view.project, runnable, view.row, fits) if fits else None


def _offer(session: sqlmodel.Session, address: str) -> matching.Offer:
    text = artifact.reference(address)
    exact = artifact_names.tagged(session, text) if isinstance(text, artifact.Tagged) else address
    row = artifacts.get(session, exact)
    return matching.of_artifact(row.kind, row.format, row.framework, row.framework_version)


def get(deps: Deps, name: str, project: str | None, version: str | None) -> View:
    """The highest version of a runnable that the constraint admits. Without a project, the name must be that of one only.

    Raises NotFoundError, InvalidError for a name that several projects have.
    """
    with deps.store.read() as session:
        return _get(session, name, project, version)


def _get(session: sqlmodel.Session, name: str, project: str | None, version: str | None) -> View:
    wanted = reference.Reference(name, version or "")
    if version is not None:
        reference.parse(str(wanted))
    if project is None and not builtin.is_reserved(name):
        owners = runnables.projects(session, name)
        if len(owners) > 1:
            listed = ", ".join(owners[:_SHOWN])
            raise errors.InvalidError(f"several projects have a runnable {name!r} ({listed}): name the project")
        project = owners[0] if owners else None
    found = registry.find(session, project or "", wanted)
    if found is None and version is None and project is not None:
        # Its releases may all be pre-releases.
        newest = reference.newest(runnables.texts(session, project, name))
        found = registry.find(session, project, reference.Reference(name, newest)) if newest else None
    if found is None:
        raise errors.NotFoundError(registry.missing(session, project or "", wanted))
    row = runnables.find(session, found.address)
    return _view(row) if row else _built_in(found.runnable)


def versions(deps: Deps, name: str, project: str) -> Sequence[View]:
    """All versions of a project's runnable, newest first. Raises NotFoundError without one."""
    with deps.store.read() as session:
        rows = runnables.versions(session, project, name)
        if not rows:
            raise errors.NotFoundError(registry.missing(session, project, reference.Reference(name)))
        return [_view(row) for row in rows]


def explain(deps: Deps, name: str, project: str | None, version: str | None, offer: str) -> tuple[View, Sequence[Explained]]:
    """The matches of an artifact, or of the outputs of another runnable (`NAME[@CONSTRAINT]`), with each input of a runnable.

    Raises NotFoundError, InvalidError.
    """
    with deps.store.read() as session:
        view = _get(session, name, project, version)
        if "://" in offer:
            offers = {offer: _offer(session, offer)}
        else:
            other = reference.parse(offer)
            source = _get(session, other.name, project, other.versions or None)
            offers = {f"{source.runnable.name}.{output.name}": matching.of_output(output) for output in source.runnable.outputs}
        return view, [
            Explained(item.name, text, matching.match(given, item)) for item in view.runnable.inputs for text, given in offers.items()
        ]


def delete(deps: Deps, name: str, project: str, version: str, by: str) -> None:
    """Delete a version. Raises NotFoundError, ConflictError while a workflow uses it or while its artifact has tags."""
    address = str(artifact.Address("runnable", project, name, version))
    with deps.store.write() as session:
        row = runnables.get(session, address)
        users = _users(session, row)
        if users:
            raise errors.ConflictError(
                f"{address} is used by the workflow{'s' if len(users) > 1 else ''} {', '.join(users[:_SHOWN])}; change or delete "
                f"{'them' if len(users) > 1 else 'it'} first",
                details={"workflows": users},
            )
        described = artifacts.find(session, address)
        tags = [tag.tag for tag in artifact_names.tags(session, [address]).get(address, [])]
        if tags:
            raise errors.ConflictError(f"{address} has tags ({', '.join(tags[:_SHOWN])}); remove them first, with `fuseml artifact untag`")
        runnables.delete(session, row)
        payloads: list[events.Payload] = []
        if described is not None:
            noted = artifact_names.note_deletion(session, described, by, clock.now())
            executions.forget(session, artifact_copies.discard(session, address, clock.ahead(deps.contents_grace)))
            artifacts.delete(session, described)
            payloads.append(events.ArtifactDeleted(address=address, by=by, change=noted.sequence or 0, digest=row.digest))
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _users(session: sqlmodel.Session, row: runnables.Runnable) -> list[str]:
    """The workflows whose steps would run this version in its project."""
    texts = runnables.texts(session, row.project, row.name)
    found: list[str] = []
    for workflow in workflows.current(session, _ALL).rows:
        named = (step.get("runnable") or "" for step in workflow.document.get("steps", ()))
        wanted = [reference.parse(text) for text in named if text]
        if any(item.name == row.name and reference.choose(item, texts) == row.version for item in wanted):
            found.append(workflow.workflow)
    return found


def json_schema() -> dict[str, object]:
    """The JSON Schema of descriptors."""
    return descriptor.json_schema()
