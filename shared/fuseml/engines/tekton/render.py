"""A plan as the objects that make Tekton run it: one PipelineRun with everything inline, and one Secret when anything must not be in there.

Pure. Tekton and the local engine differ in what a skipped step means to those behind it: Tekton runs a step that only waits for a
skipped one. The rule of plans is that it is skipped as well; so a step takes over the conditions of the steps that it merely waits for.
(A step that takes a skipped step's output is skipped by Tekton itself; pkg/reconciler/pipelinerun/resources, ResolvedPipelineTask.skip.)
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.domain import plans
from fuseml.domain.labels import RUN_LABEL, TRACE_ANNOTATION
from fuseml.engines.tekton import names, settings, tasks, values
from fuseml.engines.tekton.values import Object

PENDING = "PipelineRunPending"
SECRET_ANNOTATION = "fuseml.io/secret"  # noqa: S105
"""On a PipelineRun: the name of its Secret, if it has one."""

SPAN_CONTEXT_ANNOTATION = "tekton.dev/pipelinerunSpanContext"
"""Where Tekton looks for the trace that its own spans shall belong to (tektoncd/pipeline pkg/reconciler/pipelinerun/tracing.go)."""

MANAGED_BY = "app.kubernetes.io/managed-by"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of a run. With a secret, the PipelineRun is born pending: it must not start before its Secret is there."""

    name: str
    pipeline_run: Object
    secret: Object | None


def render(plan: plans.Plan, secrets: Mapping[str, str], settings: settings.Settings, traceparent: str = "") -> Rendered:
    """The objects of a plan that `admission.admit` has let in. `secrets` is keyed by `SecretPart.ref`; `traceparent` (W3C) is of what
    started the run: Tekton hands annotations on to TaskRuns and events.
    """
    name = names.run_name(plan.workflow, plan.id)
    writing = _Run(plan, settings, values.SecretBundle(name, secrets))
    spec: Object = {
        "status": "",
        # Tekton's own default would be one hour.
        "timeouts": {"pipeline": f"{plan.timeout or 0}s"},
        "taskRunTemplate": {"serviceAccountName": settings.service_account, "podTemplate": _pod(settings)},
        "workspaces": [_volume(settings)] if writing.clones else [],
        "pipelineSpec": writing.pipeline(),
    }
    contents = writing.bundle.contents
    if contents:
        spec["status"] = PENDING
    labels, annotations = _facts(plan)
    known = {output: values.constant(value) for output, value in plan.outputs.items() if not values.is_dynamic(value)}
    annotations |= names.renamed(writing.tasks) | names.constants(known) | ({SECRET_ANNOTATION: name} if contents else {})
    if traceparent:
        annotations |= {TRACE_ANNOTATION: traceparent, SPAN_CONTEXT_ANNOTATION: json.dumps({"traceparent": traceparent})}
    metadata: Object = {"name": name, "labels": labels}
    described = {**metadata, "annotations": annotations} if annotations else metadata
    pipeline_run = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": described, "spec": _filled(spec)}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "immutable": True, "stringData": contents}
    return Rendered(name, pipeline_run, secret if contents else None)


@dataclass(frozen=True, slots=True)
class _Behind:
    """What a step stands behind: its conditions with those it took over, the steps whose outputs these ask for, clones that are made by then.

    `decisive` are all conditions that decide whether it runs, also those by which Tekton skips it on its own, because it takes the output of
    a step that they skip; `decisive_asked` are the steps whose outputs these ask for.
    """

    when: list[Object]
    asked: set[str]
    cloned: set[str]
    decisive: list[Object]
    decisive_asked: set[str]


class _Run:
    """Writes the tasks of one run."""

    def __init__(self, plan: plans.Plan, settings: settings.Settings, bundle: values.SecretBundle) -> None:
        self.bundle = bundle
        self.tasks = names.tasks(step.name for step in plan.steps)
        self.clones = {names.clone(checkout): checkout for step in plan.steps for checkout in step.checkouts}
        self._plan = plan
        self._settings = settings
        self._behind: dict[str, _Behind] = {}

    def pipeline(self) -> Object:
        """Clones first, then the steps in the plan's order."""
        steps = {step.name: step for step in self._plan.steps}
        order = graphlib.TopologicalSorter({step.name: step.needs for step in self._plan.steps}).static_order()
        written = {name: self._task(steps[name]) for name in order}
        clones = [tasks.clone(checkout, self.bundle, self._settings) for checkout in self.clones.values()]
        results = [
            {"name": name, "type": "string", "value": self._output(value)}
            for name, value in self._plan.outputs.items()
            if values.is_dynamic(value)
        ]
        declared = [{"name": tasks.WORKSPACE}] if clones else []
        return _filled({"workspaces": declared, "results": results, "tasks": clones + [written[name] for name in steps]})

    def _task(self, step: plans.StepPlan) -> Object:
        parameters = values.Parameters(self.tasks)
        task = tasks.step(step, self.tasks[step.name], parameters, self.bundle, self._settings)
        behind = self._behind[step.name] = self._stand_behind(step, parameters.steps)
        needed = [self._behind[need] for need in step.needs]
        after = [clone for clone in _clones(step) if not any(clone in other.cloned for other in needed)]
        after += [self.tasks[need] for need in step.needs if need not in parameters.steps | behind.asked]
        return _filled({"name": task["name"], "when": behind.when, "runAfter": after}) | task

    def _stand_behind(self, step: plans.StepPlan, taken: set[str]) -> _Behind:
        conditions = values.undecided(step.when)
        asked = values.asked(conditions or ())
        behind = _Behind(values.when(conditions, self.tasks), set(asked), set(_clones(step)), [], set())
        for need in step.needs:
            other = self._behind[need]
            behind.cloned.update(other.cloned)
            if need not in taken | asked:
                behind.when.extend(dict(condition) for condition in other.decisive if condition not in behind.when)
                behind.asked.update(other.decisive_asked)
            behind.decisive.extend(condition for condition in other.decisive if condition not in behind.decisive)
            behind.decisive_asked.update(other.decisive_asked)
        behind.decisive.extend(condition for condition in behind.when if condition not in behind.decisive)
        behind.decisive_asked.update(behind.asked)
        return behind

    def _output(self, value: plans.Value) -> str:
        match value:
            case (plans.OutputPart(step=step, output=output),):
                return values.result(self.tasks[step], output)
        step, output = tasks.image_of(self._plan, value)
        return values.result(self.tasks[step], output)


def _clones(step: plans.StepPlan) -> list[str]:
    return list(dict.fromkeys(names.clone(checkout) for checkout in step.checkouts))


def _volume(settings: settings.Settings) -> Object:
    claim: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": settings.volume_size}}}
    if settings.storage_class is not None:
        claim["storageClassName"] = settings.storage_class
    return {"name": tasks.WORKSPACE, "volumeClaimTemplate": {"spec": claim}}


def _pod(settings: settings.Settings) -> Object:
    # Published step images run as root, so nothing is said about users.
    context = {"fsGroup": settings.group, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}
    return {"securityContext": context}


def _facts(plan: plans.Plan) -> tuple[dict[str, str], dict[str, str]]:
    """What people want to find runs by: labels, and annotations for what cannot be one."""
    checkout = next((checkout for step in plan.steps for checkout in step.checkouts), None)
    facts = {"run": plan.run, "workflow": plan.workflow, "revision": str(plan.revision), "project": plan.project}
    if checkout is not None:
        facts |= {"codeset": checkout.codeset, "commit": checkout.commit}
    labels = {RUN_LABEL: plan.id, MANAGED_BY: "fuseml"}
    annotations: dict[str, str] = {}
    for name, text in facts.items():
        (labels if names.is_label_value(text) else annotations)[f"fuseml.io/{name}"] = text
    return labels, annotations


def _filled(document: Object) -> Object:
    return {key: value for key, value in document.items() if value}
