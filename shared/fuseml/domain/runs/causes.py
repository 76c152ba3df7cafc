"""The cause of a failed step, made of its exit and the end of its log, which must be masked already."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fuseml.domain.runs import tracebacks, traps

TAIL = 1 << 16
"""Bytes at the end of a log that a cause is made of."""
ORDINARY = "exited with code 1"
"""The exit of a Python program that an exception has ended."""

_ERROR, _PLACE, _LINES = 320, 160, 450
_LAST_LINES = 3


def explain(ended: str, tail: str, roots: Iterable[str] = ()) -> str:
    """The cause of a step that `ended` in this way, such as "exited with code 3", with the end of its log: at most 900 characters.

    The exception that ended a Python program, the place in the user's code that raised it, and advice on known traps; of other programs the
    last three lines. `roots` are the folders of the user's code.
    """
    raised = tracebacks.last(tail, roots)
    if raised is None:
        return _quoted(ended, tail)
    error = shorten(raised.error, _ERROR)
    text = f"{error} ({shorten(raised.place, _PLACE)})" if raised.place else error
    cause = text if ended == ORDINARY else f"{ended}: {text}"
    return advised(cause, traps.hint(raised.error, loading=raised.loading))


def advised(cause: str, hint: str) -> str:
    """The cause with advice, if there is any."""
    return f"{cause}; {hint}" if hint else cause


def shorten(text: str, limit: int) -> str:
    """The text, or its first words and an ellipsis, of at most `limit` characters. Only a word that is longer itself is cut."""
    if len(text) <= limit:
        return text
    cut = limit - 1
    begin = cut if text[cut].isspace() else max(text.rfind(" ", 0, cut), text.rfind("\n", 0, cut))
    return text[: begin if begin > 0 else cut].rstrip() + "…"


def _quoted(ended: str, tail: str) -> str:
    lines = [line for line in map(tracebacks.clean, tail[-TAIL:].split("\n")) if line.strip()]
    quote = _ending("\n".join(lines[-_LAST_LINES:]), _LINES)
    hint = traps.hint(f"{ended}\n{quote}")
    return advised(f"{ended}: {quote}" if quote else ended, hint)


def _ending(text: str, limit: int) -> str:
    """The last words of the text, after an ellipsis if some are left out."""
    if len(text) <= limit:
        return text
    kept = text[-limit + 1 :]
    if not text[-limit].isspace():
        kept = re.sub(r"\A\S*\s", "", kept, count=1)
    return f"…{kept.lstrip()}"
