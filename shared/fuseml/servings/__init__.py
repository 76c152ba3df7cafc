"""Servings keep in service what applications say. Two are real: the embedded server's model servers, and Knative.

What is wanted is in the database; a serving is told it after every change, and all of it again by the sweep, so that a crash in between,
or a hand that deleted something, is made good. KServe and Seldon Core would be two more, chosen by `Application.served_by`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import sqlmodel

from fuseml.domain import application, errors
from fuseml.domain.registry import extension
from fuseml.store import applications


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of an application, and when it was registered; `document.environment` is in the open."""

    number: int
    document: application.Application
    registered: str


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """What is to be served: the kept revisions, in ascending order, and the traffic of those that are served."""

    name: str
    revisions: Sequence[Revision]
    traffic: application.Traffic

    @property
    def newest(self) -> Revision:
        """What was registered last."""
        return self.revisions[-1]


State = Literal["ready", "starting", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """How it is. `ready` means that requests go where they are wanted; `cause` says why they do not; `traffic` is where they do go.

    `url` is the address below which it is served, as its users reach it; empty while nobody knows.
    """

    state: State
    cause: str = ""
    url: str = ""
    traffic: Mapping[int, int] | None = None
    namespace: str = ""
    resources: Sequence[application.Resource] = ()


class Serving(Protocol):
    """Serves the models of applications. Calls raise TemporaryError when it cannot be reached and PermanentError when it refuses."""

    splits: bool
    """Whether it can share requests among revisions."""

    def apply(self, wanted: ServingSpec) -> None:
        """Serve this. Idempotent; returns before it is ready. What is served goes on until the new is."""

    def remove(self, name: str) -> None:
        """Serve it no longer. Does nothing when there is nothing."""

    def status(self, wanted: ServingSpec) -> Status:
        """How it is served now."""

    def servable(self, wanted: ServingSpec) -> Collection[int]:
        """Which of the revisions may get requests: a serving may have forgotten older ones."""

    def reconcile(self, wanted: Sequence[ServingSpec]) -> None:
        """Make it so that these are served, and nothing else. Raises the last refusal, after it has tried them all."""


Servings = Mapping[str, Serving]
"""By `Application.served_by`."""


def serving_spec(session: sqlmodel.Session, row: applications.Application, unseal: Callable[[str], str]) -> ServingSpec | None:
    """What the database says about an application; None when it is served by somebody else."""
    if not row.document.get("model"):
        return None
    kept = [
        Revision(former.revision, _opened(former.document, unseal), former.created) for former in applications.revisions(session, row.name)
    ]
    return ServingSpec(row.name, tuple(kept), {int(revision): percent for revision, percent in row.traffic.items()})


def chosen(servings: Servings, served_by: str) -> Serving:
    """Raises InvalidError that names those that there are."""
    if served_by not in servings:
        raise errors.InvalidError(
            f"nothing here serves applications by {served_by!r}; let the step's selector for prediction-serving find one of: "
            f"{', '.join(sorted(servings)) or 'none is configured (FUSEML_SERVING_IMAGE)'}"
        )
    return servings[served_by]


@dataclass(frozen=True, slots=True)
class Settings:
    """Configuration of the servings of a cluster.

    `namespace` holds the workloads. `image` holds the model server; empty: Knative serves nothing here.
    """

    namespace: str
    image: str = ""


def _knative(settings: Settings) -> Serving | None:
    from fuseml.servings import knative

    return knative.KnativeServing(knative.Cluster(settings.namespace), knative.Settings(image=settings.image)) if settings.image else None


CONNECTORS: Mapping[str, Callable[[Settings], Serving | None]] = {
    application.BUILT_IN: _knative,
}
"""`Application.served_by` -> constructor of the serving; None where it is not configured. Another serving is one more line."""


def connect(settings: Settings) -> Servings:
    """The configured servings of the cluster that this process runs in, or that KUBECONFIG names. Each connects at its first call."""
    connected = {resource: connector(settings) for resource, connector in CONNECTORS.items()}
    return {resource: serving for resource, serving in connected.items() if serving is not None}


def _opened(document: Mapping[str, object], unseal: Callable[[str], str]) -> application.Application:
    stored = application.Application.model_validate(document)
    opened = {name: unseal(value) for name, value in stored.environment.items() if value != extension.HIDDEN}
    return stored.model_copy(update={"environment": opened})
