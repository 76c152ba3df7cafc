"""The local engine: runs a plan's steps as processes, or as containers where podman or docker is there, on this machine."""

from __future__ import annotations

from fuseml.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
