"""`--field`: the columns of a table, or the fields of the API's objects, that a command prints."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from fuseml.cli import terminal
from fuseml.domain import errors

_CHOSEN: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("fields", default=())


def add_to(command: Any) -> None:
    """Give the option to each command of a group that prints in several formats. It holds for the present context of variables."""
    _add(command, _made())


def chosen() -> tuple[str, ...]:
    """The fields as the user has written them; none for all."""
    return _CHOSEN.get()


def value(item: object, field: str) -> object:
    """The value at `NAME`, `NAME.PART` or the original's `NAME:PART` in an object; None without one. Names ignore case, `_` and `-`.

    Of a list, it is the list of the values of its items.
    """
    return _at(item, field.replace(":", ".").split("."))


def picked(data: object) -> object:
    """An object, or each object of a list, with the chosen fields only. Raises InvalidError for a field that none has."""
    if not chosen():
        return data
    items: Sequence[object] = data if isinstance(data, list) else [data]
    rows = [{field: value(item, field) for field in chosen()} for item in items]
    for field in chosen():
        if items and all(row[field] is None and not _has(item, field) for row, item in zip(rows, items, strict=True)):
            raise unknown(field, names(items))
    return rows if isinstance(data, list) else rows[0]


def csv_text(data: object) -> str:
    """Comma-separated values: a line of names, and one for each object; lists and objects in them are JSON."""
    import csv
    import io

    items = data if isinstance(data, list) else [data]
    rows = [item if isinstance(item, Mapping) else {"value": item} for item in items]
    titles = names(rows)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    if titles:
        writer.writerow(titles)
    writer.writerows([_cell(row.get(title)) for title in titles] for row in rows)
    return terminal.inert(written.getvalue())


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


def names(items: Iterable[object]) -> list[str]:
    """The names of the fields that objects have."""
    return list(dict.fromkeys(str(name) for item in items if isinstance(item, Mapping) for name in item))


def same(one: str, other: str) -> bool:
    """Whether two names are the same but for case, blanks, `_` and `-`."""
    return _plain(one) == _plain(other)


def unknown(field: str, known: Sequence[str]) -> errors.InvalidError:
    """The error for a field that is not there."""
    return errors.InvalidError(f"there is no field {field!r}; there are: {', '.join(known)}")


def _at(item: object, names: Sequence[str]) -> object:
    if not names:
        return item
    if not isinstance(item, list):
        return _at(_entry(item, names[0]), names[1:])
    found: list[object] = []
    for entry in item:
        part = _at(entry, names)
        # The values of a list in a list are values of the list.
        found += part if isinstance(part, list) else [] if part is None else [part]
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _entry(item: object, name: str) -> object:
    return next((found for key, found in item.items() if same(str(key), name)), None) if isinstance(item, Mapping) else None


def _has(item: object, field: str) -> bool:
    """Whether the first name of the field is one of the object; its value may be empty."""
    first = field.replace(":", ".").partition(".")[0]
    return isinstance(item, Mapping) and any(same(str(key), first) for key in item)


def _choose(
    field: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME[.PART]", help="Print only this column or field; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Only its option is used."""


def _made() -> Any:
    # Made by typer, of a command that has only this option.
    maker = typer.Typer(add_completion=False)
    maker.command()(_choose)
    command: Any = typer.main.get_command(maker)
    option = next(parameter for parameter in command.params if parameter.name == "field")
    # No parameter of a command has this name.
    option.name = "global_field"
    option.expose_value = False
    option.callback = lambda _context, _option, given: _CHOSEN.set(tuple(given or ())) and None
    return option


def _add(command: Any, option: Any) -> None:
    for child in getattr(command, "commands", {}).values():
        _add(child, option)
    place = next((index for index, parameter in enumerate(command.params) if "--format" in parameter.opts), None)
    if place is not None:
        command.params.insert(place + 1, option)
