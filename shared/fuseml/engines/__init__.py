"""Engines execute plans. The engines `local` and `tekton` implement one small protocol and report progress as Tekton's events."""

from __future__ import annotations

from fuseml.engines.port import Engine, LogChunk
from fuseml.runtime import settings

__all__ = ["Engine", "LogChunk", "connect"]


def connect(installation: settings.Settings) -> Engine:
    """The Tekton engine of the cluster of this process, or of KUBECONFIG. Connects at the first use."""
    from fuseml.engines import tekton

    return tekton.TektonEngine(tekton.Cluster(installation.namespace), tekton.Settings.of(installation))
