"""Uploads to a store in processes that kill themselves at each of their system calls that a store can notice, one after the other.

python -m tests.component.killed_upload STEP: reads the connection as JSON from the standard input. The upload to the name `killed-N` is killed
before call N, for N in steps, until one ends before its kill. Prints each N with the exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from fuseml import artifactstores
from fuseml.artifactstores import Connection
from tests.contract import artifact_stores

FILES = {"large.bin": b"0123456789abcdef" * (600 << 10), "small/a.txt": b"a", "small/b.txt": b"b"}
"""One file of it is uploaded in parts."""

_NOTICED = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "http.client.send")


def _die_before(number: int) -> None:
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        # Reading is no step of an upload.
        if event in _NOTICED and not (event == "open" and arguments[1] == "r"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main() -> None:
    connection = Connection(**json.load(sys.stdin))
    for number in range(1, 1000, int(sys.argv[1])):
        child = os.fork()
        if not child:
            store = artifactstores.connect(connection)
            place = store.place("dataset", artifact_stores.PROJECT, f"killed-{number}")
            _die_before(number)
            store.commit(place, store.write(place, artifact_stores.sources(FILES)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(number, code, flush=True)
        if code != -signal.SIGKILL:
            break


if __name__ == "__main__":
    main()
