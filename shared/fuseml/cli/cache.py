"""`fuseml cache`: the environments of codesets on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.embedded import environment_cache

app = typer.Typer(help="Environments of codesets on this machine.", **options.GROUP)

_COLUMNS = (
    output.column("Project"),
    output.Column("Environment", lambda entry: entry.get("environment") or "(downloads)"),
    output.Column("Size", lambda entry: _readable(entry.get("size"))),
    output.column("Used"),
    output.column("Needed by", "needed_by", cut=True),
)


@app.command(name="list", epilog=options.examples("fuseml cache list", "fuseml cache list -o json"))
def list_(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """List them in the order of their removal, with what needs them."""
    cache, _ = _open(context)
    items = [_item(entry) for entry in cache.entries()]
    output.listing(format, items, _COLUMNS, "There is no environment; the builder step of a run makes them.")


@app.command(epilog=options.examples("fuseml cache prune", "fuseml cache prune --keep 5", "fuseml cache prune --all -o json"))
def prune(
    context: typer.Context,
    keep: Annotated[
        float | None, options.option("--keep", metavar="GIB", min=0, help="What may stay; FUSEML_ENVIRONMENTS_GIB (50) by default.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all that nothing needs.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Remove what was not used lately, until the rest fits.

    Downloads go first, then environments. The server may run meanwhile. What an application, an unfinished run or a running process needs stays. A
    later run builds a removed environment again.
    """
    cache, limit = _open(context)
    removed, remaining = cache.prune(0 if everything else limit if keep is None else round(keep * (1 << 30)))
    if format is not output.Format.TABLE:
        output.dump(format, {"removed": [_item(entry) for entry in removed], "remaining": [_item(entry) for entry in remaining]})
        return
    if removed:
        output.table([_item(entry) for entry in removed], _COLUMNS)
    freed, left = (_readable(sum(entry.size for entry in entries)) for entries in (removed, remaining))
    terminal.echo(f"Removed {len(removed)} ({freed}); {len(remaining)} remain ({left}).")


def _open(context: typer.Context) -> tuple[environment_cache.EnvironmentCache, int]:
    """The environments of the chosen home, and their limit in bytes. Raises NotFoundError for a folder that is no home."""
    from fuseml.embedded import backup, environment_cache
    from fuseml.store import database

    given = session.settings(context)
    home = given.home_folder().absolute()
    if not (home / backup.DATABASE).is_file():
        raise errors.NotFoundError(
            f"{home} is no home of a FuseML server on this machine: it has no {backup.DATABASE}; name it with --home"
        )
    limit = environment_cache.limit(given.environment)
    return environment_cache.EnvironmentCache(home / "environments", database.Database(f"sqlite:///{home / backup.DATABASE}"), limit), limit


def _item(entry: environment_cache.Entry) -> Mapping[str, object]:
    return {"kind": entry.kind, **dataclasses.asdict(entry)}


def _readable(size: object) -> str:
    number = float(size) if isinstance(size, (int, float)) else 0.0
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
