"""`fuseml source`."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors, urls

if TYPE_CHECKING:
    from fuseml.client import source_shapes

app = typer.Typer(help="Sources: git repositories that the registry follows.", **options.GROUP)

_SIGNS: Mapping[str, str] = {"created": "+", "deleted": "-", "updated": "~", "adopted": "~", "released": "="}
_SHORT = 12

Adopt = Annotated[bool, typer.Option("--adopt", help="Take over what exists already and was made by hand.")]


def _repository(source: options.Item) -> str:
    return str(source.get("url") or f"{source.get('project')}/{source.get('codeset')}")


def _drift(source: options.Item) -> str:
    number = source.get("drifted")
    return f"{number} by hand" if number else ""


_COLUMNS = (
    output.column("Name"),
    output.Column("Repository", _repository, fold=True),
    output.column("State"),
    output.Column("Commit", lambda source: str(source.get("commit") or "")[:_SHORT]),
    output.column("Items"),
    output.Column("Drift", _drift),
    output.Column("Synced", lambda source: output.age(source.get("synced"))),
    output.column("Message", cut=True),
)
_DETAILS = (
    *_COLUMNS[:2],
    output.column("Branch"),
    output.Column("Path", lambda source: source.get("path") or "/"),
    *_COLUMNS[2:7],
    output.Column("Seen", lambda source: str(source.get("seen") or "")[:_SHORT]),
    output.Column("Checked", lambda source: output.age(source.get("checked"))),
    output.Column("Message", lambda source: source.get("message"), fold=True),
)
_CONTENTS = (
    output.column("Kind"),
    output.column("Name"),
    output.column("File", cut=True),
    output.Column("Drift", lambda item: "by hand" if item.get("drifted") else ""),
    output.Column("Adopted", lambda item: "yes" if item.get("adopted") else ""),
)


@app.command(
    epilog=options.examples(
        "fuseml source add demo/config --path fuseml/",
        "fuseml source add https://git.example.com/config.git --name team",
    )
)
def add(
    context: typer.Context,
    repository: Annotated[
        str,
        typer.Argument(
            help="The address for `git clone`, which may hold an account, or a codeset: NAME or PROJECT/NAME.",
            metavar="URL|CODESET",
            show_default=False,
        ),
    ],
    name: Annotated[str, options.option("--name", "-n", help="The name of the source; that of the repository by default.")] = "",
    path: Annotated[str, options.option("--path", help="The folder with registry/, workflows/, assignments/ and projects/.")] = "",
    branch: Annotated[str, options.option("--branch", help="The default branch without it.")] = "",
    project: options.Project = "",
    adopt: Adopt = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Follow a git repository.

    At every push its files become records, workflows, assignments and
    projects. All is applied, or nothing: exit code 1 if a file is refused. A
    repository elsewhere is asked once a minute.
    """
    place: dict[str, str] = {}
    if "://" in repository:
        place["url"] = repository
    elif "/" in repository or project:
        place["codeset"] = repository if "/" in repository else f"{project}/{repository}"
    else:
        raise errors.InvalidError(f"{repository!r} is neither an address nor PROJECT/NAME; name the project by -p, or set a current one")
    source = session.connect(context).sources.add(name or _default_name(repository), branch=branch, path=path, adopt=adopt, **place)
    _report(format, source)


def _default_name(repository: str) -> str:
    """The last part of the path. Raises InvalidError for an address without one, which is not quoted: it may hold an account."""
    path = urllib.parse.urlsplit(urls.split(repository)[0]).path if "://" in repository else repository
    found = path.rstrip("/").rpartition("/")[2].removesuffix(".git")
    if not found or "@" in found:
        raise errors.InvalidError("the address has no path that gives the source a name; name it by --name")
    return found


@app.command(name="list", epilog=options.examples("fuseml source list"))
def list_(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """List the sources, and what was changed by hand since."""
    sources = session.connect(context).sources.list()
    output.listing(format, sources, _COLUMNS, "There is no source; `fuseml source add URL|CODESET` adds one.")


@app.command(cls=options.Named, epilog=options.examples("fuseml source get config"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show a source, its items and the faults of its files."""
    source = session.connect(context).sources.get(name)
    output.record(format, source, _DETAILS, ("Contents", "contents", _CONTENTS))
    if format is output.Format.TABLE:
        _refusals(source["refusals"])


@app.command(cls=options.Named, epilog=options.examples("fuseml source sync config", "fuseml source sync config --adopt"))
def sync(context: typer.Context, name: options.Name, adopt: Adopt = False, format: options.Output = output.Format.TABLE) -> None:
    """Apply the newest commit of a source now.

    Undoes changes by hand. All is applied, or nothing: exit code 1 if a file
    is refused.
    """
    _report(format, session.connect(context).sources.sync(name, adopt=adopt))


@app.command(cls=options.Named, epilog=options.examples("fuseml source diff config", "fuseml source diff config --check"))
def diff(
    context: typer.Context,
    name: options.Name,
    adopt: Adopt = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if a sync would change something, or be refused.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show what a sync would change now; nothing is stored.

    Marks what it would undo because it was changed by hand.
    """
    found = session.connect(context).sources.diff(name, adopt=adopt)
    if format is not output.Format.TABLE:
        output.dump(format, found)
    elif found["refusals"]:
        terminal.echo(f"A sync at commit {found['commit'][:_SHORT]} would be refused, and change nothing:")
        _refusals(found["refusals"])
    elif found["changes"]:
        terminal.echo(f"A sync at commit {found['commit'][:_SHORT]} would change:")
        _changes(found["changes"])
    else:
        terminal.echo(f"Nothing differs from commit {found['commit'][:_SHORT]}." if found["commit"] else "Nothing was pushed to it yet.")
    if check and (found["changes"] or found["refusals"]):
        raise typer.Exit(1)


@app.command(cls=options.Named, epilog=options.examples("fuseml source remove config", "fuseml source remove config --delete"))
def remove(
    context: typer.Context,
    name: options.Name,
    delete: Annotated[bool, typer.Option("--delete", help="Also delete what the source has made; what it has adopted stays.")] = False,
) -> None:
    """Stop following a repository.

    What the source has made stays, as if it had been made by hand.
    """
    client = session.connect(context)
    source = client.sources.get(name)
    client.sources.remove(name, delete=delete)
    number = source["items"]
    fate = "what it has made is deleted" if delete else f"its {_count(number)} {'stays' if number == 1 else 'stay'}"
    terminal.echo(f"Source {name} successfully removed; {fate}.")


def _count(items: int) -> str:
    return f"{items} item{'s' if items != 1 else ''}"


def _report(format: output.Format, source: source_shapes.SourceDetails) -> None:
    """Print the result of a sync. Exits with 1 where nothing was applied."""
    name, is_applied = source["name"], source["state"] in ("synced", "waiting")
    if format is not output.Format.TABLE:
        output.dump(format, source)
    elif source["state"] == "synced":
        terminal.echo(f"Source {name} is at commit {source['commit'][:_SHORT]}, with {_count(source['items'])}.")
    elif source["state"] == "waiting":
        terminal.echo(f"Source {name} waits: {source['message']}.")
    elif source["refusals"] and source["state"] == "refused":
        terminal.echo(f"Source {name} is refused at commit {source['seen'][:_SHORT]}, and nothing was changed:", err=True)
        _refusals(source["refusals"], err=True)
    else:
        terminal.echo(f"Source {name} cannot be read: {source['message']}", err=True)
    if not is_applied:
        raise typer.Exit(1)


def _refusals(refusals: Sequence[source_shapes.Refusal], *, err: bool = False) -> None:
    for refusal in refusals:
        place = ":".join(str(part) for part in (refusal["file"], refusal["line"], refusal["column"]) if part)
        terminal.echo(f"  {': '.join(filter(None, (place, refusal['message'])))}", err=err)


def _changes(changes: Sequence[source_shapes.SourceChange]) -> None:
    for change in changes:
        terminal.echo("  " + " ".join(_words(change)))


def _words(change: source_shapes.SourceChange) -> Iterator[str]:
    yield f"{_SIGNS[change['effect']]} {change['kind']} {change['name']} is {change['effect']}"
    if change["fields"]:
        yield f"({', '.join(change['fields'])})"
    if change["by_hand"]:
        yield "- it was changed by hand"
