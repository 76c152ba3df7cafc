"""HTML for notebooks: text from outside is escaped and bounded, and there is no script, link or image."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from fuseml.domain import inert_text

LONGEST = 300
"""Characters of a text; a longer one is cut."""
MOST = 200
"""Rows of a table; further ones are counted."""

_COLOURS = {
    "succeeded": "#1a7f37",
    "ready": "#1a7f37",
    "failed": "#cf222e",
    "cancelled": "#9a6700",
    "waiting": "#9a6700",
    "running": "#0969da",
    "starting": "#0969da",
}
_CELL = 'style="text-align:left;vertical-align:top"'


def text(value: object) -> str:
    """A value as escaped text: nothing for None, `NAME = VALUE` for the items of a mapping, a comma between the items of a list."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(text(f"{name} = {item}") for name, item in list(value.items())[:MOST])
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value[:MOST]))
    shown = inert_text.visible(str(value))
    return html.escape(shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…")


def state(name: str) -> str:
    """The name of a state in its colour."""
    colour = _COLOURS.get(name)
    return f'<span style="color:{colour};font-weight:bold">{text(name)}</span>' if colour else text(name)


def seconds(duration: float | None) -> str:
    """A duration in seconds; empty without one."""
    return "" if duration is None else f"{duration:.1f} s"


class Markup(str):
    """HTML that is escaped already."""

    __slots__ = ()


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else text(value)


def facts(title: str, items: Mapping[str, object]) -> str:
    """A title, and a table of the items that have a value."""
    rows = "".join(f"<tr><th {_CELL}>{text(name)}</th><td {_CELL}>{_cell(value)}</td></tr>" for name, value in items.items() if value)
    return f"<h4>{text(title)}</h4><table>{rows}</table>"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A title and a table; nothing without rows."""
    if not rows:
        return ""
    head = "".join(f"<th {_CELL}>{text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td {_CELL}>{_cell(value)}</td>' for value in row)}</tr>" for row in rows[:MOST])
    more = f"<p>and {len(rows) - MOST} more</p>" if len(rows) > MOST else ""
    return f"<h5>{text(title)}</h5><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def branches(items: Iterable[str]) -> str:
    """A list of items that are HTML already; nothing without items."""
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{listed}</ul>" if listed else ""
