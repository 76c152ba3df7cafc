"""`fuseml runnable`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

app = typer.Typer(help="Runnables: reusable steps with typed inputs and outputs.", **options.GROUP)

Reference = Annotated[
    str, typer.Argument(help="The name, or with a constraint on the version: NAME@^1.2.", metavar="NAME", show_default=False)
]


def _owner(runnable: options.Item) -> object:
    return "built in" if runnable.get("built_in") else runnable.get("project")


def _names(key: str) -> output.Column:
    def read(runnable: options.Item) -> object:
        items = runnable.get(key)
        return [item.get("name") for item in items] if isinstance(items, list) else None

    return output.Column(key.title(), read, cut=True, minor=True)


def _accepts(key: str) -> output.Column:
    """The format and the frameworks that an input accepts or an output gives."""

    def read(item: options.Item) -> object:
        criteria = item.get(key)
        if not isinstance(criteria, Mapping):
            return None
        found = (criteria.get(name) for name in ("format", "framework"))
        return ", ".join(text for value in found if value for text in (value if isinstance(value, list) else [value])) or None

    return output.Column(key.title(), read)


def _value(item: options.Item) -> object:
    """The legal values of an input, or its bounds."""
    low, high = item.get("minimum"), item.get("maximum")
    if item.get("values"):
        return item["values"]
    return ", ".join([*([f">= {low:g}"] if isinstance(low, float) else []), *([f"<= {high:g}"] if isinstance(high, float) else [])]) or None


def _needed(item: options.Item) -> str:
    return "no" if item.get("optional") or item.get("default") is not None else "yes"


def _build(runnable: options.Item) -> object:
    """The codeset version and the Dockerfile that the image is built of."""
    build = runnable.get("build")
    if not isinstance(build, Mapping):
        return None
    return f"{build.get('codeset')} {str(build.get('commit') or '')[:8]} {build.get('dockerfile')}"


def _sentences(match: options.Item) -> str:
    reasons = match.get("reasons")
    return "; ".join(str(reason["sentence"]) for reason in reasons) if isinstance(reasons, list) else ""


_AGE = output.Column("Age", lambda runnable: output.age(runnable.get("created") or None))
_OWNER = output.Column("Project", _owner)
_COLUMNS = (
    output.column("Name"),
    output.column("Version"),
    _OWNER,
    output.column("Kind"),
    _names("inputs"),
    _names("outputs"),
    output.column("Description", cut=True),
    _AGE,
)
_FITTING = (*_COLUMNS[:4], output.column("Fits"), output.column("Description", cut=True))
_RUNNABLE = (
    output.column("Name"),
    output.column("Version"),
    _OWNER,
    output.column("Kind"),
    output.column("Description"),
    output.column("Address"),
    output.column("Image"),
    output.Column("Built of", _build),
    output.column("Command"),
    output.column("Args"),
    output.column("Labels"),
    output.column("Capabilities"),
    output.column("Digest"),
    output.column("Run"),
    output.column("By"),
    _AGE,
)
_INPUTS = (
    output.column("Name"),
    output.column("Type"),
    _accepts("accepts"),
    output.Column("Needed", _needed),
    output.column("Default"),
    output.Column("Values", _value),
    output.column("Description", cut=True),
)
_OUTPUTS = (output.column("Name"), output.column("Type"), _accepts("gives"), output.column("Description", cut=True))
_SELECTORS = (
    output.column("Name"),
    output.column("Product"),
    output.column("Resource", "service_resource"),
    output.column("Category", "service_category"),
)
_MATCHES = (
    output.column("Input"),
    output.column("Offer"),
    output.column("Verdict"),
    output.Column("Reason", _sentences, cut=True),
)


def _split(reference: str) -> tuple[str, str | None]:
    name, at, version = reference.partition("@")
    return name, version if at else None


@app.command(cls=options.OfFile, epilog=options.examples("fuseml runnable register trainer.yaml -p demo"))
def register(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="Descriptor, YAML or JSON; `-` is standard input.", metavar="FILE", show_default=False)],
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register a version of a runnable.

    The same content again changes nothing; other content needs another version.
    """
    document = session.read(file)
    with session.naming_source(file):
        runnable = session.connect(context).runnables.register(document, project or None)
    output.done(format, runnable, f"Runnable {runnable['name']} {runnable['version']} is registered: {runnable['address']}")


@app.command(
    name="list",
    epilog=options.examples(
        "fuseml runnable list", "fuseml runnable list --kind trainer -p demo", "fuseml runnable list --consumes model://demo/diabetes/1"
    ),
)
def list_(
    context: typer.Context,
    id: Annotated[str, options.option("--id", metavar="TEXT", help="In the name: text, or with | . .* ^ $.")] = "",
    kind: Annotated[str, options.option("--kind", "-k", help="In the kind: builder, trainer, predictor, ...")] = "",
    project: options.Project = "",
    label: Annotated[
        list[str] | None, options.option("--label", metavar="KEY=VALUE", help="In the value of a label; may be repeated.")
    ] = None,
    consumes: Annotated[str, options.option("--consumes", metavar="ADDRESS", help="Only those with an input for this artifact.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runnables, and then the built-in ones."""
    found = session.connect(context).runnables.list(
        id=id, kind=kind, project=project, consumes=consumes, labels=options.pairs(label), limit=limit
    )
    empty = "There is no matching runnable; `fuseml runnable register FILE` registers one."
    output.listing(format, found, _FITTING if consumes else _COLUMNS, empty)


@app.command(
    cls=options.Named, epilog=options.examples("fuseml runnable get trainer", "fuseml runnable get diabetes-trainer@^1 -p demo -o yaml")
)
def get(context: typer.Context, name: Reference, project: options.Project = "", format: options.Output = output.Format.TABLE) -> None:
    """Show one runnable with its inputs and outputs.

    The highest release is shown, or the highest version that the constraint admits.
    """
    name, version = _split(name)
    runnable = session.connect(context).runnables.get(name, project or None, version)
    output.record(
        format,
        runnable,
        _RUNNABLE,
        ("Inputs", "inputs", _INPUTS),
        ("Outputs", "outputs", _OUTPUTS),
        ("Extensions", "extensions", _SELECTORS),
    )


@app.command(epilog=options.examples("fuseml runnable versions diabetes-trainer -p demo"))
def versions(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name.", metavar="NAME", show_default=False)],
    project: options.Project,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List the versions of a runnable, newest first."""
    output.listing(format, session.connect(context).runnables.versions(name, project), _COLUMNS, "There is no version.")


@app.command(
    epilog=options.examples(
        "fuseml runnable explain predictor model://demo/diabetes/1", "fuseml runnable explain predictor trainer -p demo"
    )
)
def explain(
    context: typer.Context,
    name: Reference,
    offer: Annotated[
        str,
        typer.Argument(help="The address of an artifact, or a runnable for its outputs.", metavar="ARTIFACT|RUNNABLE", show_default=False),
    ],
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Explain which inputs an artifact or other outputs fit.

    The artifact, or the outputs of the other runnable, are compared with each input. The table leaves out pairs of different types where others are of one type.
    """
    name, version = _split(name)
    matches = session.connect(context).runnables.explain(name, offer, project or None, version)
    if format is output.Format.TABLE:
        matches = [match for match in matches if match["reasons"][0]["verdict"] == "fits"] or matches
    output.listing(format, matches, _MATCHES, f"The runnable {name!r} has no inputs, or {offer} no outputs.")


@app.command(epilog=options.examples("fuseml runnable delete diabetes-trainer@1.0.0 -p demo"))
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The exact version: NAME@VERSION.", metavar="NAME@VERSION", show_default=False)],
    project: options.Project,
) -> None:
    """Delete a version of a runnable that no workflow uses."""
    short, version = _split(name)
    if not version:
        raise errors.InvalidError(f"{name!r} names no version; write {name}@VERSION, one of `fuseml runnable versions {name} -p {project}`")
    session.connect(context).runnables.delete(short, project, version)
    terminal.echo(f"Runnable {short} {version} deleted.")
