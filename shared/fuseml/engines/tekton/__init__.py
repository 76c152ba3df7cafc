"""The Tekton engine runs the steps of a plan as the tasks of one PipelineRun on a cluster."""

from __future__ import annotations

from fuseml.engines.tekton.cluster import Cluster
from fuseml.engines.tekton.engine import TektonEngine
from fuseml.engines.tekton.settings import Settings

__all__ = ["Cluster", "Settings", "TektonEngine"]
