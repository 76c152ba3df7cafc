"""Bytecode of the packages beside this server, for the built-in steps that run with its Python.

Confined steps cannot write it, so each of them would compile all that it imports where the packages were installed without bytecode, as uv does.
A process without confinement imports once what the steps import; Python writes the bytecode.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

from fuseml.embedded import child_process

MODULES = ("mlflow.pyfunc", "sklearn.linear_model", "sklearn.ensemble", "sklearn.model_selection", "sklearn.metrics", "sklearn.pipeline")
"""Packages that the built-in steps and most codesets import."""
_LOWEST_PRIORITY = ("nice", "-n", "19")


class OwnBytecode:
    """Imports the packages among `modules` in the background, unless all have bytecode. Messages are appended to `log`."""

    def __init__(self, log: pathlib.Path, environment: Mapping[str, str], modules: Sequence[str] = MODULES) -> None:
        self._log, self._environment, self._modules = log, {**environment, "MLFLOW_DISABLE_TELEMETRY": "true"}, modules
        self._child: child_process.SupervisedProcess | None = None

    def start(self) -> None:
        """Start the imports, if bytecode is missing and may be written."""
        if sys.dont_write_bytecode or not any(_lacks_bytecode(module) for module in self._modules):
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [*_LOWEST_PRIORITY, sys.executable, "-P", "-m", "fuseml.steps.bytecode", *self._modules]
        self._child = child_process.SupervisedProcess(command, env=self._environment, cwd=self._log.parent, log=self._log)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def stop(self) -> None:
        """End the imports; the next start repeats those that are missing."""
        if self._child is not None:
            self._child.stop()


def _lacks_bytecode(module: str) -> bool:
    """Whether the package `module` is installed without bytecode, in a folder that this process may write to. Imports nothing."""
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    source = pathlib.Path(spec.origin).parent.joinpath(*inner, "__init__.py")
    cached = pathlib.Path(importlib.util.cache_from_source(str(source)))
    return source.exists() and not cached.exists() and os.access(source.parent, os.W_OK)
