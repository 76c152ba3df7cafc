"""The records of runs (domain.lineage.record), read from the tables."""

from __future__ import annotations

from sqlmodel import Session

from fuseml.domain import plans, urls
from fuseml.domain.lineage import record
from fuseml.domain.lineage.record import ArtifactRecord, Edge, RunRecord, StepRecord
from fuseml.store import artifacts, codesets, lineage, runs


def read(session: Session, row: runs.Run) -> RunRecord:
    """The record of a run."""
    edges = lineage.of_run(session, row.name)
    produced = {item.address: item for item in artifacts.produced_by(session, [row.name]).get(row.name, [])}
    steps = tuple(
        StepRecord(step.name, step.state, step.started, step.finished, step.cause, step.outputs, step.reused_from)
        for step in runs.steps(session, [row.id])
    )
    ends = {end for edge in edges for end in (edge.source, edge.target)} | {*record.named_outputs(row.project, steps)}
    produced |= {item.address: item for item in artifacts.of_addresses(session, sorted(ends - produced.keys()))}
    metrics = artifacts.metrics_of(session, list(produced))
    codeset = codesets.find_codeset(session, row.project, row.codeset) if row.codeset else None
    return RunRecord(
        id=row.id,
        name=row.name,
        workflow=row.workflow,
        revision=row.revision,
        project=row.project,
        state=row.state,
        created=row.created,
        codeset=row.codeset,
        commit=row.commit,
        ref=row.ref,
        repository=urls.shown(codeset.url) if codeset else "",
        started=row.started,
        finished=row.finished,
        cause=row.cause,
        inputs=row.inputs,
        outputs=row.outputs,
        plan=plans.Plan.model_validate(row.plan) if row.plan else None,
        steps=steps,
        edges=tuple(Edge(edge.source, edge.target, edge.step) for edge in edges),
        artifacts={
            address: ArtifactRecord(
                address=address,
                digest=item.digest,
                size=item.size,
                type=item.type,
                format=item.format,
                framework=item.framework,
                framework_version=item.framework_version,
                location=item.location,
                external=item.external,
                run=item.run,
                step=item.step,
                metrics=metrics.get(address, {}),
            )
            for address, item in produced.items()
        },
    )
