"""A sweep of retention in processes that kill themselves before each of their transactions and deletions, one after the other.

python -m tests.component.killed_retention FOLDER: the sweep over a copy `FOLDER/N` of `FOLDER/template` is killed before point N, for N from 1,
until one ends before its kill. Prints each N with the exit code.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import sqlalchemy

from fuseml import artifactstores
from fuseml.store import database
from tests.component import dying, retained

_DELETIONS = ("os.remove", "os.link", "os.rename")


def opened(folder: Path) -> retained.Retained:
    """The functions over a copy."""
    store = database.Database(f"sqlite:///{folder}/fuseml.db")
    return retained.Retained(store, artifactstores.Connection("folder", (folder / "store").as_uri()), folder, new=False)


def relocate(system: retained.Retained, place: str) -> None:
    """Let the record of the store name the folder of the copy."""
    text = "UPDATE extension SET document = replace(document, 'template/store', :place)"
    with system.store.write() as session:
        session.execute(sqlalchemy.text(text), {"place": place})


def _die_at(number: int, system: retained.Retained, root: Path) -> None:
    point = dying.at(number)
    sqlalchemy.event.listen(system.store.engine, "commit", point)
    sys.addaudithook(lambda event, arguments: point() if event in _DELETIONS and str(root) in str(arguments[0]) else None)


def main() -> None:
    root = Path(sys.argv[1])
    for number in range(1, 200):
        folder = root / str(number)
        shutil.copytree(root / "template", folder)
        child = os.fork()
        if not child:
            system = opened(folder)
            relocate(system, f"{number}/store")
            _die_at(number, system, root)
            system.sweep()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(number, code, flush=True)
        if code != -signal.SIGKILL:
            break


if __name__ == "__main__":
    main()
