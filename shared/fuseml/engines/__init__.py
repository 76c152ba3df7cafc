"""Engines execute plans. The engines `local` and `tekton` implement one small protocol and report progress as Tekton's events.

An engine of another package is a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuseml.domain import errors
from fuseml.engines.port import Engine, LogChunk
from fuseml.plugins import Seam
from fuseml.runtime import settings

__all__ = ["CONNECTORS", "PLUGINS", "Engine", "LogChunk", "connect"]

Connector = Callable[[settings.Settings], Engine]


def _tekton(installation: settings.Settings) -> Engine:
    from fuseml.engines import tekton

    return tekton.TektonEngine(tekton.Cluster(installation.namespace), tekton.Settings.of(installation))


CONNECTORS: Mapping[str, Connector] = {"tekton": _tekton}
"""Name of an engine -> its constructor. The engine `local` belongs to the embedded server."""

PLUGINS: Seam[Connector] = Seam(
    "fuseml.engines",
    1,
    {*CONNECTORS, "local"},
    refusal=errors.PermanentError,
    own=errors.FusemlError,
    shape="a callable that takes Settings",
)
"""Constructors of other packages."""


def connect(installation: settings.Settings) -> Engine:
    """The engine that `FUSEML_ENGINE` names; Tekton's is that of the cluster of this process, or of KUBECONFIG. Connects at the first use.

    Raises PermanentError for an unknown engine, and for a plugin that cannot be used.
    """
    name = installation.engine
    if name in CONNECTORS:
        return CONNECTORS[name](installation)
    plugin = PLUGINS.get(name)
    if plugin is None:
        known = ", ".join(sorted({*CONNECTORS, *PLUGINS.names()}))
        raise errors.PermanentError(f"FUSEML_ENGINE names no engine: {name!r}; the known ones are {known}")
    return PLUGINS.call(name, plugin, installation)
