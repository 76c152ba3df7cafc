"""The Tekton engine: submit, cancel, observe, logs, forget.

A run is a PipelineRun and, if it needs one, a Secret that the PipelineRun owns. `submit` creates the PipelineRun first, as pending, then
the Secret with its owner, and then releases the PipelineRun. After a crash at any point, every object has an owner, no run starts without
its Secret, and another `submit` continues at that point. The engine keeps no state in this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.domain import errors, events, plans
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.port import LogChunk
from fuseml.engines.tekton import admission, causes, cluster, logs, names, render, report
from fuseml.engines.tekton.events import CANCEL_ANNOTATION, STEP_LABEL
from fuseml.engines.tekton.settings import Settings
from fuseml.engines.tekton.values import Object
from fuseml.runtime.telemetry import trace

_RELEASE_ATTEMPTS = 10


class TektonEngine:
    """Runs plans in the namespace of `cluster`."""

    def __init__(self, cluster: cluster.Cluster, settings: Settings | None = None) -> None:
        self._cluster = cluster
        self._settings = settings or Settings()

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """See `Engine.submit`."""
        admission.admit(plan, secrets, image_builds=self._settings.image_builds)
        manifests = render.render(plan, secrets, self._settings, trace.outgoing().get("traceparent", ""))
        stored = self._create(manifests, plan)
        if manifests.secret is not None and _is_pending(stored):
            try:
                self._create_secret(manifests.secret, stored)
            except errors.PermanentError as error:
                # After a permanent error, no later submit releases the pending PipelineRun.
                with contextlib.suppress(errors.FusemlError):
                    self.cancel(plan.id, error.message)
                raise
            self._release(stored)

    def cancel(self, run_id: str, reason: str) -> None:
        """See `Engine.cancel`. The reason is stored as an annotation, which Tekton's events contain."""
        pipeline_run = self._find(run_id)
        if pipeline_run is None or report.is_finished(pipeline_run):
            return
        patch = {"metadata": {"annotations": {CANCEL_ANNOTATION: reason}}, "spec": {"status": "Cancelled"}}
        try:
            self._cluster.patch_pipeline_run(pipeline_run["metadata"]["name"], patch)
        except errors.PermanentError:
            # Tekton rejects changes of a run that has finished meanwhile.
            pipeline_run = self._find(run_id)
            if pipeline_run is not None and not report.is_finished(pipeline_run):
                raise

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """See `Engine.observe`. The cause of a failed step is read from its log, as long as its pod exists."""
        pipeline_run = self._find(run_id)
        if pipeline_run is None:
            return []
        task_runs = self._cluster.task_runs(_selector(run_id))
        return report.all_events(
            pipeline_run, causes.explained(self._cluster, pipeline_run, task_runs, lambda: self._secrets(pipeline_run))
        )

    def loss(self, run_id: str) -> str | None:
        """See `Engine.loss`. A PipelineRun that is being deleted still exists."""
        if self._find(run_id) is not None:
            return None
        return f"its PipelineRun in namespace {self._cluster.namespace} was deleted before its end was reported; rerun the run"

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """See `Engine.logs`. Printed secrets are replaced by `<hidden>`; offsets refer to the masked text."""
        pipeline_run = self._find(run_id)
        if pipeline_run is None:
            raise errors.NotFoundError(f"the cluster has no run {run_id!r}")
        steps = report.tasks_of(pipeline_run)
        if step not in steps:
            raise errors.NotFoundError(f"the run has no step {step!r}; its steps are {', '.join(steps)}")
        task_runs = self._cluster.task_runs(f"{_selector(run_id)},{STEP_LABEL}={steps[step]['name']}")
        if not task_runs:
            return LogChunk(b"", offset, complete=report.is_finished(pipeline_run))
        return logs.read(self._cluster, task_runs[0], steps[step], self._secrets(pipeline_run), offset=offset, limit=limit)

    def drop_log(self, run_id: str, step: str) -> None:
        """See `Engine.drop_log`: logs go with their pods."""

    def forget(self, run_id: str) -> None:
        """See `Engine.forget`. What the PipelineRun owns goes with it: pods, volume and Secret."""
        pipeline_run = self._find(run_id)
        if pipeline_run is None:
            return
        name = pipeline_run["metadata"]["name"]
        if not report.is_finished(pipeline_run):
            raise errors.ConflictError(f"the PipelineRun {name} has not finished; cancel the run first")
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_pipeline_run(name)

    def _find(self, run_id: str) -> Object | None:
        return next(iter(self._cluster.pipeline_runs(_selector(run_id))), None) if names.is_label_value(run_id) else None

    def _secrets(self, pipeline_run: Mapping[str, Any]) -> Mapping[str, str]:
        """The texts of the run's Secret. Raises NotFoundError without it: the secrets in a log could not be masked."""
        secret = pipeline_run["metadata"].get("annotations", {}).get(render.SECRET_ANNOTATION)
        return self._cluster.secret(secret) if secret is not None else {}

    def _create(self, manifests: render.Manifests, plan: plans.Plan) -> Object:
        try:
            return self._cluster.create_pipeline_run(manifests.pipeline_run)
        except errors.ConflictError:
            stored = self._cluster.pipeline_run(manifests.name)
        if stored["metadata"].get("labels", {}).get(RUN_LABEL) != plan.id:
            raise errors.PermanentError(
                f"run {plan.run} needs the name {manifests.name} for its PipelineRun, but another PipelineRun has this name; delete that one"
            )
        return stored

    def _create_secret(self, secret: Object, owner: Object) -> None:
        metadata = owner["metadata"]
        reference = {
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        try:
            self._cluster.create_secret({**secret, "metadata": {**secret["metadata"], "ownerReferences": [reference]}})
        except errors.ConflictError:
            if metadata["uid"] not in self._cluster.secret_owners(metadata["name"]):
                raise errors.TemporaryError(
                    f"the Secret {metadata['name']} of a deleted PipelineRun still exists; Kubernetes is about to delete it"
                ) from None

    def _release(self, stored: Object) -> None:
        """Let the PipelineRun start, unless it was cancelled meanwhile. Concurrent writes, of Tekton for example, only cause a retry."""
        name = stored["metadata"]["name"]
        for _ in range(_RELEASE_ATTEMPTS):
            if not _is_pending(stored):
                return
            patch = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, "spec": {"status": None}}
            with contextlib.suppress(errors.ConflictError):
                self._cluster.patch_pipeline_run(name, patch)
                return
            stored = self._cluster.pipeline_run(name)
        raise errors.TemporaryError(f"the PipelineRun {name} changes too often to be released now")


def _is_pending(pipeline_run: Object) -> bool:
    return bool(pipeline_run["spec"].get("status") == render.PENDING)


def _selector(run_id: str) -> str:
    return f"{RUN_LABEL}={run_id}"
