"""Removal of folders without a wait: a rename takes a folder away at once, a thread deletes it later.

A folder of a step may hold any number of files. What a server did not delete before it ended, the next one deletes.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from pathlib import Path

_LOG = logging.getLogger(__name__)
_ALL_RIGHTS = 0o700


class Trash:
    """Discarded folders, below `folder`, which must be on the file system of the folders that are discarded. All methods are thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start to delete what was and will be discarded."""
        self._folder.mkdir(mode=_ALL_RIGHTS, parents=True, exist_ok=True)
        self._pending, self._stopped = queue.SimpleQueue(), threading.Event()
        for path in self._folder.iterdir():
            self._pending.put(path)
        threading.Thread(target=_work, args=(self._pending, self._stopped), name="fuseml-trash", daemon=True).start()

    def stop(self) -> None:
        """Delete no further folder, and do not wait for the one that is being deleted."""
        self._stopped.set()
        self._pending.put(None)

    def discard(self, path: Path) -> bool:
        """Take a file or folder away at once, and delete it later. A link is not followed. Returns False, and logs why, if the path remains."""
        try:
            target = self._folder / os.urandom(8).hex()
            self._folder.mkdir(mode=_ALL_RIGHTS, parents=True, exist_ok=True)
            try:
                path.rename(target)
            except PermissionError:
                # To move a folder writes its entry `..`, so its own mode counts.
                if path.is_symlink():
                    raise
                path.chmod(_ALL_RIGHTS)
                path.rename(target)
        except FileNotFoundError:
            return True
        except OSError as error:
            _LOG.warning("%s could not be removed: %s", path, error)
            return False
        self._pending.put(target)
        return True


def _work(pending: queue.SimpleQueue[Path | None], stopped: threading.Event) -> None:
    while (path := pending.get()) is not None and not stopped.is_set():
        try:
            _delete(path)
        except Exception as error:
            # Not only OSError: folders nested too deeply end in RecursionError. The next start tries again.
            _LOG.warning("%s could not be deleted, which keeps its disk space; delete it by hand: %s", path, error)


def _delete(path: Path) -> None:
    while os.path.lexists(path):
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                _delete_folder(path)
        except FileNotFoundError:
            # The thread of an earlier server, or of the next one, deletes the same folder.
            continue


def _delete_folder(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except PermissionError:
        # A step may have left folders without the right to write, as some package caches are.
        for folder, names, _ in os.walk(path):
            for name in names:
                below = Path(folder, name)
                if not below.is_symlink():
                    below.chmod(_ALL_RIGHTS)
        shutil.rmtree(path)
