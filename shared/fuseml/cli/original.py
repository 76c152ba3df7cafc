"""Commands of the first FuseML that have other names today, and `fuseml help`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fuseml.cli import codesets, options, session, terminal


def help_(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="A command.", show_default=False)] = None,
) -> None:
    """Show the commands, or the help of one."""
    shown: Any = context.find_root()
    for word in words or []:
        command = getattr(shown.command, "commands", {}).get(word)
        if command is None:
            raise typer.BadParameter(f"{shown.command_path} has no command {word!r}", param_hint="'COMMAND'")
        shown = type(shown)(command, info_name=word, parent=shown)
    terminal.echo(shown.get_help())


def delete(context: typer.Context, name: options.Name, project: options.Project) -> None:
    """Delete a codeset; `fuseml codeset delete` is the same.

    Applications that serve its models stay, and are named.
    """
    codesets.delete(context, name, project)
    applications = session.connect(context).applications.list()
    serving = [item["name"] for item in applications if (item.get("project"), item.get("codeset")) == (project, name)]
    for application in serving:
        terminal.echo(
            f"Application {application} still serves a model of it; `fuseml application delete {application}` stops that.", err=True
        )
