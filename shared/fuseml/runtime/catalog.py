"""The one list of functions: it drives the embedded mount table, the gateway, the manifests and the client's addresses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Function:
    """`paths` are the HTTP prefixes that it serves; `events` says that it takes CloudEvents at `/` of its own address."""

    name: str
    paths: tuple[str, ...] = ()
    events: bool = False

    @property
    def service(self) -> str:
        """The name of its Knative Service."""
        return self.name.replace("_", "-")


FUNCTIONS: tuple[Function, ...] = (
    Function("extensions", ("/extensions",)),
    Function("resolver", ("/resolve",)),
    Function("codesets", ("/projects", "/codesets")),
    Function("workflows", ("/workflows",)),
    Function("runs", ("/runs", "/workflows/runs")),
    Function("applications", ("/applications",)),
    Function("artifacts", ("/artifacts", "/lineage"), events=True),
    Function("events", ("/events", "/why"), events=True),
    Function("gitea_ingress", ("/webhooks/gitea",)),
    Function("mlflow_ingress", ("/webhooks/mlflow",)),
    Function("dispatcher", events=True),
    Function("run_tracker", events=True),
    Function("housekeeper", events=True),
)


GATEWAY = Function("gateway", ("/",))
"""What passes HTTP requests on to the functions above. The embedded server does that itself."""


def serving(path: str) -> Function | None:
    """The function that serves an HTTP path: the longest prefix wins, as in the gateway."""
    best: tuple[int, Function] | None = None
    for function in FUNCTIONS:
        for prefix in function.paths:
            if (path == prefix or path.startswith(prefix + "/")) and (best is None or len(prefix) > best[0]):
                best = (len(prefix), function)
    return best[1] if best else None
