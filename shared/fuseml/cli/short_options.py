"""Short options with another meaning than the one that they have in the help: they keep working, as in the original, and are not shown.

In the help each short option has one meaning in all commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FORMER: Mapping[str, str] = {
    "--category": "-c",
    "--configuration": "-c",
    "--service-category": "-c",
    "--desc": "-d",
    "--follow": "-f",
    "--id": "-i",
    "--last": "-n",
    "--output": "-o",
    "--product": "-p",
    "--recursive": "-r",
    "--step": "-s",
    "--subject": "-s",
    "--workflow": "-w",
}
"""The short option that a long one has beside its shown names, where no other option of the command has it."""


def add_to(command: Any) -> None:
    """Let the commands of a group take the former short options, too."""
    for child in _commands(command):
        taken = {name for option in child.params for name in option.opts}
        for option in child.params:
            short = next((FORMER[name] for name in option.opts if name in FORMER), None)
            if short and short not in taken:
                taken.add(short)
                _add(option, short)


def _commands(command: Any) -> Iterator[Any]:
    for child in getattr(command, "commands", {}).values():
        yield child
        yield from _commands(child)


def _add(option: Any, short: str) -> None:
    shown = option.get_help_record

    def without_short(context: Any) -> Any:
        option.opts = [name for name in option.opts if name != short]
        try:
            return shown(context)
        finally:
            option.opts = [*option.opts, short]

    option.opts = [*option.opts, short]
    option.get_help_record = without_short
