"""Moves of refs in one step with the host's record of pushes, also when the process is killed in between.

An intent file holds the moves before the first ref changes, and is removed after they are recorded. The finder of one completes it: it records
the moves that took place, or takes an incomplete atomic push back. Callers hold the lock of the repository's refs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dulwich.file import FileLocked
from dulwich.objects import ObjectID
from dulwich.refs import Ref, RefsContainer

from fuseml.githosts.payload import INTENT, RECORD, ZERO, Change


@dataclass(frozen=True, slots=True)
class Move:
    """A change on its way: `delivery` is the id of its webhook, `error` the reason for which the ref has not moved."""

    change: Change
    delivery: str
    error: str = ""


def move(refs: RefsContainer, folder: Path, changes: Sequence[Change], pusher: str, *, atomic: bool) -> list[Move]:
    """Move the refs and record the pushes; `atomic`: all or none. A failed move is returned with its reason, and has no effect.

    Raises OSError when a move could be neither recorded nor taken back; then the next caller of `complete` records it.
    """
    moves = [Move(change, str(uuid.uuid4())) for change in changes]
    record = folder / RECORD
    position = record.stat().st_size if record.exists() else 0
    try:
        _write(folder / INTENT, {"atomic": atomic, "position": position, "pusher": pusher, "moves": [_intent(each) for each in moves]})
    except OSError as error:
        (folder / INTENT).unlink(missing_ok=True)
        return [dataclasses.replace(each, error=f"it cannot be recorded: {error.strerror}") for each in moves]
    done: dict[int, Move] = {}
    # Deletions first: a new ref may need the place of a deleted one, as `a/b` that of `a`.
    for number in sorted(range(len(moves)), key=lambda index: not moves[index].change.deleted):
        reason = _move(refs, moves[number].change)
        if reason:
            moves[number] = dataclasses.replace(moves[number], error=reason)
            if atomic:
                _take_back(refs, done.values())
                done = {}
                moves = [each if each.error else dataclasses.replace(each, error="atomic push failed") for each in moves]
                break
        else:
            done[number] = moves[number]
    try:
        _append(record, [_line(each, pusher) for each in moves if not each.error and _is_recorded(each.change)])
    except OSError as error:
        _take_back(refs, done.values())
        moves = [each if each.error else dataclasses.replace(each, error=f"it cannot be recorded: {error.strerror}") for each in moves]
    (folder / INTENT).unlink()
    return moves


def complete(refs: RefsContainer, folder: Path) -> None:
    """Complete the moves of a process that died in between, or of a full disk. Does nothing without an intent."""
    intent = folder / INTENT
    try:
        found: dict[str, Any] = json.loads(intent.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        # It was cut off, so that no ref has moved.
        intent.unlink()
        return
    moves = [Move(Change(item["ref"], item["before"], item["after"]), item["delivery"]) for item in found["moves"]]
    record = folder / RECORD
    recorded = {entry.get("delivery") for entry in _entries(record, found["position"])}
    moved = [each for each in moves if _current(refs, each.change) == each.change.after]
    if found["atomic"] and len(moved) < len(moves) and not recorded:
        _take_back(refs, moved)
        moved = []
    _append(record, [_line(each, found["pusher"]) for each in moved if _is_recorded(each.change) and each.delivery not in recorded])
    intent.unlink()


def _intent(move: Move) -> dict[str, str]:
    return {"ref": move.change.ref, "before": move.change.before, "after": move.change.after, "delivery": move.delivery}


def _line(move: Move, pusher: str) -> bytes:
    change = move.change
    entry = {
        "ref": change.ref,
        "before": None if change.created else change.before,
        "after": change.after,
        "pusher": pusher,
        "delivery": move.delivery,
    }
    # The leading newline separates the line from one that a crash or a full disk cut off.
    return b"\n" + json.dumps(entry).encode() + b"\n"


def _is_recorded(change: Change) -> bool:
    return not change.deleted and change.ref.startswith(("refs/heads/", "refs/tags/"))


def _entries(record: Path, position: int) -> Iterator[dict[str, Any]]:
    if not record.exists():
        return
    with record.open("rb") as file:
        file.seek(position)
        for line in file:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _append(record: Path, lines: Sequence[bytes]) -> None:
    if not lines:
        return
    size = record.stat().st_size if record.exists() else 0
    with record.open("ab") as file:
        try:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            # A part of the lines must not count.
            file.truncate(size)
            raise


def _write(path: Path, content: dict[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(content).encode())
        file.flush()
        os.fsync(file.fileno())


def _move(refs: RefsContainer, change: Change) -> str:
    """Move one ref; returns the reason for which it has not moved, or nothing."""
    name, before, after = Ref(change.name), ObjectID(change.before.encode()), ObjectID(change.after.encode())
    try:
        if change.created and (other := _in_the_way(refs, change.name)):
            return f"{other.decode('utf-8', 'replace')} exists, and no ref can be both a name and a folder"
        moved = refs.remove_if_equals(name, before) if change.deleted else refs.set_if_equals(name, before, after)
    except FileLocked:
        return "it is locked by another process; push again"
    except OSError as error:
        return f"it cannot be written: {error.strerror or error}"
    return "" if moved else "another push moved it meanwhile: fetch, then push again"


def _in_the_way(refs: RefsContainer, name: bytes) -> bytes | None:
    """The ref whose name is a folder of this one, or the other way round. Empty folders in the way are removed."""
    parts = name.split(b"/")
    above = {b"/".join(parts[:count]) for count in range(3, len(parts))}
    for other in refs.allkeys():
        if other in above or other.startswith(name + b"/"):
            return bytes(other)
    _remove_empty(Path(os.fsdecode(refs.refpath(Ref(name)))))  # type: ignore[attr-defined]
    return None


def _remove_empty(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            _remove_empty(path)
        folder.rmdir()


def _take_back(refs: RefsContainer, moves: Iterable[Move]) -> None:
    for each in reversed(list(moves)):
        change = each.change
        name, before, after = Ref(change.name), ObjectID(change.before.encode()), ObjectID(change.after.encode())
        if change.created:
            refs.remove_if_equals(name, after)
        else:
            refs.set_if_equals(name, ObjectID(ZERO.encode()) if change.deleted else after, before)


def _current(refs: RefsContainer, change: Change) -> str:
    value = refs.read_ref(Ref(change.name))
    return value.decode() if value else ZERO
