"""Servings run the model servers of applications: the embedded server's own processes, Knative Services, KServe, and Seldon Core 1 and 2.

The database holds the desired state. A serving gets it after every commit, and the sweep reconciles all of it, which repairs a crash in
between and a manual deletion. `Application.served_by` selects the serving.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import application, errors
from fuseml.domain.registry import extension
from fuseml.plugins import Seam
from fuseml.servings.port import Revision, Serving, Servings, ServingSpec, State, Status
from fuseml.store import applications

_log = logging.getLogger("fuseml.servings")

__all__ = [
    "CONNECTORS",
    "PLUGINS",
    "Revision",
    "Serving",
    "ServingSpec",
    "Servings",
    "Settings",
    "State",
    "Status",
    "connect",
    "connect_plugins",
    "select",
    "serving_spec",
]


def serving_spec(session: sqlmodel.Session, row: applications.Application, unseal: Callable[[str], str]) -> ServingSpec | None:
    """The desired state of an application; None for one without a model, which FuseML only records."""
    if not row.document.get("model"):
        return None
    revisions = [
        Revision(former.revision, _unsealed(former.document, unseal), former.created)
        for former in applications.revisions(session, row.name)
    ]
    traffic = {int(revision): percent for revision, percent in row.traffic.items()}
    return ServingSpec(row.name, tuple(revisions), traffic, public=bool(row.document.get("public")))


def select(servings: Servings, served_by: str) -> Serving:
    """The serving of this resource. Raises InvalidError with the configured ones, and PermanentError for a plugin that cannot be used."""
    if served_by not in servings:
        if PLUGINS.get(served_by) is not None:
            raise errors.PermanentError(
                f"the plugin {served_by!r} connects to no serving here; the log names the reason, read at the start"
            )
        others = f"the step's selector for prediction-serving must resolve to one of: {', '.join(sorted(servings))}" if servings else ""
        own = (
            "set FUSEML_SERVING_IMAGE, with which FuseML serves models itself" if served_by == application.BUILT_IN or not servings else ""
        )
        raise errors.InvalidError(f"no serving {served_by!r} is configured; {', or '.join(filter(None, (others, own)))}")
    return servings[served_by]


@dataclass(frozen=True, slots=True)
class Settings:
    """Configuration of the servings of a cluster.

    `namespace` holds the workloads. `image` holds the model server; empty: Knative serves nothing here. `mlserver_image` holds MLServer.
    """

    namespace: str
    image: str = ""
    mlserver_image: str = ""


def _knative(settings: Settings) -> Serving | None:
    from fuseml.servings import knative

    if not settings.image:
        return None
    images = knative.Settings(image=settings.image, mlserver_image=settings.mlserver_image)
    return knative.KnativeServing(knative.Cluster(settings.namespace), images)


def _kserve(settings: Settings) -> Serving:
    from fuseml.servings import kserve

    return kserve.KServeServing(kserve.Cluster(settings.namespace), kserve.Settings())


def _seldon(settings: Settings) -> Serving:
    from fuseml.servings import seldon

    return seldon.SeldonServing(seldon.Cluster(settings.namespace), seldon.Settings())


def _seldon_v2(settings: Settings) -> Serving:
    from fuseml.servings import seldon_v2

    return seldon_v2.SeldonV2Serving(seldon_v2.Cluster(settings.namespace), seldon_v2.Settings())


Connector = Callable[[Settings], Serving | None]

CONNECTORS: Mapping[str, Connector] = {
    application.BUILT_IN: _knative,
    "kserve-api": _kserve,
    "seldon-core-api": _seldon,
    "seldon-core-v2-api": _seldon_v2,
}
"""`Application.served_by` -> constructor of the serving; None where it is not configured. Another serving is one more line. Those of
other tools serve where the tool is installed; elsewhere the cluster refuses the first application."""

PLUGINS: Seam[Connector] = Seam(
    "fuseml.servings", 1, CONNECTORS, refusal=errors.PermanentError, own=errors.FusemlError, shape="a callable that takes Settings"
)
"""Connectors of other packages, each under the resource of its serving."""


def connect(settings: Settings) -> Servings:
    """The configured servings of the cluster that this process runs in, or that KUBECONFIG names. Each connects at its first call."""
    connected = {resource: connector(settings) for resource, connector in CONNECTORS.items()}
    return {resource: serving for resource, serving in connected.items() if serving is not None} | connect_plugins(settings)


def connect_plugins(settings: Settings) -> dict[str, Serving]:
    """The configured servings of other packages. The log has a warning about each that fails."""
    found: dict[str, Serving] = {}
    for resource, connector in PLUGINS.usable():
        try:
            serving = PLUGINS.call(resource, connector, settings)
        except errors.FusemlError as error:
            _log.warning("the serving %s is left out: %s", resource, error.message)
            continue
        if serving is not None:
            found[resource] = serving
    return found


def _unsealed(document: Mapping[str, object], unseal: Callable[[str], str]) -> application.Application:
    stored = application.Application.model_validate(document)
    environment = {name: unseal(value) for name, value in stored.environment.items() if value != extension.HIDDEN}
    return stored.model_copy(update={"environment": environment})
