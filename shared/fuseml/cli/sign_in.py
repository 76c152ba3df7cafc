"""`fuseml login`, `logout` and `whoami`: the server and the token of the configuration file."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.client import server_urls
from fuseml.domain import errors, urls

_IDENTITY = (
    output.column("Server", "url"),
    output.column("Token"),
    output.column("Access"),
    output.column("Name"),
    output.column("Role"),
    output.column("Kind"),
    output.Column("May do", lambda item: "everything" if item.get("scopes") == ["*"] else item.get("scopes")),
    output.column("Step"),
    output.column("Project"),
)


def login(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the server.", show_default=False)],
    token: Annotated[str, options.option("--token", help="The token; `-` reads standard input. Without it, the command asks.")] = "",
) -> None:
    """Store the URL and the token of a server, if it accepts them.

    The configuration file holds them; only you can read it.
    """
    settings = session.settings(context)
    url, _, password = urls.split(url)
    url = server_urls.normal(url)
    token = session.secret(token) or password or (settings.token if settings.token_is_chosen else "")
    if not token:
        if not sys.stdin.isatty():
            raise errors.InvalidError("there is no terminal to ask for the token; give it with --token - on standard input")
        token = terminal.secret(f"Token of {url}")
    context.obj = dataclasses.replace(settings, url=url, url_is_chosen=True, token=token, token_is_chosen=True)
    _ask(context)
    file = settings.configure({"url": url, "token": token})
    terminal.echo(f"{url} accepts the token; both are saved in {file}.")
    for variable, value in (
        ("FUSEML_SERVER_URL", "" if settings.url_is_chosen else settings.url),
        ("FUSEML_TOKEN", "" if settings.token_is_chosen else settings.token),
    ):
        if value and value not in (url, token):
            terminal.echo(f"{variable} is set: commands use it nevertheless.", err=True)


def logout(context: typer.Context) -> None:
    """Forget the configured server and its token."""
    settings = session.settings(context)
    configured = settings.configured()
    if not configured.get("token") and not configured.get("url"):
        terminal.echo(f"{settings.config_file()} names no server.", err=True)
        return
    file = settings.configure({"url": "", "token": ""})
    terminal.echo(f"{urls.shown(configured.get('url', '')) or 'The token'} is removed from {file}. The token stays valid at the server.")


def whoami(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """Show the server, the token, and the caller that it sees.

    The token by its origin, never itself. Exit code 1 if it is refused.
    """
    settings = session.settings(context)
    item: dict[str, object] = {"url": settings.server_url(), "token": settings.token_origin(), "project": settings.current_project()}
    try:
        item |= _caller(context)
        item["access"] = "accepted"
    except (errors.UnauthenticatedError, errors.ForbiddenError) as error:
        item["access"] = f"refused: {error.message}"
    output.record(format, item, _IDENTITY)
    if item["access"] != "accepted":
        raise typer.Exit(1)


def _caller(context: typer.Context) -> dict[str, object]:
    """The caller that the server sees; empty where a server of a former release only accepts the token. Raises UnauthenticatedError."""
    try:
        found = session.connect(context).whoami()
    except errors.NotFoundError:
        _ask(context)
        return {}
    of_step = found.get("step")
    step = {"step": f"{of_step['step']} of {of_step['run']}"} if of_step else {}
    return {
        "name": found["name"],
        "role": found["role"],
        "kind": found["kind"],
        "scopes": found["scopes"],
        **step,
    }


def _ask(context: typer.Context) -> None:
    """A request that needs a valid token. Raises UnauthenticatedError."""
    for _ in session.connect(context).projects.list(1):
        break
