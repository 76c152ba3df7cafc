"""OpenLineage 2-0-2: the events of a run and of its steps, with the explicit lineage facet.

A workflow is a job, and so is each of its steps, whose runs name the run as their parent. The kind and the project of an artifact are the
namespace of its dataset, its name is the name, its version a facet. The facet of FuseML's own holds the descriptor.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuseml.domain import artifact, times, urls
from fuseml.domain.lineage.record import ArtifactRecord, Edge, RunRecord, StepRecord, checkouts, consumed, job_of

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
ARTIFACT_FACET = "https://fuseml.org/schemas/openlineage/ArtifactDatasetFacet.v1.json#/$defs/ArtifactDatasetFacet"
RUN_FACET = "https://fuseml.org/schemas/openlineage/RunFacet.v1.json#/$defs/RunFacet"
_FACETS = "https://openlineage.io/spec/facets"
_ENDS: Mapping[str, str] = {"succeeded": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
_LONGEST_CAUSE = 2000

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Producer:
    """The sender of events: its version, the namespace of its jobs, and the address of its API, which links lead to."""

    version: str
    namespace: str
    url: str

    @property
    def uri(self) -> str:
        """The identity of the sender in events and facets."""
        return f"https://fuseml.org/versions/{self.version}"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event to send. `key` identifies it among the events of its run."""

    key: str
    document: Document


def events_of(run: RunRecord, producer: Producer, settled_steps: Collection[str], *, settled: bool) -> list[RunEvent]:
    """The events that a run has by now, in the order to send them.

    The end of a step follows once its artifacts are recorded (`settled_steps`), that of the run once all are (`settled`). Equal records give
    equal events: a repeated one has the same run id, type and time. Steps that were skipped or reused have none.
    """
    form = _Form(run, producer)
    found: list[RunEvent] = []
    over = run.state in _ENDS and settled
    if run.started or over:
        found.append(RunEvent("run/START", form.run_event("START", run.started or run.created)))
    for step in run.steps:
        found += form.step_events(step, settled=settled or step.name in settled_steps)
    if over:
        kind = _ENDS[run.state]
        found.append(RunEvent("run/END", form.run_event(kind, run.finished or run.started or run.created)))
    return found


def run_id(moment: str, *identity: str) -> str:
    """A UUID of version 7 at that moment: the rest of it follows from the identity, so that a repeated event names the same run."""
    milliseconds = int(times.unix(moment) * 1000)
    random = int.from_bytes(hashlib.sha256("\0".join(identity).encode()).digest()[:10], "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class _Flow:
    """The addresses that went in and came out, and the edges between them."""

    inputs: Sequence[str]
    outputs: Sequence[str] = ()
    edges: Sequence[Edge] = ()


class _Form:
    """Writes the events of one run."""

    def __init__(self, run: RunRecord, producer: Producer) -> None:
        self._run, self._producer = run, producer
        self._job = f"{run.project}.{run.workflow}" if run.project else run.workflow
        self._id = run_id(run.created, run.id)

    def run_event(self, kind: str, moment: str) -> Document:
        """The start of the run with the artifacts that it was given, or its end with all its lineage."""
        given = _first(self._run.code, *checkouts(self._run))
        if kind == "START":
            flow = _Flow(_first(*given, *_among(self._run, self._run.inputs.values())))
        else:
            outputs = [item.address for item in self._run.products]
            flow = _Flow(_without(outputs, given, consumed(self._run)), outputs, self._run.edges)
        facets = {"fuseml_run": self._run_facet(), **self._error(kind, self._run.cause)}
        return self._event(kind, moment, self._id, facets, self._job, "WORKFLOW", flow)

    def step_events(self, step: StepRecord, *, settled: bool) -> Iterator[RunEvent]:
        """The start and the end of a step that was executed."""
        if step.reused_from or step.state not in (*_ENDS, "running") or not (step.started or step.finished):
            return
        own = run_id(self._run.created, self._run.id, step.name)
        # An end without a time is only inferred from that of the run.
        end = step.finished or self._run.finished
        given = _first(*(address for address, item in checkouts(self._run).items() if item in self._checkouts(step.name)))
        begin = step.started or end or self._run.created
        yield RunEvent(f"step/{step.name}/START", self._step_event("START", begin, own, step, _Flow(given)))
        if step.state in _ENDS and end and settled:
            edges = [edge for edge in self._run.edges if edge.step == step.name]
            made = (item.address for item in self._run.products if item.step == step.name)
            outputs = _first(*made, *(edge.target for edge in edges))
            flow = _Flow(_without(outputs, given, consumed(self._run, step.name)), outputs, edges)
            yield RunEvent(f"step/{step.name}/END", self._step_event(_ENDS[step.state], end, own, step, flow))

    def _checkouts(self, step: str) -> Sequence[object]:
        return [item for planned in (self._run.plan.steps if self._run.plan else ()) if planned.name == step for item in planned.checkouts]

    def _step_event(self, kind: str, moment: str, own: str, step: StepRecord, flow: _Flow) -> Document:
        parent = {"run": {"runId": self._id}, "job": {"namespace": self._producer.namespace, "name": self._job}}
        facets = {
            "parent": self._facet(f"{_FACETS}/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet", **parent),
            **self._error(kind, step.cause),
        }
        job = f"{self._job}.{job_of(self._run, step.name)}"
        return self._event(kind, moment, own, facets, job, "STEP", flow)

    def _event(self, kind: str, moment: str, own: str, facets: Document, job: str, type: str, flow: _Flow) -> Document:
        engine = {"version": self._producer.version, "name": "FuseML", "openlineageAdapterVersion": self._producer.version}
        schema = f"{_FACETS}/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet"
        facets = {**facets, "processing_engine": self._facet(schema, **engine)}
        return {
            "eventType": kind,
            "eventTime": times.normalize(moment),
            "producer": self._producer.uri,
            "schemaURL": SCHEMA,
            "run": {"runId": own, "facets": facets},
            "job": {"namespace": self._producer.namespace, "name": job, "facets": self._job_facets(type, flow)},
            "inputs": [self._dataset(address) for address in flow.inputs],
            "outputs": [self._dataset(address) for address in flow.outputs],
        }

    def _job_facets(self, type: str, flow: _Flow) -> Document:
        kind = {"processingType": "BATCH", "integration": "FUSEML", "jobType": type}
        facets = {"jobType": self._facet(f"{_FACETS}/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet", **kind)}
        if self._run.repository and self._run.commit:
            code = {"type": "git", "url": self._run.repository, "repoUrl": self._run.repository, "version": self._run.commit}
            if (self._run.ref or "").startswith("refs/heads/"):
                code["branch"] = str(self._run.ref).removeprefix("refs/heads/")
            schema = f"{_FACETS}/1-1-0/SourceCodeLocationJobFacet.json#/$defs/SourceCodeLocationJobFacet"
            facets["sourceCodeLocation"] = self._facet(schema, **code)
        if flow.edges:
            facets["lineage"] = self._facet(f"{_FACETS}/1-0-0/LineageFacet.json#/$defs/LineageJobFacet", entries=_entries(flow))
        return facets

    def _dataset(self, address: str) -> Document:
        version = artifact.Address.parse(address).version
        facet = {"datasetVersion": version}
        return {
            "namespace": _key(address)[0],
            "name": _key(address)[1],
            "facets": {
                "version": self._facet(f"{_FACETS}/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet", **facet),
                "fuseml_artifact": self._facet(ARTIFACT_FACET, **_descriptor(self._run.of(address))),
            },
        }

    def _run_facet(self) -> Document:
        named = {"name": self._run.name, "workflow": self._run.workflow, "revision": self._run.revision, "project": self._run.project}
        link = {"url": f"{self._producer.url.rstrip('/')}/runs/{self._run.name}"} if self._producer.url else {}
        return self._facet(RUN_FACET, **named, **link)

    def _error(self, kind: str, cause: str | None) -> Document:
        if kind not in ("FAIL", "ABORT"):
            return {}
        fields = {"message": (cause or "no cause is known")[:_LONGEST_CAUSE], "programmingLanguage": "PYTHON"}
        return {"errorMessage": self._facet(f"{_FACETS}/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet", **fields)}

    def _facet(self, schema: str, **fields: object) -> Document:
        return {"_producer": self._producer.uri, "_schemaURL": schema, **fields}


def _first(*addresses: str | None) -> list[str]:
    """The addresses, each once."""
    return list(dict.fromkeys(address for address in addresses if address))


def _without(outputs: Sequence[str], *inputs: Sequence[str]) -> list[str]:
    return [address for address in _first(*(item for group in inputs for item in group)) if address not in outputs]


def _among(run: RunRecord, values: Iterable[str]) -> list[str]:
    found = (artifact.named_in(run.project, value) or artifact.model_of(run.project, value) for value in values)
    return [str(address) for address in found if address]


def _entries(flow: _Flow) -> list[Document]:
    """An entry for each dataset, with the datasets that fed it: versions of one name are one dataset."""
    fed: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for target in flow.outputs:
        fed.setdefault(_key(target), {})
    for edge in flow.edges:
        fed.setdefault(_key(edge.target), {})[_key(edge.source)] = None
    return [
        {
            "namespace": namespace,
            "name": name,
            "type": "DATASET",
            "inputs": [{"namespace": space, "name": source, "type": "DATASET"} for space, source in sources],
        }
        for (namespace, name), sources in fed.items()
    ]


def _key(address: str) -> tuple[str, str]:
    """Namespace and name of the dataset."""
    parsed = artifact.Address.parse(address)
    return f"{parsed.kind}://{parsed.project}", parsed.name


def _descriptor(item: ArtifactRecord) -> Document:
    fields: Document = {
        "address": item.address,
        "kind": artifact.Address.parse(item.address).kind,
        "digest": item.digest,
        "size": item.size,
        "type": item.type,
        "format": item.format,
        "framework": item.framework,
        "frameworkVersion": item.framework_version,
        "location": urls.shown(item.location) if item.location else None,
        "external": item.external or None,
        "run": item.run,
        "step": item.step,
        "metrics": {name: value for name, value in item.metrics.items() if math.isfinite(value)} or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
