"""How the demo is shown: a line for each step with what it did and how long it took, a spinner while it lasts, the run as a live tree."""

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
    """What a step has to tell: `say` while it lasts, `result` at its end."""

    def __init__(self, title: str, status: Status | None = None) -> None:
        self._title = title
        self._status = status
        self.result = ""

    def say(self, text: str) -> None:
        """Show what is being waited for."""
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")


class Screen(Protocol):
    """Where the story is shown."""

    def step(self, title: str) -> contextlib.AbstractContextManager[Note]:
        """A step of the story. It is shown as failed when an exception leaves it."""

    def run(self, title: str, looks: Iterable[shapes.Run]) -> shapes.Run:
        """A run while it goes on; the run as it ended."""

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        """Facts."""

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Text, such as the end of a log."""


class Terminal:
    """The screen on standard output."""

    def __init__(self) -> None:
        self._console = output.console()
        self._number = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Note]:
        """A spinner in a terminal, then the step with its time and result."""
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

    def run(self, title: str, looks: Iterable[shapes.Run]) -> shapes.Run:
        """The tree of `fuseml run watch`."""
        from rich.text import Text

        self._number += 1
        self._console.print(Text(f"{self._number:>2}. {title}", style="bold"))
        return progress.show(([look] for look in looks), indent=4)[0]

    def table(self, title: str, rows: Sequence[Mapping[str, object]], columns: Sequence[output.Column]) -> None:
        """An indented table under its title."""
        self._console.print(f"    {title}:")
        output.table(rows, columns, indent=6)

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Indented lines under their title."""
        self._console.print(f"    {title}:")
        self._indented(lines, 6)

    def _indented(self, lines: Sequence[str], indent: int) -> None:
        from rich.padding import Padding
        from rich.text import Text

        for line in lines:
            self._console.print(Padding(Text(line), (0, 0, 0, indent), expand=False))
