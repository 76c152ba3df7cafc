"""Engines run a plan. Both real ones, `local` and `tekton`, keep one small protocol and tell what happens as Tekton's events."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.engines.port import Engine, LogChunk

__all__ = ["Engine", "LogChunk", "connect"]


def connect(namespace: str, git_image: str = "", variables: Mapping[str, str] | None = None) -> Engine:
    """The engine of the cluster that this process runs in, or that KUBECONFIG names; its runs are in `namespace`. Connects at the first use.

    `git_image` clones codesets, `variables` are what the built-in steps must know of the installation; only who submits needs to say them.
    """
    from fuseml.engines import tekton

    return tekton.TektonEngine(tekton.Cluster(namespace), tekton.Settings(git_image=git_image, variables=variables or {}))
