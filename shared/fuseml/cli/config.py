"""`fuseml config`: the URL and token of a server, in a file that only the user can read."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="The configured server: its URL and token.", **options.GROUP)

_STDIN = "-"
_COLUMNS = (output.column("File"), output.column("URL", "url"), output.column("Token"))


@app.command(
    name="set",
    no_args_is_help=True,
    epilog=options.examples("fuseml config set --url https://fuseml.example.org --token - < token", "fuseml config set --url ''"),
)
def set_(
    context: typer.Context,
    url: Annotated[str | None, options.option("--url", help="URL of the server; empty removes it.")] = None,
    token: Annotated[str | None, options.option("--token", help="Token; `-` reads standard input, empty removes it.")] = None,
) -> None:
    """Store a server's URL and token; a local server needs neither."""
    settings = session.settings(context)
    given = {"url": url, "token": token if token != _STDIN else sys.stdin.readline().strip()}
    content = {**settings.configured(), **{key: value for key, value in given.items() if value is not None}}
    file = settings.config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({key: value for key, value in content.items() if value}, indent=2) + "\n"
    # The new file is written beside the old one and renamed: a crash leaves the old file, and the token is private at every moment.
    new_file = file.with_suffix(".new")
    with os.fdopen(os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    new_file.replace(file)
    terminal.echo(f"Saved in {file}.")


@app.command(name="show", epilog=options.examples("fuseml config show"))
def show(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show the configured server.

    Also shows whether a token is configured for it.
    """
    settings = session.settings(context)
    item = {
        "file": str(settings.config_file()),
        "url": settings.server_url(),
        "token": "<hidden>" if settings.access_token() else "none",
    }
    output.record(format, item, _COLUMNS)
