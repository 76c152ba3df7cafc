"""Text from outside on its way to a terminal: names, descriptions, causes and logs may hold sequences that a terminal obeys.

Such a sequence can write the clipboard (OSC 52), overwrite what stands on the screen, or show text in another order than it is in.
Every command prints through this module or through `output.console`, which uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import typer

from fuseml.domain import inert_text

_HOSTILE = re.compile(f"[{inert_text.ACTIVE}]")
# In a log, colours (SGR) and a carriage return, which progress bars print, may stay: they change nothing outside of the log's own lines.
_HOSTILE_IN_LOG = re.compile(rf"(\x1b\[[0-9;:]{{0,64}}m|\r)|[{inert_text.ACTIVE}]")
_OPEN_END = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")
RESET = "\x1b[0m"
"""Ends every colour; the last part of a coloured log."""


inert = inert_text.visible
"""The text with a visible character in place of each one that a terminal obeys. Tabs and line feeds stay."""


def escaped(text: str) -> str:
    """JSON text in which each character that a terminal obeys is escaped; its value is the same."""
    return _HOSTILE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def holds_hostile(text: str) -> bool:
    """Whether `inert` would change the text."""
    return _HOSTILE.search(text) is not None


def log(chunks: Iterable[str]) -> Iterator[str]:
    """Successive parts of a log, inert but for colours and carriage returns. A sequence may be cut by the end of a part.

    The colour ends with the log.
    """
    rest, coloured = "", False
    for chunk in chunks:
        text = rest + chunk
        end = _OPEN_END.search(text)
        rest = text[end.start() :] if end else ""
        text = _HOSTILE_IN_LOG.sub(lambda match: match[1] or inert(match[0]), text.removesuffix(rest))
        coloured = coloured or "\x1b[" in text
        yield text
    if rest or coloured:
        yield inert(rest) + (RESET if coloured else "")


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text for people, inert."""
    typer.echo(inert(text), err=err, nl=nl)


def confirm(question: str) -> None:
    """Ask the user on the standard error, with inert text. Raises typer.Abort unless the answer is yes."""
    typer.confirm(inert(question), abort=True, err=True)


def secret(question: str) -> str:
    """The answer to a question, which does not appear on the terminal."""
    return str(typer.prompt(inert(question), hide_input=True, err=True)).strip()
