"""Two concurrent operations on contents, whose calls alternate by a schedule: the same interleaving at each run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fuseml.contents.port import Entry, valid_key
from fuseml.domain import errors
from tests.waiting import PATIENCE


class Stepped:
    """Contents in memory, whose calls wait for their permission, unless they come from another thread than that of an `Operation`."""

    def __init__(self) -> None:
        self.stored: dict[str, Entry] = {}
        self._data: dict[str, bytes] = {}
        self._operations: dict[int, Operation] = {}

    def begin(self, work: Callable[[], object]) -> Operation:
        """An operation that stands before its first call."""
        return Operation(work, self._operations)

    def age(self, seconds: float) -> None:
        """Let everything be written that much earlier."""
        self.stored = {key: Entry(key, entry.size, entry.modified - seconds) for key, entry in self.stored.items()}

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        data = b"".join(blocks)
        self._stop()
        return self._store(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._stop()
        if key in self.stored:
            return False
        self._store(key, data)
        return True

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        self._stop()
        if key not in self._data:
            raise errors.NotFoundError(key)
        yield self._data[key][offset:] if limit is None else self._data[key][offset : offset + limit]

    def size(self, key: str) -> int:
        self._stop()
        if key not in self.stored:
            raise errors.NotFoundError(key)
        return self.stored[key].size

    def delete(self, key: str) -> None:
        self._stop()
        self.stored.pop(key, None)
        self._data.pop(key, None)

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        self._stop()
        return [self.stored[key] for key in sorted(self.stored) if key.startswith(f"{prefix}/") and key > after][:limit]

    def renew(self, key: str) -> bool:
        self._stop()
        if key in self._data:
            self._store(key, self._data[key])
        return key in self._data

    def discard_unfinished(self, seconds: float) -> int:
        self._stop()
        return 0

    def link(self, key: str, seconds: int) -> str:
        return f"memory:{key}"

    def _store(self, key: str, data: bytes) -> int:
        self._data[valid_key(key)] = data
        self.stored[key] = Entry(key, len(data), time.time())
        return len(data)

    def _stop(self) -> None:
        operation = self._operations.get(threading.get_ident())
        if operation is not None:
            operation.stop()


class Operation:
    """Work in a thread of its own, which stands still before each call."""

    def __init__(self, work: Callable[[], object], operations: dict[int, Operation]) -> None:
        self.result: object = None
        self.error: Exception | None = None
        self.is_ended = False
        self._work = work
        self._operations = operations
        self._may, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._stands.acquire(timeout=PATIENCE)

    def stop(self) -> None:
        """Stand still until the next permission."""
        self._stands.release()
        assert self._may.acquire(timeout=PATIENCE)

    def go(self, calls: int | None = None) -> None:
        """Let the operation do this many calls, or all of them."""
        done = 0
        while not self.is_ended and (calls is None or done < calls):
            self._may.release()
            assert self._stands.acquire(timeout=PATIENCE)
            done += 1
        if self.is_ended:
            self._thread.join()

    def _run(self) -> None:
        self._operations[threading.get_ident()] = self
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error
        finally:
            del self._operations[threading.get_ident()]
            self.is_ended = True
            self._stands.release()
