"""A store whose writers are interrupted at the worst moment: other work is done after a commit, before the writer goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import sqlmodel

from fuseml.store import database


class Interrupted(database.Database):
    """Calls `then` once, after a transaction is committed and before its writer goes on."""

    then: Callable[[], None] | None = None

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlmodel.Session]:
        with super().write() as session:
            yield session
        then, self.then = self.then, None
        if then is not None:
            then()
