"""Options of every command, before it or after it: the server, its token, the configuration file, the limit of a request, and traces.

The help of the entry point shows all of them; that of a command shows only `--home`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from fuseml.cli import options, session
from fuseml.cli.settings import CliSettings

_CONFIG_FILE = "--config-file"

Home = Annotated[
    str,
    typer.Option("--home", metavar="DIR", help="Home of a local server; FUSEML_HOME or your data folder by default.", show_default=False),
]


def add_to(command: Any) -> None:
    """Give the options to a command, or to a group and all its commands, unless they have such an option of their own."""
    made = _made()
    for option in made.values():
        option.hidden = False
    _add(command, list(made.values()))
    hidden = _made()
    for name, option in hidden.items():
        option.hidden = name != "home"
    for child in getattr(command, "commands", {}).values():
        _add_below(child, list(hidden.values()))


def early(arguments: Sequence[str], given: CliSettings) -> CliSettings:
    """The settings with the configuration file that the command line names: the defaults of other options are read from it."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        name, sign, value = argument.partition("=")
        if name == _CONFIG_FILE and (sign or index + 1 < len(arguments)):
            given = dataclasses.replace(given, config=value if sign else arguments[index + 1])
    return given


def _add_below(command: Any, made: Sequence[Any]) -> None:
    for child in getattr(command, "commands", {}).values():
        _add_below(child, made)
    _add(command, made)


def _add(command: Any, made: Sequence[Any]) -> None:
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params.extend(option for option in made if not taken & {*option.opts})


def _made() -> dict[str, Any]:
    # Made by typer, of a command that has only these options.
    maker = typer.Typer(add_completion=False)
    maker.command()(_choose)
    command: Any = typer.main.get_command(maker)
    found = {str(parameter.name): parameter for parameter in command.params if parameter.name in _CHANGES}
    for name, option in found.items():
        # An argument of a command may be called `url`, too.
        option.name = f"global_{name}"
        option.expose_value = False
        option.callback = _callback(_CHANGES[name])
    return found


def _callback(change: Callable[[CliSettings, Any], CliSettings]) -> Callable[[typer.Context, Any, Any], None]:
    def chosen(context: typer.Context, _option: Any, value: Any) -> None:
        if value:
            context.obj = change(session.settings(context), value)

    return chosen


_CHANGES: dict[str, Callable[[CliSettings, Any], CliSettings]] = {
    "url": lambda given, value: dataclasses.replace(given, url=value, url_is_chosen=True),
    "token": lambda given, value: dataclasses.replace(given, token=value, token_is_chosen=True),
    "home": lambda given, value: dataclasses.replace(given, home=value, home_is_chosen=True),
    "config_file": lambda given, value: dataclasses.replace(given, config=value),
    "timeout": lambda given, value: dataclasses.replace(given, timeout=value),
    "verbose": lambda given, _: dataclasses.replace(given, verbose=True),
}


def _choose(
    url: Annotated[str, options.option("--url", "-u", help="URL of the server (FUSEML_SERVER_URL).")] = "",
    token: Annotated[str, options.option("--token", help="Access token (better: FUSEML_TOKEN).")] = "",
    home: Home = "",
    config_file: Annotated[str, options.option(_CONFIG_FILE, help="Configuration file (FUSEML_CONFIG).")] = "",
    timeout: Annotated[
        float | None, options.option("--timeout", min=0.1, metavar="SECONDS", help="Limit for one request; 30 by default.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the requests to the server (FUSEML_VERBOSE).")] = False,
) -> None:
    """Only its options are used."""
