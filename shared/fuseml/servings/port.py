"""The port of servings: the desired and the observed state of an application, and the calls of a serving."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fuseml.domain import application, model_servers


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of an application, and the time of its registration; `document.environment` is unsealed."""

    number: int
    document: application.Application
    registered: str


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """The desired state of an application: its kept revisions, in ascending order, the traffic of the served ones, and whether it is public."""

    name: str
    revisions: Sequence[Revision]
    traffic: application.Traffic
    public: bool = False

    @property
    def newest(self) -> Revision:
        """The last registration."""
        return self.revisions[-1]


State = Literal["ready", "starting", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """The observed state of an application. `ready`: requests go to the revisions of the spec; otherwise `cause` is the reason.

    `traffic` is the observed traffic: revision -> percent. `url` is the address of the application for its users; empty while unknown.
    `model` is the name of the model in the paths below it; empty: that of the application. `due`: a step of the change waits for another
    `Serving.apply`, because what it needs has become ready.
    """

    state: State
    cause: str = ""
    url: str = ""
    traffic: Mapping[int, int] | None = None
    namespace: str = ""
    resources: Sequence[application.Resource] = ()
    model: str = ""
    due: bool = False


class Serving(Protocol):
    """Serves the models of applications. Calls raise TemporaryError when it cannot be reached, and PermanentError when it refuses."""

    splits: bool
    """Whether it can split requests among revisions, with no other software on the cluster than its own."""
    servers: Collection[model_servers.Server]
    """The model servers that it runs."""

    def check(self, spec: ServingSpec) -> None:
        """Raises InvalidError for a specification that it cannot serve, with the way out. Calls no cluster; environments may be sealed."""

    def apply(self, spec: ServingSpec) -> None:
        """Serve the application as specified. Idempotent; returns before it is ready. Until then the former revisions keep their requests."""

    def remove(self, name: str) -> None:
        """Stop serving the application. Does nothing for an unknown one."""

    def status(self, spec: ServingSpec) -> Status:
        """The observed state."""

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """The observed states by application, with a number of requests that does not depend on that of the applications. The environments
        of the specs may be sealed."""

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """The revisions that may get requests: a serving may have dropped older ones."""

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """Serve exactly these applications. Tries all of them before it raises the last refusal."""


Servings = Mapping[str, Serving]
"""By `Application.served_by`."""
