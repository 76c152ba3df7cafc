"""Output of results: tables for people, the API's objects as JSON or YAML for programs.

A table fits the terminal: columns of free text shrink first and are cut, then the widest column, whose values fold. In a pipe, each row is one
complete line.
"""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from fuseml.cli import fields, terminal
from fuseml.domain import times

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Wide enough for any row: output to a pipe is neither cut nor wrapped.
_PIPE_WIDTH = 100_000

_GAP = 2
_NARROWEST = 10
# Shorter text is hard to read: minor columns make room for this much free text, and for this much of a column that folds.
_READABLE = 24
_READABLE_FOLDED = 16

STATE_STYLES: Mapping[str, str] = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "yellow",
    "queued": "dim",
    "skipped": "dim",
    "ready": "green",
    "starting": "cyan",
    "ok": "green",
    "healthy": "green",
    "unhealthy": "red",
    "done": "green",
    "pending": "yellow",
    "dead": "red",
    "refused": "red",
    "passed": "green",
    "dropped": "dim",
    "duplicate": "dim",
    "ignored": "dim",
}


class Format(enum.StrEnum):
    """The values of `-o`. `text` is the original's name of `table` for one object; commands never see it."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    TEXT = "text"


def format_of(chosen: Format) -> Format:
    """The format that a command sees."""
    return Format.TABLE if chosen is Format.TEXT else chosen


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `read` returns its value for an item; `cut` marks free text, which shrinks first; `states` colours states.

    Of a column without `cut`, what does not fit is wrapped, and nothing is lost; one that is to `fold` shrinks with the first. A `minor` column
    is left out where the others would have to fold, or free text would be too short to be read. A title is printed in capital letters unless it is a `name`.
    """

    title: str
    read: Callable[[Mapping[str, object]], object]
    cut: bool = False
    states: bool = False
    fold: bool = False
    name: bool = False
    minor: bool = False


def field(key: str) -> Callable[[Mapping[str, object]], object]:
    """A reader of one key of an item."""
    return lambda item: item.get(key)


def column(title: str, key: str = "", *, cut: bool = False, states: bool = False, minor: bool = False) -> Column:
    """A column of the key with the same name, or of `key`."""
    return Column(title, field(key or title.lower()), cut, states, minor=minor)


def console(*, err: bool = False) -> Console:
    """A console that prints values literally, and lines of any width into a pipe."""
    from rich.console import Console
    from rich.segment import Segment

    class InertConsole(Console):
        # Every text that rich prints passes here, without its own styles and cursor movements.
        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **options):
                yield segment if segment.control else Segment(terminal.inert(segment.text), segment.style)

    plain = InertConsole(stderr=err, highlight=False, markup=False, emoji=False)
    if not plain.is_terminal:
        plain.width = _PIPE_WIDTH
    return plain


def listing(format: Format, items: Iterable[Mapping[str, object]], columns: Sequence[Column], empty: str) -> None:
    """Print a list. `empty` is the message for an empty table; it names a next step."""
    rows = list(items)
    if format is not Format.TABLE:
        dump(format, rows)
    elif rows:
        table(rows, _chosen(columns, rows))
    else:
        terminal.echo(empty, err=True)


def done(format: Format, item: Mapping[str, object], sentence: str) -> None:
    """Print the result of a change: the sentence for people, the changed object for programs."""
    if format is Format.TABLE:
        terminal.echo(sentence)
    else:
        dump(format, item)


def record(format: Format, item: Mapping[str, object], columns: Sequence[Column], *parts: tuple[str, str, Sequence[Column]]) -> None:
    """Print one object: a line for each field, then a titled table for each of `parts` (title, key, columns) that is not empty."""
    if format is not Format.TABLE:
        dump(format, item)
        return
    print_fields(item, _chosen(columns, [item]))
    if fields.chosen():
        return
    for title, key, part_columns in parts:
        children = item.get(key)
        if isinstance(children, list) and children:
            terminal.echo(f"\n{title}:")
            table(children, part_columns, indent=2)


def _chosen(columns: Sequence[Column], items: Sequence[Mapping[str, object]]) -> Sequence[Column]:
    """The columns that the user has chosen by `--field`: of the table, or fields of the objects. Raises InvalidError for an unknown one."""
    found: list[Column] = []
    for name in fields.chosen():
        match = next((column for column in columns if fields.same(column.title, name)), None)
        if match is None and items and not any(fields.value(item, name) is not None for item in items):
            known = [column.title.lower() for column in columns]
            raise fields.unknown(name, list(dict.fromkeys([*known, *fields.names(items)])))
        found.append(match or _field_column(name))
    return found or columns


def _field_column(name: str) -> Column:
    # In a function of its own: each column keeps its name.
    return Column(name, lambda item: fields.value(item, name))


def print_fields(item: Mapping[str, object], columns: Sequence[Column]) -> None:
    """Print `Title:  value` lines; empty fields are omitted, and further lines of a value stand below its first.

    On a terminal, lines end between words; a longer word, such as a URL, stays whole for the clipboard.
    """
    rows = [(column, text(column.read(item))) for column in columns]
    width = max((len(column.title) for column, _ in rows), default=0) + 1
    plain = console()
    for column, value in rows:
        if value:
            lines = value.splitlines()
            if plain.is_terminal:
                lines = [part for line in lines for part in wrapped(line, plain.width - width - 1)]
            aligned = ("\n" + " " * (width + 1)).join(lines)
            plain.print(f"{column.title + ':':<{width}} ", _styled(column, aligned), sep="", soft_wrap=True)


def wrapped(line: str, width: int) -> list[str]:
    """The parts of a line that end between words, of at most `width` characters unless a word is longer."""
    import textwrap

    room = max(width, _READABLE)
    return textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) if len(line) > room else [line]


def table(items: Sequence[Mapping[str, object]], columns: Sequence[Column], indent: int = 0) -> None:
    """Print aligned columns under upper-case titles. Columns that are empty in every row are omitted."""
    from rich.padding import Padding
    from rich.table import Table

    from fuseml.domain.runs.causes import shorten

    cells = [[_cell(column, item) for column in columns] for item in items]
    kept = [index for index in range(len(columns)) if index == 0 or any(row[index] for row in cells)]
    plain = console()
    if not fields.chosen():
        kept = _fitting(kept, columns, cells, plain.width - indent)
    grid = Table(box=None, pad_edge=False, show_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    widths = _widths([[columns[index].title] + [row[index] for row in cells] for index in kept], kept, columns, plain.width - indent)
    for index, width in zip(kept, widths, strict=True):
        # Free text is cut; nothing of a name, an id or a URL is lost.
        fold = not columns[index].cut
        title = columns[index].title
        grid.add_column(
            title if columns[index].name else title.upper(), no_wrap=not fold, overflow="fold" if fold else "ellipsis", width=width
        )
    room = dict(zip(kept, widths, strict=True))
    for row in cells:
        shown = ((columns[index], shorten(row[index], room[index]) if columns[index].cut else row[index]) for index in kept)
        grid.add_row(*(_styled(column, cell) for column, cell in shown))
    plain.print(Padding(grid, (0, 0, 0, indent), expand=False))


def natural_width(column: Column, items: Sequence[Mapping[str, object]]) -> int:
    """The width of a column that is not cut, with the gap after it."""
    return max(len(line) for cell in (column.title, *(_cell(column, item) for item in items)) for line in cell.splitlines() or [""]) + _GAP


def _cell(column: Column, item: Mapping[str, object]) -> str:
    value = column.read(item)
    # Free text may contain line breaks; a row is one line.
    return " ".join(value.split()) if isinstance(value, str) and column.cut else text(value)


def _fitting(kept: list[int], columns: Sequence[Column], cells: Sequence[Sequence[str]], available: int) -> list[int]:
    """The columns without those minor ones, the first of them first, that leave too little room for the others."""

    def least(index: int) -> int:
        widest = max(len(line) for cell in (columns[index].title, *(row[index] for row in cells)) for line in cell.splitlines() or [""])
        bound = _READABLE if columns[index].cut else _READABLE_FOLDED if columns[index].fold else widest
        return _GAP + min(widest, bound)

    for index in [index for index in kept if columns[index].minor]:
        if sum(map(least, kept)) > available:
            kept = [other for other in kept if other != index]
    return kept


def _widths(cells: Sequence[Sequence[str]], kept: Sequence[int], columns: Sequence[Column], available: int) -> list[int]:
    """Natural widths. On a narrow terminal, columns of free text shrink first, then all columns, the widest one first."""
    widths = [max(len(line) for cell in column for line in (cell.splitlines() or [""])) for column in cells]
    excess = sum(widths) + _GAP * len(widths) - available
    positions = range(len(kept))
    for group in ([position for position in positions if columns[kept[position]].cut or columns[kept[position]].fold], positions):
        while excess > 0 and any(widths[position] > _NARROWEST for position in group):
            widths[max(group, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _styled(column: Column, value: str) -> Text:
    from rich.text import Text

    return Text(value, style=STATE_STYLES.get(value, "") if column.states else "")


def text(value: object) -> str:
    """The text of a cell: items of lists separated by commas, entries of mappings by line breaks; empty for absent values."""
    if value is None or value is False or value == "":
        return ""
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    # Inert already here: the width of a column is that of the printed text.
    return terminal.inert(str(value).strip())


def dump(format: Format, data: object) -> None:
    """Print the API's object unchanged, or its chosen fields. CSV has a row for it, or for each object of a list."""
    data = fields.picked(data)
    if format is Format.CSV:
        typer.echo(fields.csv_text(data), nl=False)
        return
    if format is Format.JSON:
        typer.echo(terminal.escaped(json.dumps(data, indent=2, ensure_ascii=False)))
        return
    import yaml

    document = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if terminal.holds_hostile(document):
        document = yaml.safe_dump(data, sort_keys=False)
    typer.echo(document, nl=False)


def seconds_between(start: object, end: object, now: datetime.datetime | None = None) -> float | None:
    """Seconds from one RFC 3339 time to another, or to now; None without a start."""
    first, last = moment(start), moment(end) or now or datetime.datetime.now(datetime.UTC)
    return max((last - first).total_seconds(), 0.0) if first else None


def moment(value: object) -> datetime.datetime | None:
    """An RFC 3339 time; None for an absent or malformed time, and for the original API's zero time."""
    if not isinstance(value, str) or not value or value.startswith("0001-"):
        return None
    try:
        parsed = times.parse(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)


def minute(value: object) -> str:
    """A time to the minute: `2026-11-22 03:00 UTC`."""
    parsed = moment(value)
    return parsed.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC") if parsed else ""


def age(value: object) -> str:
    """The age of a time: `45s`, `3m`, `5h`, `2d`."""
    seconds = seconds_between(value, None)
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def duration(seconds: float | None) -> str:
    """`0.4s`, `12s`, `1m04s`, `2h05m`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"


def reason(item: Mapping[str, object]) -> str:
    """The reason for the state of a run or step: its cause on one line, or the run that a queued run waits for."""
    if item.get("waits_for"):
        return f"waits for {item['waits_for']} of group {item.get('concurrency_group')}"
    return " ".join(str(item.get("cause") or "").split())


def spent(item: Mapping[str, object]) -> str:
    """The duration of a run or step, up to now while it runs."""
    return duration(seconds_between(item.get("started"), item.get("finished")))
