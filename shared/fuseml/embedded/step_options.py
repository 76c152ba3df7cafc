"""Options of `fuseml up` for its steps: what they may use of this machine, and their limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fuseml.domain import errors
from fuseml.domain.workflows.resources import quantity
from fuseml.engines import local
from fuseml.engines.local.devices import Allocation
from fuseml.engines.local.devices import parse as parse_devices

_PATTERN = re.compile(r"[A-Za-z0-9_*]+")
CONFINEMENT = ("auto", "off")


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """`allowed` paths and `passed` variables (patterns) beside the usual ones; `confined` where the kernel can; the `devices` to hand out
    instead of all those of the machine, None to hand out none and hide none.
    """

    allowed: tuple[local.AllowedPath, ...] = ()
    passed: tuple[str, ...] = ()
    limits: local.StepLimits = field(default_factory=local.StepLimits)
    confined: bool = True
    devices: Allocation | None = field(default_factory=dict)


def parse(
    *,
    paths: Iterable[str] = (),
    variables: Iterable[str] = (),
    log: str = "",
    disk: str = "",
    confinement: str = "",
    devices: Iterable[str] = (),
) -> StepOptions:
    """Read the options from text; empty text has the default. Raises InvalidError."""
    wrong = next((name for name in variables if not _PATTERN.fullmatch(name)), None)
    if wrong is not None:
        raise errors.InvalidError(f"{wrong!r} is not the name of a variable; give names such as HF_HOME, or patterns such as 'WANDB_*'")
    if confinement not in ("", *CONFINEMENT):
        raise errors.InvalidError(f"FUSEML_STEP_CONFINEMENT is {confinement!r}; set it to {' or '.join(CONFINEMENT)}")
    default = local.StepLimits()
    return StepOptions(
        allowed=tuple(map(local.AllowedPath.parse, paths)),
        passed=tuple(variables),
        limits=local.StepLimits(
            log=_bytes("FUSEML_STEP_LOG_LIMIT", log, default.log), disk=_bytes("FUSEML_STEP_DISK_LIMIT", disk, default.disk)
        ),
        confined=confinement != "off",
        devices=parse_devices(devices),
    )


def _bytes(name: str, text: str, default: int) -> int:
    try:
        return int(quantity(text)) if text else default
    except errors.PermanentError as error:
        raise errors.InvalidError(f"{name}: {error.message}; 0 is no limit") from error
