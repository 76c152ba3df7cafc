"""Commands of the first FuseML that have other names today, and `fuseml help`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated, Any

import typer

from fuseml.cli import codesets, options, session, terminal
from fuseml.domain import errors

_DEPLOYMENT = "fuseml.deployment"


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


def install(context: typer.Context) -> None:
    """Deploy FuseML to the cluster of the current kubeconfig.

    As `task deploy`, whose options it takes; in a clone of the repository.
    """
    _deploy("deploy", context.args)


def uninstall(context: typer.Context) -> None:
    """Remove FuseML from the cluster of the current kubeconfig.

    As `task undeploy`; the data are removed, too. In a clone of the
    repository.
    """
    _deploy("undeploy", context.args)


def _deploy(action: str, arguments: list[str]) -> None:
    if not _is_clone():
        raise errors.PermanentError(
            f"an installed command has no manifests to {action}; in a clone of the repository, `uv run task {action} -- --help` does it "
            "(docs/deployment.md); `fuseml up` runs FuseML on this machine"
        )
    raise typer.Exit(subprocess.run([sys.executable, "-m", _DEPLOYMENT, action, *arguments], check=False).returncode)


def _is_clone() -> bool:
    try:
        return importlib.util.find_spec(_DEPLOYMENT) is not None
    except ModuleNotFoundError:
        return False
