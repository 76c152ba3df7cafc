"""The engine's face: submit, cancel, observe, logs, forget.

A run is a PipelineRun and, when there is anything to hide, a Secret that it owns. The PipelineRun comes first and is pending; then the
Secret, which can name its owner from the beginning; then the PipelineRun is released. A crash at any point leaves nothing without an owner
and nothing that runs without its Secret, and submitting again goes on where it stopped. Nothing is kept in this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from fuseml.domain import errors, events, plans
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.port import LogChunk
from fuseml.engines.tekton import admission, cluster, logs, names, render, report
from fuseml.engines.tekton import settings as installation
from fuseml.engines.tekton.events import CANCEL_ANNOTATION, STEP_LABEL
from fuseml.engines.tekton.values import Object
from fuseml.runtime.telemetry import trace

_RELEASE_ATTEMPTS = 10


class TektonEngine:
    """Runs plans in the namespace of `cluster`."""

    def __init__(self, cluster: cluster.Cluster, settings: installation.Settings | None = None) -> None:
        self._cluster = cluster
        self._settings = settings or installation.Settings()

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """See `Engine.submit`."""
        admission.admit(plan, secrets)
        rendered = render.render(plan, secrets, self._settings, trace.outgoing().get("traceparent", ""))
        stored = self._create(rendered, plan)
        if rendered.secret is not None and _is_pending(stored):
            try:
                self._create_secret(rendered.secret, stored)
            except errors.PermanentError as error:
                # Nobody will come back for the pending PipelineRun.
                with contextlib.suppress(errors.FusemlError):
                    self.cancel(plan.id, error.message)
                raise
            self._release(stored)

    def cancel(self, run_id: str, reason: str) -> None:
        """See `Engine.cancel`. The reason is kept as an annotation; Tekton passes it on with its events."""
        found = self._find(run_id)
        if found is None or report.is_finished(found):
            return
        patch = {"metadata": {"annotations": {CANCEL_ANNOTATION: reason}}, "spec": {"status": "Cancelled"}}
        try:
            self._cluster.patch_pipeline_run(found["metadata"]["name"], patch)
        except errors.PermanentError:
            # Tekton allows no change to a run that has finished meanwhile.
            found = self._find(run_id)
            if found is not None and not report.is_finished(found):
                raise

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """See `Engine.observe`."""
        found = self._find(run_id)
        return report.all_events(found, self._cluster.task_runs(_selector(run_id))) if found is not None else []

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """See `Engine.logs`. Secrets that the step printed are replaced by `<hidden>`; offsets are those of the text so masked."""
        found = self._find(run_id)
        if found is None:
            raise errors.NotFoundError(f"the cluster knows no run {run_id!r}")
        steps = report.tasks_of(found)
        if step not in steps:
            raise errors.NotFoundError(f"the run has no step {step!r}; its steps are {', '.join(steps)}")
        task_runs = self._cluster.task_runs(f"{_selector(run_id)},{STEP_LABEL}={steps[step]['name']}")
        if not task_runs:
            return LogChunk(b"", offset, complete=report.is_finished(found))
        secret = found["metadata"].get("annotations", {}).get(render.SECRET_ANNOTATION)
        # Without the Secret nobody could tell what to hide, so its absence is an error.
        contents = self._cluster.secret(secret) if secret is not None else {}
        return logs.read(self._cluster, task_runs[0], steps[step], contents, offset=offset, limit=limit)

    def forget(self, run_id: str) -> None:
        """See `Engine.forget`. What the PipelineRun owns goes with it: pods, volume and Secret."""
        found = self._find(run_id)
        if found is None:
            return
        name = found["metadata"]["name"]
        if not report.is_finished(found):
            raise errors.ConflictError(f"the PipelineRun {name} has not finished; cancel the run first")
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_pipeline_run(name)

    def _find(self, run_id: str) -> Object | None:
        return next(iter(self._cluster.pipeline_runs(_selector(run_id))), None) if names.is_label_value(run_id) else None

    def _create(self, rendered: render.Rendered, plan: plans.Plan) -> Object:
        try:
            return self._cluster.create_pipeline_run(rendered.pipeline_run)
        except errors.ConflictError:
            stored = self._cluster.pipeline_run(rendered.name)
        if stored["metadata"].get("labels", {}).get(RUN_LABEL) != plan.id:
            raise errors.PermanentError(f"run {plan.run} needs a PipelineRun called {rendered.name}, and there is another one of this name")
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
                    f"the Secret {metadata['name']} belongs to a PipelineRun that was deleted, and is about to be deleted with it"
                ) from None

    def _release(self, stored: Object) -> None:
        """Let the PipelineRun start, unless somebody cancelled it meanwhile. Tekton, too, writes to it, which only means to look again."""
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
