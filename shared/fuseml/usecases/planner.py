"""From the specification of a run to its plan: look up the codeset, resolve every selector against the present registry, build.

Dispatching stores the plan. A preview and the check of a request build the same plan and drop it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlmodel

from fuseml.domain import artifact, errors, plans, workflows
from fuseml.domain.plans import image_building, planning, run_inputs, serving_access
from fuseml.domain.registry import artifact_stores, extension, selector
from fuseml.domain.registry.resolution import NO_CANDIDATE
from fuseml.domain.runnables import steps
from fuseml.domain.workflows import deployment, lint
from fuseml.runtime.telemetry import metrics
from fuseml.store import codesets, resolution
from fuseml.usecases import image_builds, runnables, stores

_TRACKING_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True, slots=True)
class Placement:
    """The place in which steps run: the engine's zone, the namespace of the workloads, and the address of FuseML's own tracking server, if it
    runs one. `facts` are those of artifact stores.
    """

    zone: str
    namespace: str
    tracking_url: str
    facts: artifact_stores.FactsOf

    def opened(self, binding: selector.Binding) -> selector.Binding:
        """The binding; with the step's token, if it is of FuseML's own tracking server and its record has no other credentials."""
        is_own = bool(self.tracking_url) and (binding.url == self.tracking_url or binding.url.startswith(f"{self.tracking_url}/"))
        if not is_own or not {*binding.secret_keys, *binding.configuration}.isdisjoint(_TRACKING_CREDENTIALS):
            return binding
        return binding.model_copy(update={"configuration": {**binding.configuration, "MLFLOW_TRACKING_TOKEN": extension.STEP_TOKEN}})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The specification of a run. Selectors are resolved for `project` and `user`; `inputs` holds no codesets.

    `document` is the workflow as it runs for `ref` (`deployed`); `ref` is empty for a run without code.
    """

    document: workflows.Workflow
    revision: int
    project: str
    codeset: str | None = None
    ref: str = ""
    commit: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    user: str = ""

    @property
    def code(self) -> str:
        """The address of the codeset version; empty without a codeset."""
        return str(artifact.code(self.project, self.codeset, self.commit)) if self.codeset and self.commit else ""

    def recorded_inputs(self) -> dict[str, str]:
        """The inputs as a run records them: codesets by address."""
        return {**(dict.fromkeys(run_inputs.codesets(self.document), self.code) if self.code else {}), **self.inputs}


def deployed(session: sqlmodel.Session, document: workflows.Workflow, project: str, codeset: str, ref: str) -> deployment.Deployment:
    """The workflow as it runs for a ref of the codeset, with the runnables of its steps. Raises InvalidError when no step is left."""
    document = runnables.expanded(session, document, project)
    if not deployment.serving_steps(document):
        return deployment.Deployment(document)
    return deployment.of_ref(document, ref, codesets.default_ref(session, project, codeset))


def build(session: sqlmodel.Session, spec: RunSpec, run_id: str, run_name: str, placement: Placement) -> plans.Plan:
    """The plan of the spec. Raises NotFoundError for its codeset, UnresolvedError with the name of the step, InvalidError for its inputs, and
    for the runnables of its steps. Images of runnables that are built and not recorded yet get a step.
    """
    document = _with_runnables(session, spec)
    versions: dict[str, planning.CodesetVersion] = {}
    if spec.codeset and spec.commit:
        url = codesets.codeset(session, spec.project, spec.codeset).url
        version = planning.CodesetVersion(project=spec.project, codeset=spec.codeset, url=url, ref=spec.ref, commit=spec.commit)
        versions = dict.fromkeys(run_inputs.codesets(document), version)
    registries = _stores(session, _context(spec, placement), placement)
    builds = image_builds.of_workflow(session, document, runnables.described(session, document), registries)
    bindings = _bindings(session, spec, document, placement)
    completed = serving_access.completed(document, bindings)
    if completed is not document:
        document, bindings = completed, _bindings(session, spec, completed, placement)
    plan = planning.build(
        document,
        revision=spec.revision,
        run_id=run_id,
        run_name=run_name,
        project=spec.project,
        codesets=versions,
        inputs=spec.inputs,
        bindings=bindings,
        namespace=placement.namespace,
        stores=registries,
    )
    return image_building.insert(plan, builds, placement.namespace) if builds else plan


def _context(spec: RunSpec, placement: Placement) -> selector.Context:
    return selector.Context(project=spec.project, user=spec.user, zone=placement.zone)


def _stores(session: sqlmodel.Session, context: selector.Context, placement: Placement) -> stores.ProjectStores:
    return stores.ProjectStores(session, context, placement.zone, placement.facts, placement.opened)


def _with_runnables(session: sqlmodel.Session, spec: RunSpec) -> workflows.Workflow:
    """The document with the runnables of its steps, which fit their inputs. Raises InvalidError."""
    expansion = runnables.expand(session, spec.document, spec.project)
    steps.check(expansion)
    if steps.addresses(expansion.workflow):
        runnables.check_values(session, expansion.workflow, run_inputs.values(expansion.workflow, spec.inputs))
    return expansion.workflow


def _bindings(session: sqlmodel.Session, spec: RunSpec, document: workflows.Workflow, placement: Placement) -> planning.Bindings:
    context = _context(spec, placement)
    bindings: dict[str, dict[str, selector.Binding]] = {}
    for step, selectors in planning.selectors(document).items():
        try:
            with metrics.RESOLVE_SECONDS.timed():
                resolved = resolution.resolve(session, selectors, context, home=placement.zone)
        except errors.UnresolvedError as error:
            raise errors.UnresolvedError(f"step {step!r}: {error.message}", details=error.details) from error
        bindings[step] = {binding.name: placement.opened(binding) for binding in resolved.bindings}
    return bindings


def findings(
    session: sqlmodel.Session, workflow: workflows.Workflow, project: str, placement: Placement, locate: lint.Locate
) -> list[lint.Finding]:
    """The lint of a workflow, with its selectors resolved for the project against the present registry, and the runnables of its steps put in."""
    found, workflow = _faults(session, workflow, project, locate)
    context = selector.Context(project=project, zone=placement.zone)
    bindings: dict[str, dict[str, selector.Binding]] = {}
    unresolved: list[lint.Unresolved] = []
    for step, selectors in planning.selectors(workflow).items():
        resolved = resolution.attempt(session, selectors, context, home=placement.zone)
        bindings[step] = {binding.name: placement.opened(binding) for binding in resolved.bindings}
        unresolved += [lint.Unresolved(step, name, reason) for name, reason in _reasons(resolved)]
    found += _not_built(session, workflow, _stores(session, context, placement), locate)
    return [*found, *lint.lint(workflow, bindings, unresolved, locate=locate)]


def _not_built(
    session: sqlmodel.Session, workflow: workflows.Workflow, registries: stores.ProjectStores, locate: lint.Locate
) -> Iterator[lint.Finding]:
    """The steps whose runnables cannot be built now."""
    for step, runnable in runnables.described(session, workflow).items():
        try:
            image_builds.of_workflow(session, workflow, {step: runnable}, registries)
        except (errors.UnresolvedError, errors.NotFoundError) as error:
            index = next(number for number, item in enumerate(workflow.steps) if item.name == step)
            yield lint.Finding(
                "warning", f"steps[{index}].runnable", error.message, *(locate(("steps", index, "runnable")) or (None, None))
            )


def _faults(
    session: sqlmodel.Session, workflow: workflows.Workflow, project: str, locate: lint.Locate
) -> tuple[list[lint.Finding], workflows.Workflow]:
    """The faults of the steps that name a runnable, and the workflow with the runnables that fit."""
    expansion = runnables.expand(session, workflow, project)
    found = lint.replacements(workflow, locate)
    for fault in runnables.faults(expansion, locate):
        # Without a project, a runnable may be that of any project.
        is_open = not project and fault.path.endswith(".runnable")
        found.append(lint.Finding("note" if is_open else "error", fault.path, fault.message, fault.line, fault.column, fault.suggestion))
    return found, expansion.workflow


def _reasons(resolved: selector.Resolution) -> Iterator[tuple[str, str]]:
    """(Selector, reason) of the selectors that nothing matches."""
    candidates: Mapping[str, Sequence[selector.Candidate]] = {item.selector: item.candidates for item in resolved.explanations}
    for name in resolved.unresolved:
        rejected = [candidate for candidate in candidates.get(name, ()) if candidate.verdict == "rejected"]
        reasons = [f"{'/'.join(filter(None, (item.extension_id, item.service_id)))}: {item.sentence}" for item in rejected[:3]]
        yield name, "; ".join(reasons) or NO_CANDIDATE
