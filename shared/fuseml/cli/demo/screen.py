"""Output of the demo: a line for each step with its result and duration, a spinner while it runs, live trees of runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from fuseml.cli import output, progress

if TYPE_CHECKING:
    from rich.status import Status

    from fuseml.client import shapes


class Note:
    """The note of a step: `say` shows progress while it runs, `result` is shown at its end."""

    def __init__(self, title: str, status: Status | None = None) -> None:
        self._title = title
        self._status = status
        self.result = ""

    def say(self, text: str) -> None:
        """Show what the step waits for."""
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")


class Screen(Protocol):
    """The output of the scenario."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Note]:
        """Show a step of the scenario; a step that an exception leaves is shown as failed."""

    def run(self, title: str, snapshots: Iterable[shapes.Run]) -> shapes.Run:
        """Show the progress of a run; the finished run."""

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        """Show a table under a title."""

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Show lines of text under a title, such as the end of a log."""


class Terminal:
    """Output on standard output."""

    def __init__(self) -> None:
        self._console = output.console()
        self._number = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Note]:
        """Show a spinner in a terminal, then the step with its duration and result."""
        self._number += 1
        began = time.monotonic()
        try:
            if self._console.is_terminal:
                with self._console.status(title) as status:
                    note = Note(title, status)
                    yield note
            else:
                note = Note(title)
                yield note
        except BaseException as error:
            self._heading(title, "failed" if isinstance(error, Exception) else "interrupted", began)
            raise
        self._heading(title, "done", began)
        self._indented(note.result.splitlines(), 4)

    def _heading(self, title: str, state: str, began: float) -> None:
        from rich.text import Text

        line = Text(f"{self._number:>2}. {title}  ", style="bold")
        line.append(f"{state} in {output.duration(time.monotonic() - began)}", style="dim" if state == "done" else "red")
        self._console.print(line)

    def run(self, title: str, snapshots: Iterable[shapes.Run]) -> shapes.Run:
        """Show the tree of `fuseml run watch`."""
        from rich.text import Text

        self._number += 1
        self._console.print(Text(f"{self._number:>2}. {title}", style="bold"))
        return progress.show(([snapshot] for snapshot in snapshots), indent=4)[0]

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        """Print an indented table under its title."""
        self._console.print(f"    {title}:")
        output.table(rows, columns, indent=6)

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Print indented lines under their title."""
        self._console.print(f"    {title}:")
        self._indented(lines, 6)

    def _indented(self, lines: Sequence[str], indent: int) -> None:
        from rich.padding import Padding
        from rich.text import Text

        for line in lines:
            self._console.print(Padding(Text(line), (0, 0, 0, indent), expand=False))
