"""`fuseml artifact`."""

from __future__ import annotations

import enum
import json
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import artifact_contents, lineage_tree, mirrors, options, output, retention, session, terminal
from fuseml.cli.events import moment
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes

app = typer.Typer(help="Artifacts: code, models, datasets, and their lineage.", **options.GROUP)


class Direction(enum.StrEnum):
    """The values of `--direction`."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


Address = artifact_contents.Address
TagName = Annotated[str, typer.Argument(help="The tag.", metavar="TAG", show_default=False)]
LabelName = Annotated[str, typer.Argument(help="The label.", metavar="LABEL", show_default=False)]
Kind = Annotated[str, options.option("--kind", "-k", help="code, model, dataset, runnable or image.")]
NameFilter = Annotated[str, options.option("--name", "-n", help="Only artifacts of this name.")]
RunFilter = Annotated[str, options.option("--run", help="Only artifacts of this run.")]


def _framework(artifact: options.Item) -> object:
    framework = artifact.get("framework")
    return f"{framework['name']} {framework['version']}".strip() if isinstance(framework, dict) else None


def tags_of(artifact: options.Item) -> object:
    """The tags of an artifact as one text; immutable ones are marked."""
    tags = artifact.get("tags")
    return ", ".join(f"{tag['tag']} (immutable)" if tag["immutable"] else tag["tag"] for tag in tags) if isinstance(tags, list) else None


_AGE = output.Column("Age", lambda artifact: output.age(artifact.get("created")))
_COLUMNS = (
    output.column("Address"),
    output.column("Kind", minor=True),
    output.column("Format", minor=True),
    output.Column("Framework", _framework),
    output.Column("Tags", tags_of),
    output.column("Labels"),
    output.column("Run"),
    _AGE,
)
_ARTIFACT = (
    output.column("Address"),
    output.column("Kind"),
    output.column("Project"),
    output.column("Name"),
    output.column("Version"),
    output.column("Type"),
    output.column("Format"),
    output.Column("Framework", _framework),
    output.column("Digest"),
    output.column("Size"),
    output.column("Location"),
    output.column("External"),
    output.column("Run"),
    output.column("Step"),
    output.Column("Tags", tags_of),
    output.column("Labels"),
    _AGE,
)
_CHANGES = (
    output.column("Change"),
    output.column("Name"),
    output.column("Address"),
    output.column("Previous"),
    output.column("By"),
    output.Column("Age", lambda change: output.age(change.get("made"))),
)
_PRODUCTS = (output.column("Product", "target"), output.column("Run"), output.column("Step"))
_PAIRS = (output.column("Key"), output.column("Value"))


@app.command(name="list", epilog=options.examples("fuseml artifact list --kind model -p demo", "fuseml artifact list --run mlflow-e2e-1"))
def list_(
    context: typer.Context,
    kind: Kind = "",
    project: options.Project = "",
    name: NameFilter = "",
    run: RunFilter = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List artifacts, by address."""
    artifacts = session.connect(context).artifacts.list(kind=kind, project=project, name=name, run=run, limit=limit)
    output.listing(format, artifacts, _COLUMNS, "There is no matching artifact; pushes and finished runs record artifacts.")


@app.command(
    epilog=options.examples(
        "fuseml artifact search --kind model --where 'metrics.r2 > 0.1'",
        "fuseml artifact search 'model://*?framework=torch>=2&metrics.rmse<60'",
        "fuseml artifact search --label reviewed --before 30d",
    )
)
def search(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(help="kind://project/*, with filters after ?", metavar="PATTERN", show_default=False)] = "",
    kind: Kind = "",
    project: options.Project = "",
    name: NameFilter = "",
    content_type: Annotated[str, options.option("--content-type", help="Media type of the contents.")] = "",
    content_format: Annotated[str, options.option("--content-format", help="Format of the contents: mlflow, onnx.")] = "",
    framework: Annotated[str, options.option("--framework", help="A framework: scikit-learn, 'scikit-learn>=1.4'.")] = "",
    tag: Annotated[str, options.option("--tag", help="Only artifacts with this tag.")] = "",
    label: Annotated[list[str] | None, options.option("--label", help="Only artifacts with this label; may be repeated.")] = None,
    run: RunFilter = "",
    step: Annotated[str, options.option("--step", help="Only artifacts of steps of this name.")] = "",
    producer: Annotated[str, options.option("--producer", help="Only artifacts of this run, or of all runs of a workflow.")] = "",
    since: Annotated[str, options.option("--since", metavar="TIME", help="Recorded since: 7d, 2h, or an RFC 3339 time.")] = "",
    before: Annotated[str, options.option("--before", metavar="TIME", help="Recorded before: 30d ago, or an RFC 3339 time.")] = "",
    accepts: Annotated[str, options.option("--accepts", metavar="RUNNABLE:INPUT", help="Only those that the input accepts.")] = "",
    where: Annotated[list[str] | None, options.option("--where", metavar="CONDITION", help="metrics.rmse<0.8; may be repeated.")] = None,
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Find artifacts that pass all filters."""
    artifacts = session.connect(context).artifacts.list(
        pattern=pattern,
        kind=kind,
        # A pattern names the project itself.
        project=project if not pattern or options.is_given(context, "project") else "",
        name=name,
        type=content_type,
        format=content_format,
        framework=framework,
        tag=tag,
        label=label or [],
        run=run,
        step=step,
        producer=producer,
        since=moment(since),
        before=moment(before),
        accepts=accepts,
        where=where or [],
        limit=limit,
    )
    output.listing(format, artifacts, _COLUMNS, "No artifact passes all filters; `fuseml artifact list` shows all artifacts.")


@app.command(epilog=options.examples("fuseml artifact get model://demo/diabetes/1", "fuseml artifact get model://demo/diabetes@champion"))
def get(context: typer.Context, address: Address, format: options.Output = output.Format.TABLE) -> None:
    """Show one artifact with its metrics and metadata."""
    show(session.connect(context).artifacts.get(address), format)


def show(artifact: shapes.Artifact, format: output.Format) -> None:
    """Print an artifact with its metrics and metadata."""
    output.record(format, artifact, _ARTIFACT)
    metadata = {key: value for key, value in artifact.get("metadata", {}).items() if key != "metrics"}
    for title, pairs in (("Metrics", artifact.get("metrics")), ("Metadata", metadata)):
        if format is output.Format.TABLE and pairs:
            terminal.echo(f"\n{title}:")
            output.table([{"key": key, "value": value} for key, value in pairs.items()], _PAIRS, indent=2)


@app.command(epilog=options.examples("fuseml artifact tag model://demo/diabetes/1 champion", "fuseml artifact tag ADDRESS v1 --immutable"))
def tag(
    context: typer.Context,
    address: Address,
    tag: TagName,
    immutable: Annotated[bool | None, typer.Option("--immutable/--movable", help="Whether it may move later.", show_default=False)] = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Put a tag on an artifact. It moves there from another version, unless it is immutable."""
    artifact = session.connect(context).artifacts.tag(address, tag, immutable=immutable)
    output.done(format, artifact, f"Tag {tag!r} is on {artifact['address']}.")


@app.command(epilog=options.examples("fuseml artifact untag model://demo/diabetes/1 champion"))
def untag(context: typer.Context, address: Address, tag: TagName, format: options.Output = output.Format.TABLE) -> None:
    """Remove a tag from an artifact."""
    artifact = session.connect(context).artifacts.untag(address, tag)
    output.done(format, artifact, f"Tag {tag!r} removed from {artifact['address']}.")


@app.command(
    epilog=options.examples("fuseml artifact label model://demo/diabetes/1 reviewed", "fuseml artifact label ADDRESS reviewed --remove")
)
def label(
    context: typer.Context,
    address: Address,
    label: LabelName,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the label instead.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Put a label on an artifact, or remove it."""
    artifacts = session.connect(context).artifacts
    artifact = artifacts.unlabel(address, label) if remove else artifacts.label(address, label)
    output.done(format, artifact, f"Label {label!r} {'removed from' if remove else 'is on'} {artifact['address']}.")


@app.command(epilog=options.examples("fuseml artifact delete model://demo/diabetes/1"))
def delete(context: typer.Context, address: Address) -> None:
    """Delete the record of an artifact.

    It must be neither tagged nor served. Its contents, lineage and history stay.
    """
    session.connect(context).artifacts.delete(address)
    terminal.echo(f"Artifact {address} deleted.")


@app.command(epilog=options.examples("fuseml artifact history model://demo/diabetes/1"))
def history(context: typer.Context, address: Address, format: options.Output = output.Format.TABLE) -> None:
    """Show the changes of an artifact's names.

    The newest comes first. Below stands what was made from the artifact.
    """
    found = session.connect(context).artifacts.history(address)
    parts = (("Changes", "changes", _CHANGES), ("Products", "products", _PRODUCTS))
    output.record(format, found, (output.column("Address"), output.column("Deleted")), *parts)


OutputFile = Annotated[str, options.option("--output", metavar="FILE", help="The file to write; standard output by default.")]


@app.command(
    epilog=options.examples(
        "fuseml artifact provenance model://demo/diabetes/1", "fuseml artifact provenance ADDRESS --output model.intoto.json"
    )
)
def provenance(context: typer.Context, address: Address, file: OutputFile = "") -> None:
    """Print the signed SLSA provenance of an artifact.

    It is a DSSE envelope with an in-toto statement on the run that made it. `fuseml artifact public-key` prints the key that verifies it.
    """
    _write(json.dumps(session.connect(context).artifacts.provenance(address), indent=2), file)


@app.command(epilog=options.examples("fuseml artifact public-key --output fuseml.pem"))
def public_key(context: typer.Context, file: OutputFile = "") -> None:
    """Print the public key that verifies provenance, in PEM."""
    _write(session.connect(context).artifacts.public_key(), file)


def _write(text: str, file: str) -> None:
    if not file:
        terminal.echo(text, nl=not text.endswith("\n"))
        return
    try:
        pathlib.Path(file).write_text(text if text.endswith("\n") else text + "\n")
    except OSError as error:
        raise errors.PermanentError(f"{file} cannot be written: {error.strerror or error}") from error
    terminal.echo(f"{file} is written.", err=True)


@app.command(epilog=options.examples("fuseml artifact reproduce model://demo/diabetes/1", "fuseml artifact reproduce ADDRESS -o json"))
def reproduce(context: typer.Context, address: Address, format: options.Output = output.Format.TABLE) -> None:
    """Repeat the run that made an artifact, and compare.

    The locked plan of the run is repeated up to the step that made the artifact: the same code, tools and parameters. What it makes is
    recorded as by any other run. Exit code 1 unless the contents are the same.
    """
    from fuseml.cli import reproduction

    result = reproduction.reproduce(session.connect(context), address, format)
    if format is output.Format.TABLE:
        reproduction.show(result)
    else:
        output.dump(format, result)
    if result["same"] is not True:
        raise typer.Exit(1)


@app.command(epilog=options.examples("fuseml artifact lineage model://demo/diabetes/1", "fuseml artifact lineage ADDRESS --direction up"))
def lineage(
    context: typer.Context,
    address: Address,
    direction: Annotated[
        Direction, typer.Option("--direction", metavar="WAY", help="up: sources; down: products; both.", show_default=False)
    ] = Direction.BOTH,
    depth: Annotated[int | None, options.option("--depth", min=1, help="The most steps from the artifact; 10 by default.")] = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the sources and products of an artifact, as a tree."""
    found = session.connect(context).artifacts.lineage(address, direction.value, depth)
    if format is not output.Format.TABLE:
        output.dump(format, found)
    elif not found["edges"]:
        terminal.echo(f"No lineage is recorded for {found['address']}.", err=True)
    else:
        output.console().print(lineage_tree.tree(found))
        if found["truncated"]:
            terminal.echo("There is more within this depth; use a smaller --depth, or a --direction.", err=True)


_PUSH = ("fuseml artifact push data/ --kind dataset --name patients -p demo", "fuseml artifact push model.onnx --kind model --name churn")
app.command(epilog=options.examples(*_PUSH))(artifact_contents.push)
app.command(epilog=options.examples("fuseml artifact pull dataset://demo/patients@latest --to data"))(artifact_contents.pull)
app.command(epilog=options.examples("fuseml artifact prune --dry-run", "fuseml artifact prune -p demo --kind model --yes"))(retention.prune)
app.add_typer(retention.app, name="retention")
app.add_typer(mirrors.app, name="mirror")
app.command(name="open", epilog=options.examples("fuseml artifact open model://demo/diabetes/1"))(artifact_contents.open_)
