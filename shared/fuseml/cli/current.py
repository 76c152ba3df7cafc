"""The current project and codeset: the defaults of `-p` in every command that has it, and of the codeset where one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fuseml.cli.settings import CliSettings

# They name a codeset by `--name`; `push` finds its own. A registration and a deletion name theirs in any case.
_OF_CODESET = (("codeset", "get"), ("codeset", "rotate-webhook"), ("codeset", "rotate-password"))


def add_to(command: Any, given: CliSettings) -> None:
    """Give the defaults to a group and all its commands. The configuration is read only where an option is left out."""
    for path, option in _options(command, ()):
        # `--project` of credentials lists the projects with access to them; it has no `-p`.
        if "-p" in option.opts and {"--project", "--codeset-project"} & {*option.opts}:
            option.default = _default(given.current_project, option.default)
        # Where a codeset is optional, it narrows a list, or the workflow decides whether it needs one.
        elif option.required and ("--codeset-name" in option.opts or (path in _OF_CODESET and "--name" in option.opts)):
            option.default = _default(given.current_codeset, option.default)


def _default(current: Callable[[], str], own: Any) -> Callable[[], Any]:
    return lambda: current() or own


def _options(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from _options(child, (*path, name))
    yield from ((path, option) for option in command.params)
