"""Servings run the model servers of applications: the embedded server's own processes, and Knative Services.

The database holds the desired state. A serving gets it after every commit, and the sweep reconciles all of it, which repairs a crash in
between and a manual deletion. `Application.served_by` selects the serving.
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
    """One revision of an application, and the time of its registration; `document.environment` is unsealed."""

    number: int
    document: application.Application
    registered: str


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """The desired state of an application: its kept revisions, in ascending order, and the traffic of the served ones."""

    name: str
    revisions: Sequence[Revision]
    traffic: application.Traffic

    @property
    def newest(self) -> Revision:
        """The last registration."""
        return self.revisions[-1]


State = Literal["ready", "starting", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """The observed state of an application. `ready`: requests go to the revisions of the spec; otherwise `cause` is the reason.

    `traffic` is the observed traffic: revision -> percent. `url` is the address of the application for its users; empty while unknown.
    """

    state: State
    cause: str = ""
    url: str = ""
    traffic: Mapping[int, int] | None = None
    namespace: str = ""
    resources: Sequence[application.Resource] = ()


class Serving(Protocol):
    """Serves the models of applications. Calls raise TemporaryError when it cannot be reached, and PermanentError when it refuses."""

    splits: bool
    """Whether it can split requests among revisions."""

    def apply(self, spec: ServingSpec) -> None:
        """Serve the application as specified. Idempotent; returns before it is ready. Until then the former revisions keep their requests."""

    def remove(self, name: str) -> None:
        """Stop serving the application. Does nothing for an unknown one."""

    def status(self, spec: ServingSpec) -> Status:
        """The observed state."""

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """The revisions that may get requests: a serving may have dropped older ones."""

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """Serve exactly these applications. Tries all of them before it raises the last refusal."""


Servings = Mapping[str, Serving]
"""By `Application.served_by`."""


def serving_spec(session: sqlmodel.Session, row: applications.Application, unseal: Callable[[str], str]) -> ServingSpec | None:
    """The desired state of an application; None for one without a model, which FuseML only records."""
    if not row.document.get("model"):
        return None
    revisions = [
        Revision(former.revision, _unsealed(former.document, unseal), former.created)
        for former in applications.revisions(session, row.name)
    ]
    return ServingSpec(row.name, tuple(revisions), {int(revision): percent for revision, percent in row.traffic.items()})


def select(servings: Servings, served_by: str) -> Serving:
    """The serving of this resource. Raises InvalidError with the configured ones."""
    if served_by not in servings:
        remedy = (
            f"the step's selector for prediction-serving must resolve to one of: {', '.join(sorted(servings))}"
            if servings
            else "this installation has none; set FUSEML_SERVING_IMAGE"
        )
        raise errors.InvalidError(f"no serving {served_by!r} is configured; {remedy}")
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


def _unsealed(document: Mapping[str, object], unseal: Callable[[str], str]) -> application.Application:
    stored = application.Application.model_validate(document)
    environment = {name: unseal(value) for name, value in stored.environment.items() if value != extension.HIDDEN}
    return stored.model_copy(update={"environment": environment})
