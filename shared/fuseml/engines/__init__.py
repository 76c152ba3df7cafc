"""Engines execute plans. The engines `local` and `tekton` implement one small protocol and report progress as Tekton's events."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.engines.port import Engine, LogChunk

__all__ = ["Engine", "LogChunk", "connect"]


def connect(namespace: str, git_image: str = "", variables: Mapping[str, str] | None = None) -> Engine:
    """The Tekton engine of the cluster of this process, or of KUBECONFIG; its runs are in `namespace`. Connects at the first use.

    `git_image` clones codesets; `variables` hold the settings of the installation for the built-in steps. Only `submit` uses both.
    """
    from fuseml.engines import tekton

    return tekton.TektonEngine(tekton.Cluster(namespace), tekton.Settings(git_image=git_image, variables=variables or {}))
