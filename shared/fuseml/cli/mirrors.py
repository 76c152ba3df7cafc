"""`fuseml artifact mirror`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuseml.cli import options, output, session, terminal

if TYPE_CHECKING:
    from fuseml.client import registry_shapes

app = typer.Typer(help="Mirrors: the stores that steps of a project read.", **options.GROUP)

Kind = Annotated[str, options.option("--kind", "-k", help="model, dataset or runnable.")]

_FIELDS = ("extension_id", "service_id", "product", "service_resource", "service_category")


def _store(mirror: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in mirror["store"].items())


_MIRRORS = (
    output.column("Project"),
    output.column("Kind"),
    output.Column("Store", _store),
    output.column("By"),
    output.Column("Age", lambda mirror: output.age(mirror.get("updated"))),
)


@app.command(
    name="set",
    epilog=options.examples("fuseml artifact mirror set -p demo --kind dataset --service-resource s3"),
)
def set_(
    context: typer.Context,
    kind: Kind,
    project: options.Project = "",
    extension: Annotated[str, options.option("--extension-id", help="A store of this extension.")] = "",
    service: Annotated[str, options.option("--service-id", help="The store of this service.")] = "",
    product: Annotated[str, options.option("--product", help="A store of this product.")] = "",
    resource: Annotated[str, options.option("--service-resource", help="A store of this resource: s3, folder.")] = "",
    category: Annotated[str, options.option("--service-category", help="A store of this category.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Set the mirror of a kind of a project.

    From the next run on, steps read the artifacts of other stores from a copy in the selected one, unless they name a store. A copy is made once.
    """
    given = zip(_FIELDS, (extension, service, product, resource, category), strict=True)
    wanted: registry_shapes.Selector = {name: value for name, value in given if value}  # type: ignore[assignment]
    client = session.connect(context)
    mirror = client.mirrors.set(project or client.projects.only(), kind, wanted)
    output.done(format, mirror, f"Steps of the project {mirror['project']} read each {mirror['kind']} from the store {{{_store(mirror)}}}.")


@app.command(epilog=options.examples("fuseml artifact mirror show", "fuseml artifact mirror show -p demo -o json"))
def show(context: typer.Context, project: options.Project = "", kind: Kind = "", format: options.Output = output.Format.TABLE) -> None:
    """Show the mirrors. Without a mirror, steps read artifacts where they are."""
    found = session.connect(context).mirrors.mirrors(project, kind)
    output.listing(format, found, _MIRRORS, "There is no mirror; steps read artifacts where they are.")


@app.command(epilog=options.examples("fuseml artifact mirror remove -p demo --kind dataset"))
def remove(context: typer.Context, kind: Kind, project: options.Project = "") -> None:
    """Remove the mirror of a kind of a project. Copies stay as long as their artifacts."""
    client = session.connect(context)
    project = project or client.projects.only()
    client.mirrors.remove(project, kind)
    terminal.echo(f"Steps of the project {project} read each {kind} where it is.")
