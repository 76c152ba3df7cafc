"""`--open`: the page at which a tool shows a run, a model or an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

Open = Annotated[bool, typer.Option("--open", help="Print the address of the tool's own page, and open it in a browser.")]

_TRACKING = "mlflow-tracking"
# The output in which a trainer names its run of MLflow.
_RUN = "mlflow-run"


def show(url: str) -> None:
    """Print the address, and open it in a browser where there is one."""
    if not url.startswith(("http://", "https://")):
        raise errors.PermanentError(f"{url[:200]!r} is no address of a page")
    terminal.echo(url)
    typer.launch(url)


def of_run(client: Client, run: shapes.Run) -> str:
    """The address at which MLflow shows the run that a trainer logged, else the model of the run. Raises NotFoundError without both."""
    for step in run["steps"]:
        logged = (step.get("outputs") or {}).get(_RUN)
        for binding in run["bindings"] if logged else []:
            if binding["step"] == step["name"] and binding["service_resource"] == _TRACKING:
                return f"{binding['url'].rstrip('/')}/#/runs/{logged}"
    for model in client.artifacts.list(run=run["name"], kind="model", limit=1):
        return client.artifacts.page(model["address"])["url"]
    raise errors.NotFoundError(f"run {run['name']} has logged no run of MLflow, and made no model")
