"""Bar charts of numbers: in the terminal, as SVG, HTML and PNG. A page of HTML needs no network."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.cli import output, terminal
from fuseml.domain import errors

FILES = (".html", ".svg", ".png")
"""The endings of the files that `write` can write."""

# Of bars in the terminal; in a pipe a line has no end.
_LONGEST_BAR = 60
_INDENT = 2

# In pixels.
_WIDTH, _ROW, _TITLE, _GAP, _CHARACTER = 720, 22, 26, 14, 7


@dataclass(frozen=True, slots=True)
class Chart:
    """A number for each name, in order; names without a number have no bar."""

    title: str
    bars: Mapping[str, float | None]

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest number, at least from zero."""
        numbers = [value for value in self.bars.values() if value is not None]
        return min(0.0, *numbers, 0.0), max(0.0, *numbers, 0.0)


def text(value: float | None) -> str:
    """A number as the charts show it; empty without one."""
    return "" if value is None else f"{value:.6g}"


def show(charts: Sequence[Chart]) -> None:
    """Print the charts with block characters, as wide as the terminal."""
    from rich.bar import Bar
    from rich.table import Table

    plain = output.console()
    for chart in charts:
        low, high = chart.span
        names = max(len(terminal.inert(name)) for name in chart.bars)
        room = plain.width - _INDENT - names - max(len(text(value)) for value in chart.bars.values()) - 4
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, value in chart.bars.items():
            bar = Bar(
                high - low or 1, min(value or 0, 0) - low, max(value or 0, 0) - low, width=max(min(room, _LONGEST_BAR), 10), color="cyan"
            )
            grid.add_row(" " * _INDENT + terminal.inert(name), bar, text(value))
        terminal.echo(f"\n{chart.title}")
        plain.print(grid)


def write(file: Path, title: str, charts: Sequence[Chart], tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Write the charts to an HTML, SVG or PNG file; HTML also has the tables, each with a row of titles first.

    Raises InvalidError as `kind_of` and for PNG without matplotlib, PermanentError when the file cannot be written.
    """
    kind = kind_of(file)
    # The whole file is written beside the old one and renamed.
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if kind == ".png":
            _draw(partial, charts)
        else:
            partial.write_text(page(title, charts, tables) if kind == ".html" else svg(charts), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise errors.PermanentError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def kind_of(file: Path) -> str:
    """The ending of a file for charts. Raises InvalidError for another one than those of `FILES`."""
    kind = file.suffix.lower()
    if kind not in FILES:
        raise errors.InvalidError(f"{file} is of no known kind; the name ends with {', '.join(FILES[:-1])} or {FILES[-1]}")
    return kind


def svg(charts: Sequence[Chart]) -> str:
    """The charts below each other as one SVG image."""
    parts: list[str] = []
    left = _CHARACTER * max((len(name) for chart in charts for name in chart.bars), default=0) + _GAP
    right = _CHARACTER * 12
    top = 0
    for chart in charts:
        low, high = chart.span
        scale = (_WIDTH - left - right) / (high - low or 1)
        parts.append(f'<text x="0" y="{top + 17}" font-weight="bold">{_inert(chart.title)}</text>')
        top += _TITLE
        for name, value in chart.bars.items():
            parts.append(f'<text x="0" y="{top + 15}">{_inert(name)}</text>')
            if value is not None:
                start, end = left + (min(value, 0) - low) * scale, left + (max(value, 0) - low) * scale
                parts.append(f'<rect x="{start:.1f}" y="{top + 3}" width="{max(end - start, 1):.1f}" height="{_ROW - 7}" fill="#3b7dd8"/>')
                parts.append(f'<text x="{end + 6:.1f}" y="{top + 15}">{text(value)}</text>')
            top += _ROW
        top += _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def page(title: str, charts: Sequence[Chart], tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """A page with the tables and the charts."""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{_inert(title)}</title><style>{_STYLE}</style></head>',
    ]
    lines += ["<body>", f"<h1>{_inert(title)}</h1>", svg(charts)]
    for name, (titles, *rows) in tables.items():
        lines += [f"<h2>{_inert(name)}</h2>", "<table>", _row("th", titles), *(_row("td", row) for row in rows), "</table>"]
    return "\n".join([*lines, "</body>", "</html>"]) + "\n"


_STYLE = (
    "body{font-family:sans-serif;margin:2em}h1{font-size:1.3em}h2{font-size:1em}table{border-collapse:collapse}"
    "th,td{text-align:left;padding:.2em 1em .2em 0;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}"
)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_inert(cell)}</{tag}>" for cell in cells) + "</tr>"


def _inert(value: str) -> str:
    return html.escape(terminal.inert(value))


def _draw(file: Path, charts: Sequence[Chart]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise errors.InvalidError("a PNG needs matplotlib: pip install matplotlib; or write .svg or .html, which need nothing") from None
    rows = max(sum(len(chart.bars) + 2 for chart in charts), 1)
    figure = Figure(figsize=(8, 0.3 * rows), layout="constrained")
    areas = figure.subplots(len(charts), 1, squeeze=False, height_ratios=[len(chart.bars) + 2 for chart in charts])[:, 0]
    for area, chart in zip(areas, charts, strict=True):
        # `$` begins a formula, which a name is not.
        names = [terminal.inert(name).replace("$", r"\$") for name in chart.bars]
        bars = area.barh(range(len(names)), [value or 0 for value in chart.bars.values()])
        area.set_yticks(range(len(names)), names)
        area.bar_label(bars, [text(value) for value in chart.bars.values()], padding=3)
        area.invert_yaxis()
        area.set_title(terminal.inert(chart.title).replace("$", r"\$"))
        area.margins(x=0.15)
    figure.savefig(file, format="png", dpi=120)
