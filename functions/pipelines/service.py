"""Use cases of `pipelines`: composition, and templates that become workflows of a project."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlmodel

from functions.pipelines import catalogs
from functions.pipelines.deps import Deps
from fuseml.domain import artifact, errors, events
from fuseml.domain.pipelines import additions, components, composition, templates
from fuseml.domain.runnables import reference
from fuseml.domain.workflows import Workflow
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifact_names, artifacts, codesets, workflows
from fuseml.usecases import runnables

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Added:
    """The workflow of a template, the patterns that it is assigned to, and whether the request has changed anything."""

    row: workflows.WorkflowRevision
    template: str
    patterns: Sequence[str]
    changed: bool


@dataclass(frozen=True, slots=True)
class Described:
    """A template of a catalogue; `problem` is the reason for which it cannot be added, and then it has no workflow."""

    name: str
    workflow: Workflow | None
    problem: str = ""


def compose(
    deps: Deps, name: str, project: str, named: Sequence[str], connections: Sequence[str], inputs: Sequence[str], description: str
) -> composition.Composition:
    """The workflow of runnables of the project. Raises NotFoundError for one that does not exist, and as the composition does."""
    wanted = components.wanted(named)
    with deps.store.read() as session:
        found = [(item, runnables.find(session, project, item.reference)) for item in wanted]
        absent = [item.reference for item, registered in found if registered is None]
        if absent:
            raise errors.NotFoundError(_absent(session, project, absent))
    parts = components.named([(item, registered) for item, registered in found if registered is not None])
    return composition.compose(name, parts, connections, inputs, description)


def _absent(session: sqlmodel.Session, project: str, absent: Sequence[reference.Reference]) -> str:
    return "; ".join(dict.fromkeys(runnables.missing(session, project, item) for item in absent))


def describe(contents: catalogs.Contents) -> list[Described]:
    """The templates of a catalogue by name."""
    found: list[Described] = []
    for name, content in sorted(contents.files.items()):
        try:
            template = templates.load(templates.Reference(contents.catalog.name, name), contents.version, content)
            found.append(Described(name, template.workflow))
        except errors.InvalidError as error:
            found.append(Described(name, None, error.message))
    return found


def add(deps: Deps, text: str, name: str, project: str, inputs: Mapping[str, str]) -> Added:
    """Create the workflow `name` of a template in the project, and assign it to the patterns among the inputs, all or nothing.

    The same request again changes nothing. Raises NotFoundError for the project, the template, and a codeset or an artifact that an input
    names; InvalidError for the inputs; ConflictError for another workflow of the name; TemporaryError while the catalogue cannot be read.
    """
    wanted = templates.reference(text)
    with deps.store.read() as session:
        codesets.project(session, project)
    template = _template(deps, wanted, project)
    addition = additions.fill(template, name, project, inputs)
    with deps.store.write() as session:
        _expect_existing(session, addition, project)
        runnables.check(session, addition.workflow, project, lambda _: None)
        row, is_new = _stored(session, addition)
        payloads: list[events.Payload] = [events.WorkflowUpdated(workflow=name, revision=row.revision)] if is_new else []
        for pattern in addition.patterns:
            assigned = workflows.assign(session, uuid.uuid4().hex, name, pattern, clock.now())
            payloads += [events.WorkflowAssigned(workflow=name, pattern=pattern, assignment=assigned.id)] if assigned else []
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return Added(row, row.document.get("template", ""), addition.patterns, bool(payloads))


def _template(deps: Deps, wanted: templates.Reference, project: str) -> templates.Template:
    contents = catalogs.read(deps, wanted.catalog, project)
    content = contents.files.get(wanted.name)
    if content is None:
        known = ", ".join(sorted(contents.files)[:20])
        raise errors.NotFoundError(
            f"the catalogue {wanted.catalog!r} has no template {wanted.name!r} at {contents.version[:12]}; it has {known}"
        )
    return templates.load(wanted, contents.version, content)


def _expect_existing(session: sqlmodel.Session, addition: additions.Addition, project: str) -> None:
    """Raises NotFoundError for a codeset or an artifact that does not exist. A pattern names none."""
    for pattern in addition.patterns:
        if workflows.is_one_codeset(pattern):
            codesets.codeset(session, project, pattern.removeprefix(f"code://{project}/"))
    for address in addition.addresses:
        found = artifact.reference(address)
        artifacts.get(session, artifact_names.tagged(session, found) if isinstance(found, artifact.Tagged) else address)


def _stored(session: sqlmodel.Session, addition: additions.Addition) -> tuple[workflows.WorkflowRevision, bool]:
    """The stored workflow, and whether it is new. Raises ConflictError for another content or other assignments under the name."""
    name = addition.workflow.name
    document = addition.workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if workflows.is_deleted(session, name):
        return workflows.add(session, name, document, clock.now()), True
    row = workflows.revision(session, name)
    different = sorted(key for key in {*document, *row.document} - {"template"} if document.get(key) != row.document.get(key))
    if different:
        made = row.document.get("template")
        raise errors.ConflictError(
            f"the workflow {name!r} exists with other content ({', '.join(different)})"
            + (f", made from {made}" if made else "")
            + "; choose "
            f"another name, or remove it with `fuseml workflow delete {name}`",
            details={"different": different},
        )
    others = [item.pattern for item in workflows.assignments(session, workflow=name) if item.pattern not in addition.patterns]
    if others:
        listed = ", ".join(others[:_SHOWN])
        raise errors.ConflictError(
            f"the workflow {name!r} exists and is assigned to {listed}; choose another name, because the workflows of all projects share theirs"
        )
    return row, False


def document_of(row: workflows.WorkflowRevision) -> dict[str, Any]:
    """The workflow as the API shows it."""
    return {"created": row.created, **row.document, "revision": row.revision}
