"""The record of a training elsewhere in MLflow, where the step has a tracking server: one run for each job, found again by the job's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuseml.steps import logged_models, sdk, tracking, training_run

_JOB_TAG = "fuseml.job"


@dataclass(frozen=True)
class Recording:
    """The run of MLflow of one job."""

    server: tracking.Tracking
    run_id: str
    experiment_id: str
    context: sdk.Context
    folder: Path

    def variables(self) -> dict[str, str]:
        """The variables by which the code of the job logs to the run."""
        return training_run.variables(self.server, self.context, self.folder, self.experiment_id, self.run_id)

    def close(self, status: str, parameters: Mapping[str, str]) -> tracking.Run:
        """End the run as FINISHED, FAILED or KILLED, unless the code has ended it."""
        return training_run.close(self.server, self.run_id, status, parameters)

    def report(self, parameters: Mapping[str, str], *, has_model: bool) -> None:
        """End the run of a job that succeeded, and write its outputs. `has_model`: the job has named its model itself."""
        by = logged_models.metric(sdk.input("metric", ""))
        run = self.close("FINISHED", parameters)
        if has_model or sdk.input("model", "") == logged_models.NONE:
            training_run.report_run(run)
        else:
            training_run.report(self.server, self.context, training_run.model(self.server, run, self.folder, by))


def begin(job: str, context: sdk.Context, folder: Path, tool: str, environment: Mapping[str, str]) -> Recording | None:
    """The recording of the job, that of an earlier start of the step if there is one. None without a tracking server in the environment."""
    if not environment.get("MLFLOW_TRACKING_URI"):
        return None
    logged_models.metric(sdk.input("metric", ""))  # a wrong one is refused before the training, not after it
    server = tracking.Tracking(environment)
    name = sdk.input("mlflow-experiment", ".".join(filter(None, (context.project, context.codeset))) or folder.name)
    experiment = server.experiment(name)
    run_id = server.tagged_run(experiment, _JOB_TAG, job)
    if not run_id:
        tags = {
            _JOB_TAG: job,
            "fuseml.tool": tool,
            "fuseml.workflow": context.workflow,
            "mlflow.source.name": "/".join(filter(None, (context.project, context.codeset))) or folder.name,
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": context.commit,
            **training_run.lineage(context),
        }
        run_id = server.start_run(experiment, context.run or job, tags, {})
    sdk.say(f"MLflow run {run_id} in the experiment {name}")
    return Recording(server, run_id, experiment, context, folder)
