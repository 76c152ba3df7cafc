"""The local engine runs the steps of a plan on this machine: as processes, or as containers where podman or docker is installed."""

from __future__ import annotations

from fuseml.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
