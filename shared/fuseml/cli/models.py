"""`fuseml model`: versions of models, and the aliases by which others name them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import artifacts, completion, options, output, pages, run_metrics, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.artifactstores import ArtifactStore
    from fuseml.client import shapes
    from fuseml.client.api import Client

app = typer.Typer(help="Models: versions, aliases, promotion.", **options.GROUP)

ModelName = Annotated[
    str,
    typer.Argument(
        help="NAME for the newest version, NAME/VERSION, NAME@ALIAS, models:/..., or an address.",
        metavar="MODEL",
        show_default=False,
        autocompletion=completion.models,
    ),
]
_MLFLOW = "models:/"
# For MLflow's own names of versions.
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
_ADDRESS = "model://"


def _metric(name: str) -> output.Column:
    def read(model: options.Item) -> str:
        metrics = model.get("metrics")
        return run_metrics.number(metrics.get(name)) if isinstance(metrics, dict) else ""

    return output.Column(name, read)


def _metrics(model: options.Item) -> str:
    metrics = model.get("metrics")
    return ", ".join(f"{name} {run_metrics.number(value)}" for name, value in metrics.items()) if isinstance(metrics, dict) else ""


_COLUMNS = (
    output.column("Name"),
    output.Column("Version", output.field("version"), fold=True),
    output.column("Project", minor=True),
    output.Column("Aliases", artifacts.tags_of),
    output.column("Run", minor=True),
    output.Column("Age", lambda model: output.age(model.get("created"))),
)


@app.command(name="list", epilog=options.examples("fuseml model list", "fuseml model list -n sklearn-diabetes --metric rmse"))
def list_(
    context: typer.Context,
    project: options.Project = "",
    name: Annotated[str, options.option("--name", "-n", help="Only versions of this model.")] = "",
    metric: Annotated[list[str] | None, options.option("--metric", metavar="NAME", help="Show this metric; may be repeated.")] = None,
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List the versions of models, the newest first."""
    found = sorted(_versions(session.connect(context), project, name), key=lambda model: model["created"], reverse=True)
    shown = [_metric(item) for item in metric] if metric else [output.Column("Metrics", _metrics, cut=True)]
    empty = "There is no matching model; steps that train register models, and `fuseml artifact push --kind model` does."
    output.listing(format, found[:limit], (*_COLUMNS[:4], *shown, *_COLUMNS[4:]), empty)


@app.command(epilog=options.examples("fuseml model get sklearn-diabetes", "fuseml model get models:/sklearn-diabetes@champion -o json"))
def get(
    context: typer.Context,
    model: ModelName,
    project: options.Project = "",
    open: pages.Open = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show a version of a model with its metrics and metadata."""
    client = session.connect(context)
    if open:
        pages.show(client.artifacts.page(_address(client, model, project))["url"])
        return
    artifacts.show(client.artifacts.get(_address(client, model, project)), format)


@app.command(
    epilog=options.examples("fuseml model promote sklearn-diabetes", "fuseml model promote sklearn-diabetes/2 --to production -p demo")
)
def promote(
    context: typer.Context,
    model: ModelName,
    to: Annotated[
        str, options.option("--to", metavar="ALIAS", help="The alias that the version gets; `champion` by default.")
    ] = "champion",
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Give a version the alias `champion`, or another one.

    The alias is a tag of FuseML and, for a model in MLflow, an alias of
    MLflow. It moves from the version that has it. Applications that follow
    it serve the new version, and the event `artifact.tagged` is sent.
    """
    client = session.connect(context)
    item = client.artifacts.get(_address(client, model, project))
    before = _holder(client, item, to)
    changed = _alias(client, item, to)
    output.done(format, changed, f"{changed['address']} is {to!r} now{_change(before, changed)}.")


@app.command(
    epilog=options.examples(
        "fuseml model alias sklearn-diabetes/1 candidate", "fuseml model alias sklearn-diabetes@candidate candidate --remove"
    )
)
def alias(
    context: typer.Context,
    model: ModelName,
    alias: Annotated[str, typer.Argument(help="The alias.", metavar="ALIAS", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias instead.")] = False,
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Put an alias on a version, or remove it; in MLflow, too."""
    client = session.connect(context)
    item = client.artifacts.get(_address(client, model, project))
    if not remove:
        changed = _alias(client, item, alias)
        output.done(format, changed, f"Alias {alias!r} is on {changed['address']}.")
        return
    changed = client.artifacts.untag(item["address"], alias)
    if store := _mlflow(client, item):
        from fuseml.domain import artifact

        store.untag(artifact.Address.parse(item["address"]), alias)
    output.done(format, changed, f"Alias {alias!r} removed from {changed['address']}.")


def _versions(client: Client, project: str, name: str = "") -> list[shapes.Artifact]:
    return list(client.artifacts.list(kind="model", project=project, name=name))


def _address(client: Client, model: str, project: str) -> str:
    """The address of the model that a user names. Raises NotFoundError for a model without versions."""
    if model.startswith(_ADDRESS):
        return model
    text = model.removeprefix(_MLFLOW)
    owner = project or client.projects.only()
    name, at, alias = text.rpartition("@")
    if at:
        return f"{_ADDRESS}{owner}/{name}@{alias}"
    name, slash, version = text.rpartition("/")
    if slash and version != "latest":
        return f"{_ADDRESS}{owner}/{text}"
    found = _versions(client, owner, name if slash else text)
    if not found:
        raise errors.NotFoundError(f"project {owner} has no model {name or text!r}; `fuseml model list` shows the models")
    return max(found, key=lambda item: item["created"])["address"]


def _alias(client: Client, item: shapes.Artifact, alias: str) -> shapes.Artifact:
    """Put the alias on the version, in FuseML and in MLflow; a repetition completes what a failure has left."""
    store = _mlflow(client, item)
    if store and _RESERVED.fullmatch(alias):
        raise errors.InvalidError(f"MLflow reserves the alias {alias!r}; choose another one than latest, v1, v2, ...")
    changed = client.artifacts.tag(item["address"], alias)
    if store:
        from fuseml.domain import artifact

        try:
            store.tag(artifact.Address.parse(item["address"]), alias)
        except errors.FusemlError as error:
            error.message = f"{item['address']} has the tag {alias!r} in FuseML, and MLflow does not have its alias: {error.message}"
            raise
    return changed


def _mlflow(client: Client, item: shapes.Artifact) -> ArtifactStore | None:
    """The MLflow that holds the model; None for a model in another store, or in none."""
    from fuseml.client import artifact_contents
    from fuseml.contents import trackers

    if not str(item.get("location") or "").startswith(_MLFLOW):
        return None
    access = client.artifacts.location(item["address"])
    if access["resource"] != trackers.RESOURCE:
        return None
    return artifact_contents.store_of(client, access, item["project"])


def _holder(client: Client, item: shapes.Artifact, alias: str) -> shapes.Artifact | None:
    try:
        return client.artifacts.get(f"{_ADDRESS}{item['project']}/{item['name']}@{alias}")
    except errors.NotFoundError:
        return None


def _change(before: shapes.Artifact | None, after: shapes.Artifact) -> str:
    """The version that had the alias before, and how the metrics of both differ."""
    if before is None:
        return ""
    if before["address"] == after["address"]:
        return ", as before"
    old, new = before["metrics"] or {}, after["metrics"] or {}
    changes = [f"{name} {run_metrics.number(old[name])} -> {run_metrics.number(new[name])}" for name in new if name in old]
    return f", in place of version {before['version']}" + (f" ({', '.join(changes)})" if changes else "")
