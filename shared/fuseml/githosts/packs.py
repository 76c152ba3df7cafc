"""Inspection of a pack before its objects are inflated in memory: their declared sizes, and the memory that their deltas need.

The pack is inflated once in small parts, which are dropped. The format is git's (gitformat-pack).
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from fuseml.domain import errors
from fuseml.githosts.limits import Limits, size

_PART = 1 << 16
_OFS_DELTA, _REF_DELTA = 6, 7
_TRUNCATED = "the pack is incomplete; push again"
# Bytes of a delta that hold the sizes of its base and of its result: two numbers of at most ten bytes.
_SIZES = 20


@dataclass(frozen=True, slots=True)
class _Entry:
    size: int
    base: int | None
    in_unknown_base: bool


def check(pack: IO[bytes], limits: Limits, has_object: Callable[[bytes], bool]) -> None:
    """Check the pack from the present position of a seekable file, which is kept. `has_object` knows the stored objects by binary id.

    Raises TooLargeError with the bound and the setting that raises it, InvalidError for what is no pack.
    """
    begin = pack.tell()
    try:
        entries = _scan(_Reader(pack), limits, has_object)
    finally:
        pack.seek(begin)
    needed = _memory(entries)
    if needed > limits.memory:
        raise errors.TooLargeError(
            f"the deltas of this push need {size(needed)} of memory, more than {size(limits.memory)}; push fewer commits at a time"
        )


class _Reader:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rest, self.position = file, b"", 0

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        data = self.some(count)
        while len(data) < count:
            data += self.some(count - len(data))
        return data

    def some(self, most: int) -> bytes:
        """At least one byte."""
        if not self._rest:
            self._rest = self._file.read(_PART)
            if not self._rest:
                raise errors.InvalidError(_TRUNCATED)
        data, self._rest = self._rest[:most], self._rest[most:]
        self.position += len(data)
        return data

    def unread(self, data: bytes) -> None:
        self._rest = data + self._rest
        self.position -= len(data)

    def number(self) -> bytes:
        """The bytes of a number of variable length."""
        taken = bytearray()
        while True:
            taken += self.read(1)
            if not taken[-1] & 0x80:
                return bytes(taken)
            if len(taken) > 10:
                raise errors.InvalidError("the pack has a number of more than 70 bits")


def _scan(reader: _Reader, limits: Limits, has_object: Callable[[bytes], bool]) -> dict[int, _Entry]:
    header = reader.read(12)
    if header[:4] != b"PACK":
        raise errors.InvalidError("the request has no pack")
    count = int.from_bytes(header[8:12], "big")
    if count > limits.objects:
        raise errors.TooLargeError(f"the push has {count} objects, more than {limits.objects}; push fewer commits at a time")
    entries: dict[int, _Entry] = {}
    total = 0
    for _ in range(count):
        offset, first = reader.position, reader.number()
        declared, shift, kind = first[0] & 0x0F, 4, first[0] >> 4 & 7
        for byte in first[1:]:
            declared, shift = declared + ((byte & 0x7F) << shift), shift + 7
        base, in_unknown_base = None, False
        if kind == _OFS_DELTA:
            base = offset - _offset(reader.number())
        elif kind == _REF_DELTA:
            in_unknown_base = not has_object(reader.read(20))
        _check_object(declared, limits)
        beginning = _inflate(reader, declared)
        result = _result_size(beginning) if kind in (_OFS_DELTA, _REF_DELTA) else declared
        _check_object(result, limits)
        total += result
        if total > limits.pack:
            raise errors.TooLargeError(
                f"the objects of this push take more than {size(limits.pack)} (FUSEML_GIT_PACK_MIB); push fewer commits at a time"
            )
        entries[offset] = _Entry(result, base, in_unknown_base)
    return entries


def _check_object(declared: int, limits: Limits) -> None:
    if declared > limits.object:
        raise errors.TooLargeError(
            f"a file of this push has {size(declared)}, more than {size(limits.object)} (FUSEML_GIT_OBJECT_MIB); "
            "keep data sets and models in an artifact store, and remove the file from the commits"
        )


def _offset(number: bytes) -> int:
    value = number[0] & 0x7F
    for byte in number[1:]:
        value = ((value + 1) << 7) + (byte & 0x7F)
    return value


def _inflate(reader: _Reader, declared: int) -> bytes:
    """Inflate one object and drop it; returns its first bytes."""
    stream, seen, beginning, compressed = zlib.decompressobj(), 0, b"", b""
    try:
        while not stream.eof:
            data = stream.decompress(compressed or reader.some(_PART), _PART)
            compressed = stream.unconsumed_tail
            seen += len(data)
            if len(beginning) < _SIZES:
                beginning += data[: _SIZES - len(beginning)]
            if seen > declared:
                break
    except zlib.error as error:
        raise errors.InvalidError(f"the pack is damaged ({error}); push again") from error
    if seen != declared:
        raise errors.InvalidError("an object of the pack has another size than it declares")
    reader.unread(stream.unused_data)
    return beginning


def _result_size(delta: bytes) -> int:
    position, sizes = 0, []
    for _ in range(2):
        value = shift = 0
        while True:
            if position >= len(delta):
                raise errors.InvalidError("the pack has a delta without sizes")
            byte = delta[position]
            position += 1
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if not byte & 0x80:
                break
        sizes.append(value)
    return sizes[1]


def _memory(entries: dict[int, _Entry]) -> int:
    """The bytes that dulwich holds at most while it resolves the deltas: a base stays as long as a delta on it waits.

    It resolves depth first, the newest delta of a base first. Deltas on objects whose place in the pack is not known count together.
    """
    children: defaultdict[int, list[int]] = defaultdict(list)
    for offset, entry in entries.items():
        if entry.base is not None:
            children[entry.base].append(offset)
    unknown = sum(entry.size for entry in entries.values() if entry.in_unknown_base)
    most = 0
    for root, entry in entries.items():
        if entry.base is not None or root not in children:
            continue
        held, waiting = 0, [(root, 0, True)]
        while waiting:
            offset, base_size, is_last = waiting.pop()
            own = entries[offset].size
            most = max(most, held + own)
            if is_last:
                held -= base_size
            below = children.get(offset, ())
            if below:
                held += own
                # The first one is resolved last, and frees the base.
                waiting += [(child, own, number == 0) for number, child in enumerate(below)]
    return most + unknown
