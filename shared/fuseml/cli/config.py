"""`fuseml config`: the URL and token of a server, and the current project and codeset, in a file that only the user can read."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="The configured server: its URL and token.", **options.GROUP)

_COLUMNS = (
    output.column("File"),
    output.column("URL", "url"),
    output.column("Token"),
    output.column("Project"),
    output.column("Codeset"),
    output.column("User"),
)


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
    """Store a server's URL and token; a local server needs neither.

    Another URL without a token removes the former server's token.
    """
    settings = session.settings(context)
    url = settings.url if url is None and settings.url_is_chosen else url
    token = settings.token if token is None and settings.token_is_chosen else token
    given = {"url": url, "token": None if token is None else session.secret(token)}
    if url is not None and token is None and url != settings.configured().get("url"):
        # The token is one of the former server.
        given["token"] = ""
    file = settings.configure({key: value for key, value in given.items() if value is not None})
    terminal.echo(f"Saved in {file}.")


@app.command(name="show", epilog=options.examples("fuseml config show"))
def show(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show the configured server, the current project and codeset.

    Also shows whether a token is configured for the server.
    """
    settings = session.settings(context)
    item = {
        "file": str(settings.config_file()),
        "url": settings.server_url(),
        "token": "<hidden>" if settings.access_token() else "none",
        "project": settings.current_project(),
        "codeset": settings.current_codeset(),
        "user": settings.git_account()[0],
    }
    output.record(format, item, _COLUMNS)
