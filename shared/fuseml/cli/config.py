"""`fuseml config`: which server to talk to, kept in a file that only the user can read."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from fuseml.cli import options, output, session

app = typer.Typer(help="The server to talk to, kept in a file of yours.", **options.GROUP)

_STDIN = "-"
_COLUMNS = (output.column("File"), output.column("URL", "url"), output.column("Token"))


@app.command(
    name="set",
    no_args_is_help=True,
    epilog=options.examples("fuseml config set --url https://fuseml.example.org --token - < token", "fuseml config set --url ''"),
)
def set_(
    context: typer.Context,
    url: Annotated[str | None, options.option("--url", help="The server's URL; empty forgets it.")] = None,
    token: Annotated[str | None, options.option("--token", help="The token; `-` reads it from standard input, empty forgets it.")] = None,
) -> None:
    """Remember a server's address and token; a local server needs neither."""
    settings = session.settings(context)
    given = {"url": url, "token": token if token != _STDIN else sys.stdin.readline().strip()}
    content = {**settings.configured(), **{key: value for key, value in given.items() if value is not None}}
    file = settings.config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({key: value for key, value in content.items() if value}, indent=2) + "\n"
    # Written beside and moved: a crash leaves the old file, and nobody else can read the token at any moment.
    beside = file.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    beside.replace(file)
    typer.echo(f"Saved in {file}.")


@app.command(name="show", epilog=options.examples("fuseml config show"))
def show(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show which server is talked to.

    And whether there is a token for it.
    """
    settings = session.settings(context)
    item = {
        "file": str(settings.config_file()),
        "url": settings.server_url(),
        "token": "<hidden>" if settings.access_token() else "none",
    }
    output.record(format, item, _COLUMNS)
