"""`--home`, an option of every command: the folder of the local server that the command talks to."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from fuseml.cli import session

Home = Annotated[
    str,
    typer.Option("--home", metavar="DIR", help="Home of a local server; FUSEML_HOME or your data folder by default.", show_default=False),
]


def add_to(command: Any) -> None:
    """Give the option to a command, or to a group and all its commands, unless they have one of their own."""
    _add(command, _option())


def _add(command: Any, option: Any) -> None:
    for child in getattr(command, "commands", {}).values():
        _add(child, option)
    if not any("--home" in parameter.opts for parameter in command.params):
        command.params.append(option)


def _option() -> Any:
    # Made by typer, of a command that has only this option.
    maker = typer.Typer(add_completion=False)
    maker.command()(_choose)
    command: Any = typer.main.get_command(maker)
    option = next(parameter for parameter in command.params if "--home" in parameter.opts)
    option.expose_value = False
    option.callback = lambda context, _option, value: _chosen(context, value)
    return option


def _choose(home: Home = "") -> None:
    """Only its option is used."""


def _chosen(context: typer.Context, home: str) -> None:
    if home:
        context.obj = dataclasses.replace(session.settings(context), home=home, home_is_chosen=True)
