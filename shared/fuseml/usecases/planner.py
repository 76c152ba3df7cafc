"""From an spec to a plan: finds the codeset, resolves every selector as the registry stands now, and builds.

Dispatching stores the plan that comes out; showing a plan beforehand and checking a request make the very same one and drop it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlmodel

from fuseml.domain import artifact, errors, plans, workflows
from fuseml.domain.plans import planning
from fuseml.domain.registry import selector
from fuseml.domain.workflows import lint
from fuseml.runtime.telemetry import metrics
from fuseml.store import codesets, resolution

DEFAULT_REF = "refs/heads/main"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where steps run: the engine's zone, and the namespace of the workloads."""

    zone: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is to run, on what, for whom. Selectors are resolved for `project` and `user`; `inputs` holds no codesets."""

    document: workflows.Workflow
    revision: int
    project: str
    codeset: str | None = None
    ref: str = DEFAULT_REF
    commit: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    user: str = ""

    @property
    def code(self) -> str:
        """The address of the codeset version; empty without one."""
        return str(artifact.code(self.project, self.codeset, self.commit)) if self.codeset and self.commit else ""

    def given(self) -> dict[str, str]:
        """The inputs as a run records them: codesets by their address."""
        return {**(dict.fromkeys(planning.codeset_inputs(self.document), self.code) if self.code else {}), **self.inputs}


def build(session: sqlmodel.Session, spec: RunSpec, run_id: str, run_name: str, placement: Placement) -> plans.Plan:
    """The plan of the spec. Raises NotFoundError for its codeset, UnresolvedError that names the step, InvalidError for its inputs."""
    versions: dict[str, planning.CodesetVersion] = {}
    if spec.codeset and spec.commit:
        url = codesets.codeset(session, spec.project, spec.codeset).url
        version = planning.CodesetVersion(project=spec.project, codeset=spec.codeset, url=url, ref=spec.ref, commit=spec.commit)
        versions = dict.fromkeys(planning.codeset_inputs(spec.document), version)
    return planning.build(
        spec.document,
        revision=spec.revision,
        run_id=run_id,
        run_name=run_name,
        project=spec.project,
        codesets=versions,
        inputs=spec.inputs,
        bindings=_bindings(session, spec, placement),
        namespace=placement.namespace,
    )


def _bindings(session: sqlmodel.Session, spec: RunSpec, placement: Placement) -> planning.Bindings:
    context = selector.Context(project=spec.project, user=spec.user, zone=placement.zone)
    bindings: dict[str, dict[str, selector.Binding]] = {}
    for step, wanted in planning.selectors(spec.document).items():
        try:
            with metrics.RESOLVE_SECONDS.timed():
                found = resolution.resolve(session, wanted, context, home=placement.zone)
        except errors.UnresolvedError as error:
            raise errors.UnresolvedError(f"step {step!r}: {error.message}", details=error.details) from error
        bindings[step] = {binding.name: binding for binding in found.bindings}
    return bindings


def findings(
    session: sqlmodel.Session, checked: workflows.Workflow, project: str, placement: Placement, locate: lint.Locate
) -> list[lint.Finding]:
    """The lint of a workflow, with its selectors resolved for the project as the registry stands now."""
    context = selector.Context(project=project, zone=placement.zone)
    bindings: dict[str, dict[str, selector.Binding]] = {}
    unresolved: list[lint.Unresolved] = []
    for step, wanted in planning.selectors(checked).items():
        found = resolution.attempt(session, wanted, context, home=placement.zone)
        bindings[step] = {binding.name: binding for binding in found.bindings}
        unresolved += [lint.Unresolved(step, name, why) for name, why in _explained(found)]
    return lint.lint(checked, bindings, unresolved, locate=locate)


def _explained(found: selector.Resolution) -> Iterator[tuple[str, str]]:
    explanations: Mapping[str, Sequence[selector.Candidate]] = {item.selector: item.candidates for item in found.explanations}
    for name in found.unresolved:
        rejected = [candidate for candidate in explanations.get(name, ()) if candidate.verdict == "rejected"]
        told = [f"{'/'.join(filter(None, (item.extension_id, item.service_id)))}: {item.sentence}" for item in rejected[:3]]
        yield name, "; ".join(told) or "no extension is registered that could be meant"
