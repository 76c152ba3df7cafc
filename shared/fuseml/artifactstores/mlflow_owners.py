"""The projects of model versions in MLflow's registry, which has none of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.contents import mlflow

PROJECT = "fuseml.project"
"""The tag of a version, or of its run, that names the project."""


class Owners:
    """The project of a version: the one in its tag, else in that of its run; empty for a version that belongs to every project.

    Each run is read once.
    """

    def __init__(self, tracking: mlflow.Tracking) -> None:
        self._tracking = tracking
        self._runs: dict[str, mlflow.TrackedRun | None] = {}

    def __call__(self, version: mlflow.ModelVersion) -> str:
        run = None if version.tags.get(PROJECT) else self.run(version.run_id)
        return version.tags.get(PROJECT) or (run.tags.get(PROJECT) if run else None) or ""

    def run(self, run_id: str | None) -> mlflow.TrackedRun | None:
        """The run of this id; None without one. A deleted run leaves its models."""
        if run_id and run_id not in self._runs:
            self._runs[run_id] = None
            with contextlib.suppress(errors.NotFoundError):
                self._runs[run_id] = self._tracking.run(run_id)
        return self._runs[run_id] if run_id else None
