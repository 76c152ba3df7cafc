"""The builds of accelerator libraries that an environment gets.

PyTorch publishes its builds in an index for each accelerator, and its build on the Python package index is the one for GPUs, of several
gigabytes. The input `accelerator` chooses: a name of uv's `--torch-backend` (`cpu`, `cu128`, `rocm6.3`), `index` for the builds of the
package index, or `auto`, the default: those of this machine, unless the installation has a package index of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from fuseml.steps import sdk

# Libraries of GPUs that packages require in every build, and load only where there is a GPU; PyTorch's CPU build needs none.
_GPU_ONLY = ("nvidia-nccl-cu12", "nvidia-nccl-cu13")
_DEVICES = ("/dev/nvidia0", "/dev/kfd")
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_NO_INDEX", "UV_OFFLINE")


def backend(wanted: str, index: str, environment: Mapping[str, str]) -> str:
    """The value of uv's `--torch-backend`; empty for the builds of the package index. Raises StepError for an unknown name."""
    if wanted and not re.fullmatch(r"auto|index|cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)*", wanted):
        raise sdk.StepError(f"the input 'accelerator' is '{wanted}': use auto, index, cpu, or a build such as cu128 or rocm6.3")
    if wanted == "index":
        return ""
    if wanted not in ("", "auto"):
        return wanted
    if environment.get("UV_TORCH_BACKEND"):
        return environment["UV_TORCH_BACKEND"]
    if index or any(environment.get(name) for name in _INDEX_VARIABLES):
        return ""
    return "auto" if any(Path(device).exists() for device in _DEVICES) else "cpu"


def excluded(backend: str, required: Collection[str]) -> list[str]:
    """The packages to leave out, except those that the codeset itself requires."""
    return [name for name in _GPU_ONLY if backend == "cpu" and name not in required]
