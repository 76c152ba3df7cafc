"""Use cases of `artifacts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlmodel

from functions.artifacts.deps import Deps
from fuseml.domain import artifact, errors, events, plans
from fuseml.runtime import clock
from fuseml.store import artifacts, paging, runs
from fuseml.usecases import model_digests

# Lineage is walked this far in both directions: code, model, products of the model.
_MAX_DISTANCE = 10


def page(deps: Deps, limit: int, cursor: str | None, **filters: str | None) -> paging.Slice[artifacts.Artifact]:
    """A page of artifacts."""
    with deps.store.read() as session:
        return artifacts.page(session, paging.Page(limit, cursor), **filters)


def lineage(deps: Deps, address: str) -> list[artifacts.ArtifactEdge]:
    """Every edge that is connected with the artifact, nearest first. Raises InvalidError, NotFoundError."""
    artifact.Address.parse(address)
    with deps.store.read() as session:
        artifacts.get(session, address)
        edges: dict[tuple[str, str, str], artifacts.ArtifactEdge] = {}
        frontier, seen = [address], {address}
        for _ in range(_MAX_DISTANCE):
            for edge in artifacts.edges(session, frontier):
                edges.setdefault((edge.source, edge.target, edge.run), edge)
            frontier = sorted({end for edge in edges.values() for end in (edge.source, edge.target)} - seen)
            seen.update(frontier)
            if not frontier:
                break
        return list(edges.values())


def on_codeset_pushed(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Record a commit as a codeset artifact."""
    pushed = events.CodesetPushed.model_validate(event.data)
    address = artifact.code(pushed.project, pushed.codeset, pushed.commit)
    return _record(session, address, None, {"ref": pushed.ref, "message": pushed.message, "pusher": pushed.pusher})


def on_model_registered(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Record a model version: under the project of the run that produced it, or else under the tracking server's own name."""
    model = events.ModelRegistered.model_validate(event.data)
    project = model.tags.get("fuseml.project") or model.extension
    address = artifact.Address("model", project, model.name, model.version)
    details = {
        "uri": f"models:/{model.name}/{model.version}",
        "extension": model.extension,
        "source": model.model_source,
        "digest": model_digests.of_tags(model.tags),
    }
    return _record(session, address, model.tags.get("fuseml.run"), details)


def on_model_tagged(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Note the digest with which the trainer tags the version that it has registered. The first digest of a model stays; other text is none."""
    tagged = events.ModelTagged.model_validate(event.data)
    digest = model_digests.of_tags({tagged.key: tagged.value or ""})
    if digest is None:
        return []
    uri = f"models:/{tagged.name}/{tagged.version}"
    if not artifacts.note_digest(session, uri, digest):
        # Events have no order: that of the registration is on its way.
        raise errors.TemporaryError(f"{uri} is not recorded yet")
    return []


def on_step_finished(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Record an output `models:/name/version` as a model, and `dataset://project/name/version` of the own project as a dataset.

    The outputs `metrics` describe a model, `uri`, `digest` and `rows` a dataset. Lineage leads from the run's codeset version and, for a dataset,
    from the models and datasets among the inputs of the step.
    """
    step = events.RunStepFinished.model_validate(event.data)
    recorded: list[events.Payload] = []
    for value in step.outputs.values():
        model, dataset = artifact.model_of(step.project, value), artifact.dataset_of(step.project, value)
        address = model or dataset
        if address is None:
            continue
        described = {name: step.outputs.get(name) for name in ("uri", "digest", "rows")}
        recorded += _record(
            session, address, step.run, described if dataset else {"uri": value, "metrics": _metrics(step.outputs.get("metrics", ""))}
        )
        run = runs.get(session, step.run)
        sources = [artifact.code(run.project, run.codeset, run.commit)] if run.codeset and run.commit else []
        for source in [*sources, *(_inputs(session, run, step.step) if dataset else [])]:
            artifacts.link(session, str(source), str(address), step.run)
    return recorded


def _inputs(session: sqlmodel.Session, run: runs.Run, step: str) -> list[artifact.Address]:
    """The artifacts of the project among the inputs of a step, by the stored plan and the outputs of the steps before it.

    Raises TemporaryError while such an output is not recorded.
    """
    planned = plans.StepPlan.model_validate(next(item for item in run.plan["steps"] if item["name"] == step)) if run.plan else None
    outputs = {row.name: row.outputs for row in runs.steps(session, [run.id])}
    found: list[artifact.Address] = []
    for variable in planned.variables if planned else ():
        if any(isinstance(part, plans.SecretPart) for part in variable.value):
            continue
        try:
            value = plans.evaluate(variable.value, outputs, plans.no_secret)
        except errors.PermanentError as error:
            # Events have no order: the report of that step is on its way.
            raise errors.TemporaryError(error.message) from error
        address = artifact.model_of(run.project, value) or artifact.named_in(run.project, value)
        found += [address] if address else []
    return found


def _metrics(text: str) -> dict[str, Any]:
    try:
        metrics = json.loads(text or "{}")
    except ValueError:
        # An output of another shape is valid; only a JSON object is metadata.
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _record(session: sqlmodel.Session, address: artifact.Address, run: str | None, details: dict[str, Any]) -> list[events.Payload]:
    row = artifacts.Artifact(
        address=str(address),
        kind=address.kind,
        project=address.project,
        name=address.name,
        version=address.version,
        run=run,
        details={key: value for key, value in details.items() if value},
        created=clock.now(),
    )
    if not artifacts.record(session, row):
        return []
    return [
        events.ArtifactRecorded(
            address=str(address), kind=address.kind, project=address.project, name=address.name, version=address.version, run=run
        )
    ]
