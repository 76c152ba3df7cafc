"""The workflows that an artifact starts: those with an assignment to it, and those whose document lists it in `on.patterns`.

An artifact does not start a workflow from one of whose runs it derives, directly or through runs of other workflows: that would never end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlmodel

from fuseml.domain import artifact, events
from fuseml.domain.artifacts import subscription
from fuseml.domain.runnables import watching
from fuseml.domain.runnables.descriptor import Watch
from fuseml.domain.workflows.models import On, Workflow
from fuseml.store import artifact_search, artifacts, codesets, lineage, runs, workflows
from fuseml.usecases import runnables


class Code(NamedTuple):
    """A codeset version, and the ref that it was on."""

    project: str
    codeset: str
    ref: str
    commit: str


class Match(NamedTuple):
    """A workflow that an artifact starts if it passes the filters of one of `patterns`: by an assignment or, without one, by the workflow's own
    document.
    """

    workflow: str
    assignment: str | None
    patterns: Sequence[subscription.Subscription]

    @property
    def is_filtered(self) -> bool:
        return all(pattern.is_filtered for pattern in self.patterns)

    @property
    def meaning(self) -> str:
        """The part of the identity of its run that separates it from other runs on the same code."""
        return self.assignment or "pattern"


def matches(session: sqlmodel.Session, kind: str, project: str, name: str) -> list[Match]:
    """One match for each assignment, then the workflows that list the artifact and are not assigned to it without filters."""
    assignments = ((row, subscription.stored(row.pattern)) for row in workflows.assignments(session))
    assigned = [Match(row.workflow, row.id, [pattern]) for row, pattern in assignments if pattern.covers(kind, project, name)]
    names = {match.workflow for match in assigned if not match.is_filtered}
    listed = []
    for row in workflows.triggered_by(session, "patterns"):
        of_document = On.model_validate(row.document["on"]).subscriptions if row.workflow not in names else []
        covering = [pattern for pattern in of_document if pattern.covers(kind, project, name)]
        if covering:
            listed.append(Match(row.workflow, None, covering))
    return [*assigned, *listed]


def watches(session: sqlmodel.Session, recorded: events.ArtifactRecorded, document: Workflow) -> list[Watch]:
    """What the steps of the workflow watch of the artifact; nothing where the project lacks a runnable, which its run reports."""
    expanded = runnables.expanded(session, document, recorded.project)
    return watching.watches(document, recorded.kind, runnables.described(session, expanded))


def narrowed(found: Sequence[Match], watched: Mapping[str, Sequence[Watch]]) -> list[Match]:
    """The matches with the conditions on metrics that their workflows watch."""
    return [match._replace(patterns=watching.narrowed(match.patterns, watched[match.workflow])) for match in found]


def unchanged(session: sqlmodel.Session, row: artifacts.Artifact | None, watched: Sequence[Watch]) -> str:
    """The reason for which the artifact is no change for the workflow, by the fields that its steps watch; empty if it is one."""
    if row is None or not any(watch.fields for watch in watched):
        return ""
    before = artifacts.version_before(session, row)
    reason = watching.unchanged(watched, _facts(row), _facts(before) if before else None)
    return f"{row.address} is no change: its {reason} in {before.address}" if reason and before else ""


def _facts(row: artifacts.Artifact) -> Mapping[str, object]:
    return {**row.details, **row.model_dump(include={"type", "format", "framework", "framework_version", "digest", "size"})}


def waiting(session: sqlmodel.Session, recorded: events.ArtifactRecorded, found: Sequence[Match]) -> dict[str, list[Match]]:
    """Workflow -> its matches, of those that the artifact may start now.

    Facts that complete an artifact concern workflows with filters only. None of those starts again: its filters were passed before.
    """
    by_workflow: dict[str, list[Match]] = {}
    for match in found:
        by_workflow.setdefault(match.workflow, []).append(match)
    filtered = {name for name, matched in by_workflow.items() if all(match.is_filtered for match in matched)}
    started = {name for name in filtered if runs.of_artifact(session, name, recorded.address)}
    return {name: by_workflow[name] for name in by_workflow if name not in started and (name in filtered or not recorded.completed)}


def passed(session: sqlmodel.Session, row: artifacts.Artifact | None, matched: Sequence[Match]) -> tuple[Match | None, str]:
    """The first match of a workflow whose filters the artifact passes, or None; and then the filters that it does not pass."""
    reasons: list[str] = []
    for match in matched:
        for pattern in match.patterns:
            if not pattern.is_filtered:
                return match, ""
            reason = artifact_search.shortfall(session, row, pattern.filters) if row else "it is not recorded"
            if not reason:
                return match, ""
            reasons.append(f"{pattern} ({reason})")
    return None, "; ".join(dict.fromkeys(reasons))


def uri_of(recorded: events.ArtifactRecorded, row: artifacts.Artifact | None) -> str | None:
    """The address by which a run loads an artifact, as its store knows it; None for a model that no store is known to have.

    A model of MLflow's format is where its location says; one of another format, and a dataset, have FuseML's address.
    """
    if row is None:
        # Only MLflow's registry reports models that have no record.
        return f"models:/{recorded.name}/{recorded.version}" if recorded.kind == "model" else recorded.address
    if row.kind != "model" or row.format not in (None, "mlflow"):
        return row.address
    return row.location or row.details.get("uri")


def origin_of(session: sqlmodel.Session, producer: runs.Run | None) -> runs.Run | None:
    """The run on code that the producer derives from, which may be the producer itself; None without one."""
    seen: set[str] = set()
    while producer is not None and producer.codeset is None:
        if producer.caused_by is None or producer.caused_by in seen:
            return None
        seen.add(producer.caused_by)
        producer = runs.find_named(session, producer.caused_by)
    return producer


def code_of(session: sqlmodel.Session, recorded: events.ArtifactRecorded, origin: runs.Run | None) -> Code | None:
    """The codeset version that the artifact derives from: that of the run on code, or the one that brought a data set; None without exactly one."""
    if origin is not None:
        ref = origin.ref or ""
        return Code(origin.project, origin.codeset, ref, origin.commit) if origin.codeset and ref and origin.commit else None
    sources = [artifact.Address.parse(text) for text in lineage.stated(session, recorded.address, "code")]
    own = [source for source in sources if source.project == recorded.project]
    if len(own) != 1 or codesets.find_codeset(session, own[0].project, own[0].name) is None:
        return None
    return Code(own[0].project, own[0].name, codesets.default_ref(session, own[0].project, own[0].name), own[0].version)


def cause_of(session: sqlmodel.Session, producer: str | None, workflow: str) -> str | None:
    """The run of the workflow among `producer` (the name of a run) and the runs that caused it; None without one."""
    seen: set[str] = set()
    while producer and producer not in seen:
        seen.add(producer)
        row = runs.find_named(session, producer)
        if row is None:
            return None
        if row.workflow == workflow:
            return row.name
        producer = row.caused_by
    return None
