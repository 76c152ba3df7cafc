"""The current project: the default of `-p` in every command that has it, required or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fuseml.cli.settings import CliSettings


def add_to(command: Any, given: CliSettings) -> None:
    """Give the default to the command, or to all commands of a group. The configuration is read only where `-p` is left out."""
    for option in _options(command):
        option.default = _default(given, option.default)


def _default(given: CliSettings, own: Any) -> Callable[[], Any]:
    return lambda: given.current_project() or own


def _options(command: Any) -> Iterator[Any]:
    for child in getattr(command, "commands", {}).values():
        yield from _options(child)
    # `--project` of credentials lists the projects with access to them; it has no `-p`.
    yield from (option for option in command.params if "-p" in option.opts and {"--project", "--codeset-project"} & {*option.opts})
