"""The Kubernetes objects of a plan: one PipelineRun with all tasks inline, and one Secret if the plan needs one.

Pure. By the rule of plans, a step that needs a skipped step is skipped. Tekton skips a step that uses an output of a skipped step
(pkg/reconciler/pipelinerun/resources, ResolvedPipelineTask.skip), but runs a step that only waits for a skipped one. So a step inherits
the conditions of the steps that it only waits for.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.domain import plans
from fuseml.domain.labels import RUN_LABEL, TRACE_ANNOTATION
from fuseml.domain.workflows import resources
from fuseml.engines.tekton import names, settings, tasks, values
from fuseml.engines.tekton.values import Object

PENDING = "PipelineRunPending"
SECRET_ANNOTATION = "fuseml.io/secret"  # noqa: S105
"""Annotation of a PipelineRun: the name of its Secret, if it has one."""

SPAN_CONTEXT_ANNOTATION = "tekton.dev/pipelinerunSpanContext"
"""Annotation with the trace context of Tekton's own spans (tektoncd/pipeline pkg/reconciler/pipelinerun/tracing.go)."""

_ORPHAN_SECONDS = 60
"""The time that a task may outlive its run, which has timed out."""

MANAGED_BY = "app.kubernetes.io/managed-by"


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of a run. With a Secret, the PipelineRun is created as pending: it must not start before its Secret exists."""

    name: str
    pipeline_run: Object
    secret: Object | None


def render(plan: plans.Plan, secrets: Mapping[str, str], settings: settings.Settings, traceparent: str = "") -> Manifests:
    """The objects of a plan that passed `admission.admit`. `secrets` is keyed by `SecretPart.ref`. `traceparent` (W3C) is the trace context
    of the submission; Tekton propagates annotations to TaskRuns and events.
    """
    name = names.run_name(plan.workflow, plan.id)
    pipeline = _Pipeline(plan, settings, values.SecretBundle(name, secrets))
    spec: Object = {
        "status": "",
        # Tekton's own default would be one hour.
        "timeouts": {"pipeline": f"{plan.timeout or 0}s"},
        "taskRunTemplate": {"serviceAccountName": settings.service_account, "podTemplate": _pod(plan, settings)},
        "workspaces": [_volume(settings)] if pipeline.clones else [],
        "pipelineSpec": pipeline.spec(),
    }
    contents = pipeline.bundle.contents
    if contents:
        spec["status"] = PENDING
    labels, annotations = _facts(plan)
    constants = {output: values.constant(value) for output, value in plan.outputs.items() if not values.is_dynamic(value)}
    annotations |= (
        names.steps_annotation(pipeline.tasks) | names.outputs_annotation(constants) | ({SECRET_ANNOTATION: name} if contents else {})
    )
    if traceparent:
        annotations |= {TRACE_ANNOTATION: traceparent, SPAN_CONTEXT_ANNOTATION: json.dumps({"traceparent": traceparent})}
    metadata: Object = {"name": name, "labels": labels}
    annotated = {**metadata, "annotations": annotations} if annotations else metadata
    pipeline_run = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": annotated, "spec": _filled(spec)}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "immutable": True, "stringData": contents}
    return Manifests(name, pipeline_run, secret if contents else None)


@dataclass(frozen=True, slots=True)
class _Prerequisites:
    """The prerequisites of a step: its own and inherited conditions, the steps whose outputs they use (`sources`), and finished clones.

    `effective` are all conditions that decide whether the step runs. They include the conditions of steps whose outputs it uses: Tekton
    skips it together with those steps. `effective_sources` are the steps whose outputs the effective conditions use.
    """

    when: list[Object]
    sources: set[str]
    clones: set[str]
    effective: list[Object]
    effective_sources: set[str]


class _Pipeline:
    """Renders the tasks of one run."""

    def __init__(self, plan: plans.Plan, settings: settings.Settings, bundle: values.SecretBundle) -> None:
        self.bundle = bundle
        self.tasks = names.tasks(step.name for step in plan.steps)
        self.clones = {names.clone(checkout): checkout for step in plan.steps for checkout in step.checkouts}
        self._plan = plan
        self._settings = settings
        self._prerequisites: dict[str, _Prerequisites] = {}
        # Before the tasks, because each of them mounts all secrets to check its outputs.
        for part in plans.secret_refs(plan):
            bundle.secret(part)
        for checkout in self.clones.values():
            bundle.account(checkout)

    def spec(self) -> Object:
        """The spec of the pipeline: clones first, then the steps in the order of the plan."""
        steps = {step.name: step for step in self._plan.steps}
        order = graphlib.TopologicalSorter({step.name: step.needs for step in self._plan.steps}).static_order()
        rendered = {name: self._task(steps[name]) for name in order}
        clones = [tasks.clone(checkout, self._folders(name), self.bundle, self._settings) for name, checkout in self.clones.items()]
        results = [
            {"name": name, "type": "string", "value": self._output(value)}
            for name, value in self._plan.outputs.items()
            if values.is_dynamic(value)
        ]
        declared = [{"name": tasks.WORKSPACE}] if clones else []
        return _filled({"workspaces": declared, "results": results, "tasks": clones + [rendered[name] for name in steps]})

    def _folders(self, clone: str) -> list[str]:
        """The folders of the clone in which steps run."""
        found = (item.folder for step in self._plan.steps for item in step.checkouts if names.clone(item) == clone)
        return sorted({folder for folder in found if folder})

    def _task(self, step: plans.StepPlan) -> Object:
        parameters = values.Parameters(self.tasks)
        task = tasks.step(step, self._plan, self.tasks[step.name], parameters, self.bundle, self._settings)
        if self._plan.timeout is not None:
            # Tekton may miss a task that it creates while the run times out, and leave it running; the task's own timeout ends it.
            longest = self._plan.timeout + _ORPHAN_SECONDS
            task["timeout"] = f"{min(step.timeout or longest, longest)}s"
        prerequisites = self._prerequisites[step.name] = self._prerequisites_of(step, parameters.steps)
        needed = [self._prerequisites[need] for need in step.needs]
        after = [clone for clone in _clones(step) if not any(clone in other.clones for other in needed)]
        after += [self.tasks[need] for need in step.needs if need not in parameters.steps | prerequisites.sources]
        return _filled({"name": task["name"], "when": prerequisites.when, "runAfter": after}) | task

    def _prerequisites_of(self, step: plans.StepPlan, used: set[str]) -> _Prerequisites:
        conditions = values.undecided(step.when)
        sources = values.sources(conditions or ())
        prerequisites = _Prerequisites(values.when(conditions, self.tasks), set(sources), set(_clones(step)), [], set())
        for need in step.needs:
            other = self._prerequisites[need]
            prerequisites.clones.update(other.clones)
            if need not in used | sources:
                prerequisites.when.extend(dict(condition) for condition in other.effective if condition not in prerequisites.when)
                prerequisites.sources.update(other.effective_sources)
            prerequisites.effective.extend(condition for condition in other.effective if condition not in prerequisites.effective)
            prerequisites.effective_sources.update(other.effective_sources)
        prerequisites.effective.extend(condition for condition in prerequisites.when if condition not in prerequisites.effective)
        prerequisites.effective_sources.update(prerequisites.sources)
        return prerequisites

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


def _pod(plan: plans.Plan, settings: settings.Settings) -> Object:
    context = {
        # Published step images run as root, which Pod Security `restricted` refuses; hence a user.
        "runAsNonRoot": True,
        "runAsUser": settings.user,
        "runAsGroup": settings.user,
        "fsGroup": settings.user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    # Nodes with devices often repel other pods by a taint with the name of the resource; not every cluster adds the tolerations itself. All
    # pods of the run tolerate it: Tekton binds those with a volume to the node of its affinity assistant, whose tolerations are these, too.
    devices = sorted({resource for step in plan.steps for resource in resources.devices(step.resources.limits)})
    tolerations = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"} for resource in devices]
    return _filled({"securityContext": context, "tolerations": tolerations}) | {"automountServiceAccountToken": False}


def _facts(plan: plans.Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Labels to find runs by, and annotations for values that are not valid label values."""
    checkout = next((checkout for step in plan.steps for checkout in step.checkouts if not checkout.pinned), None)
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
