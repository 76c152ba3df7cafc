"""The local engine runs the steps of a plan on this machine: as processes, or as containers where podman or docker is installed."""

from __future__ import annotations

from fuseml.engines.local.confinement import AllowedPath, Confinement
from fuseml.engines.local.devices import Devices
from fuseml.engines.local.engine import LocalEngine
from fuseml.engines.local.host import StepLimits

__all__ = ["AllowedPath", "Confinement", "Devices", "LocalEngine", "StepLimits"]
