"""`fuseml catalog`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal

if TYPE_CHECKING:
    from fuseml.client import pipeline_shapes

app = typer.Typer(help="Catalogues: git repositories with templates of pipelines.", **options.GROUP)

_SHIPPED = "fuseml"


# Characters of a description in a table; the documents of a repository may hold any number.
_LONGEST = 500


def _inputs(template: Mapping[str, object]) -> object:
    items = template.get("inputs")
    return "\n".join(f"{item['name']}{'' if item['needed'] else '?'}" for item in items) if isinstance(items, list) else None


def _outputs(template: Mapping[str, object]) -> object:
    items = template.get("outputs")
    return "\n".join(map(str, items)) if isinstance(items, list) else None


def _text(template: Mapping[str, object]) -> str:
    from fuseml.domain.runs.causes import shorten

    problem = template.get("problem")
    words = f"cannot be added: {problem}" if problem else str(template.get("description") or "")
    return shorten(" ".join(words.split()), _LONGEST)


_COLUMNS = (
    output.column("Name"),
    output.Column("URL", lambda catalog: catalog.get("url") or "ships with FuseML"),
    output.column("Branch"),
    output.column("Description", cut=True),
)
_TEMPLATES = (
    output.column("Name"),
    output.Column("Inputs", _inputs),
    output.Column("Outputs", _outputs),
    output.Column("Description", _text, fold=True),
)


@app.command(epilog=options.examples("fuseml catalog add team https://git.example.com/team/pipelines.git"))
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the catalogue.", metavar="NAME", show_default=False)],
    url: Annotated[str, typer.Argument(help="The address for `git clone`; may hold an account.", metavar="URL", show_default=False)],
    branch: Annotated[str, options.option("--branch", help="The default branch without it.")] = "",
    description: options.Description = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register a git repository as a catalogue.

    Its templates are the workflow documents in the folder pipelines/, or at the root. It is read at each use, at its newest commit.
    `fuseml extension` shows, changes and deletes the record.
    """
    contents = session.connect(context).catalogs.add(name, url, branch, description)
    number = len(contents["templates"])
    output.done(
        format, contents, f"Catalogue {name} has {number} template{'s' if number != 1 else ''} at commit {contents['version'][:12]}."
    )


@app.command(name="list", epilog=options.examples("fuseml catalog list"))
def list_(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """List the catalogues."""
    catalogs = session.connect(context).catalogs.list()
    output.listing(format, catalogs, _COLUMNS, "There is no catalogue; `fuseml catalog add NAME URL` registers one.")


@app.command(epilog=options.examples("fuseml catalog show", "fuseml catalog show team -o yaml"))
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A catalogue; the one that ships by default.", metavar="NAME", show_default=False)] = _SHIPPED,
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the templates of a catalogue.

    An input with a question mark has a default.
    """
    contents: pipeline_shapes.CatalogContents = session.connect(context).catalogs.get(name, project)
    if format is not output.Format.TABLE:
        output.dump(format, contents)
        return
    place = f" of {contents['url']} at commit {contents['version'][:12]}" if contents["url"] else f" of FuseML {contents['version']}"
    terminal.echo(f"Templates{place}:")
    output.table(contents["templates"], _TEMPLATES)
    template = f"{name}/TEMPLATE" if contents["url"] else "TEMPLATE"
    terminal.echo(f"\n`fuseml pipeline add {template} --name NAME --input INPUT=VALUE` adds one to a project.", err=True)
