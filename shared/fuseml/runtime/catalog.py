"""The table of functions. The embedded mount, the client's addresses, the gateway and the checks of the manifests read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Function:
    """`paths` are the HTTP prefixes of the function; with `events` it receives CloudEvents at `/` of its own address."""

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
"""Forwards HTTP requests to the functions above. The embedded server mounts them instead."""


def find(path: str) -> Function | None:
    """The function that serves an HTTP path: the longest prefix wins. None where no function does."""
    best: tuple[int, Function] | None = None
    for function in FUNCTIONS:
        for prefix in function.paths:
            if (path == prefix or path.startswith(prefix + "/")) and (best is None or len(prefix) > best[0]):
                best = (len(prefix), function)
    return best[1] if best else None
