"""Output of the impact of a change: a line for each field and selector (`+` added, `-` removed, `~` changed), and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from fuseml.cli import output, terminal

if TYPE_CHECKING:
    from rich.text import Text

    from fuseml.client import registry_shapes

_SIGNS: Mapping[str, str] = {
    "registers": "+",
    "appears": "+",
    "resolves": "+",
    "removes": "-",
    "vanishes": "-",
    "breaks": "-",
    "none": "=",
}
_WORDS: Mapping[str, str] = {"registers": "is registered", "updates": "is updated", "removes": "is deleted", "none": "is unchanged"}
_STYLES: Mapping[str, str] = {"+": "green", "-": "red", "~": "yellow", "=": "dim"}


def breaks(impact: registry_shapes.Impact) -> list[registry_shapes.Effect]:
    """The effects on selectors that would no longer resolve."""
    return [effect for effect in impact.get("effects", ()) if effect.get("effect") == "breaks"]


def warn(impact: registry_shapes.Impact) -> None:
    """Print a line for each selector that breaks, and for each of an assigned workflow that binds to something else, on standard error."""
    for effect in impact.get("effects", ()):
        if effect.get("effect") == "breaks":
            terminal.echo(f"warning: {effect['sentence']}", err=True)
        elif effect.get("effect") == "rebinds" and effect["assigned"]:
            terminal.echo(f"note: {effect['sentence']}", err=True)


def show(impacts: Sequence[registry_shapes.Impact]) -> None:
    """Print the impact of one or several changes."""
    plain = output.console()
    for impact in impacts:
        for line in _lines(impact):
            plain.print(line, soft_wrap=True)


def report(impact: registry_shapes.Impact, format: output.Format, *, check: bool) -> None:
    """Print one impact; with `check` exit with 1 if a selector would break."""
    if format is output.Format.TABLE:
        show([impact])
        terminal.echo(f"{impact['summary'][:1].upper()}{impact['summary'][1:]}.")
    else:
        output.dump(format, impact)
    if check and breaks(impact):
        raise typer.Exit(1)


def _lines(impact: registry_shapes.Impact) -> Iterator[Text]:
    yield _line(impact["change"], 0, f"{impact['extension_id']} {_WORDS[impact['change']]}")
    for change in impact["changes"]:
        yield _line(change["effect"], 4, change["path"] + _values(change))
    for effect in impact.get("effects", ()):
        if effect["effect"] != "unchanged":
            yield _line(effect["effect"], 2, effect["sentence"])
            if effect["effect"] != "breaks":
                yield from (_line(change["effect"], 6, change["key"] + _values(change)) for change in effect["environment"])


def _line(kind: str, indent: int, text: str) -> Text:
    from rich.text import Text

    sign = _SIGNS.get(kind, "~")
    return Text(f"{' ' * indent}{sign} {text}", style=_STYLES[sign])


def _values(change: registry_shapes.FieldChange | registry_shapes.KeyChange) -> str:
    before, after = change["before"], change["after"]
    if change["secret"] and change["effect"] == "changes":
        return f": {after} (changed)"
    values = f"{_quoted(before)} -> {_quoted(after)}" if before and after else _quoted(before or after)
    return f": {values}" if values else ""


def _quoted(value: str) -> str:
    # A value is one line of at most 200 characters.
    text = " ".join(value.split())
    return text if len(text) <= 200 else f"{text[:200]}..."
