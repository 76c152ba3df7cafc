"""The table of functions. The embedded mount, the client's addresses, the gateway and the checks of the manifests read it."""

from __future__ import annotations

from dataclasses import dataclass

INTERNAL = "/.internal"
"""The prefix of the endpoints for brokers, at a function's own address. No name of FuseML begins with a dot, and no entrance forwards it."""

EVENTS = f"{INTERNAL}/events"
"""Receives the events of a function's triggers."""

DEAD_LETTERS = f"{INTERNAL}/dead-letters"
"""Receives the deliveries that a broker gave up; only on `events`."""

OUTSIDE = "Fuseml-Outside"
"""The header that every entrance sets on the requests it forwards. Internal endpoints refuse requests with it, whatever their path."""

CLIENT = "Fuseml-Client"
"""The header by which a client says that it knows this API, with its version. Others get what the original's API answers (`runtime.clients`)."""

DESCRIPTIONS = ("/openapi.json", "/api/openapi.json", "/api/openapi.yaml", "/api/openapi3.json", "/api/openapi3.yaml")
"""The paths of the OpenAPI document; all but the first are those of the original's API."""

MAX_BODY = 4 << 20
"""Bytes of a request. Documents are small; code and artifacts do not pass through the API."""


@dataclass(frozen=True, slots=True)
class Function:
    """`paths` are the HTTP prefixes of the function; with `events` it receives CloudEvents at `EVENTS` of its own address.

    `max_body` is the most bytes of a request to `paths`.
    """

    name: str
    paths: tuple[str, ...] = ()
    events: bool = False
    max_body: int = MAX_BODY

    @property
    def service(self) -> str:
        """The name of its Knative Service."""
        return self.name.replace("_", "-")


FUNCTIONS: tuple[Function, ...] = (
    Function("extensions", ("/extensions",)),
    Function("resolver", ("/resolve",)),
    Function("codesets", ("/projects", "/codesets", "/whoami")),
    Function("runnables", ("/runnables",)),
    Function("pipelines", ("/pipelines", "/catalogs")),
    Function("sources", ("/sources",), events=True),
    Function("workflows", ("/workflows",)),
    Function("runs", ("/runs", "/workflows/runs", "/pipelines/results")),
    Function("applications", ("/applications",)),
    Function("artifacts", ("/artifacts", "/lineage"), events=True),
    Function("events", ("/events", "/why"), events=True),
    # GitHub's limit; a webhook lists the files of its commits.
    Function("gitea_ingress", ("/webhooks/gitea", "/webhooks/git"), max_body=25 << 20),
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
