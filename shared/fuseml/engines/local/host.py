"""The host of native steps and containers: what this machine gives to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import plans
from fuseml.engines.local import implementations
from fuseml.engines.local.confinement import Confinement
from fuseml.engines.local.devices import Devices
from fuseml.engines.local.trash import Trash
from fuseml.processes.launcher import Launcher


@dataclass(frozen=True, slots=True)
class StepLimits:
    """Bytes of the log of a step and of the files that it writes; 0 for no limit."""

    log: int = 100 << 20
    disk: int = 50 << 30


@dataclass(frozen=True, slots=True)
class Host:
    """The environment that this machine gives to all steps. `container_variables` names those of `environment` for containers, `masked` are
    secrets in it.
    """

    checkout: Callable[[plans.Checkout, Path], Sequence[plans.Submodule]]
    unseal: Callable[[bytes], bytes]
    implementations: implementations.Implementations
    environment: Mapping[str, str]
    container_variables: Sequence[str]
    masked: Sequence[str]
    trash: Trash
    launcher: Launcher
    confinement: Confinement
    limits: StepLimits
    devices: Devices
