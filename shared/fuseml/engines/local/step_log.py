"""The log of a step: one file, which its supervisor writes. It never contains a secret of the run, and its size is limited."""

from __future__ import annotations

from pathlib import Path

from fuseml.engines import step_files


def read(log: Path, offset: int, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the log from `offset` on, and whether they reach the end of the log.

    A log that an unconfined step replaced by something else reads as a message that says so.
    """
    try:
        with step_files.open_to_read(log.parent, log.name) as file:
            file.seek(offset)
            data = file.read(limit + 1)
    except FileNotFoundError:
        return b"", True
    except step_files.WrongKindError as error:
        data = f"fuseml: the step replaced its log: {error}\n".encode()[offset : offset + limit + 1]
    return data[:limit], len(data) <= limit
