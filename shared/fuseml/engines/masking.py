"""Hides secrets in what steps print.

A step writes straight into its log file, because a pipe through the server would break when the server dies and the step lives on. So
secrets are hidden when a log is read, and once for all in the file when the attempt has ended, before the secrets are deleted.
Both use one replacement that gives the same bytes however the input is cut; offsets of a reader therefore stay true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

HIDDEN = b"<hidden>"
SHORTEST = 6
"""Characters. A shorter secret would hide innocent text such as `true` all over the log."""
_BLOCK = 1 << 18


class Mask:
    """Replaces every secret by `<hidden>`. The lines of a secret of several lines (a key file) count one by one, as programs print them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        tokens = sorted((line.encode() for line in lines if len(line) >= SHORTEST), key=len, reverse=True)
        # The mark itself is a token, so that a masked text stays as it is when it is masked again, whatever the secrets are.
        self._tokens = [HIDDEN, *tokens] if tokens else []
        self._pattern = re.compile(b"|".join(re.escape(token) for token in self._tokens))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def stream(self, blocks: Iterable[bytes], *, final: bool) -> Iterator[bytes]:
        """The masked bytes. Unless the input is `final`, an end that may be the beginning of a secret is held back."""
        if not self:
            yield from blocks
            return
        rest = b""
        for block in blocks:
            settled, rest = self._settle(rest + block, final=False)
            yield settled
        if final:
            yield self._settle(rest, final=True)[0]

    def _settle(self, data: bytes, *, final: bool) -> tuple[bytes, bytes]:
        """What can be said for sure about `data`, masked, and the raw rest."""
        done: list[bytes] = []
        position, open_end = 0, len(data) if final else self._open_end(data, 0)
        while (match := self._pattern.search(data, position)) and match.start() < open_end:
            done += data[position : match.start()], HIDDEN
            position = match.end()
            if position > open_end:
                open_end = self._open_end(data, position)
        done.append(data[position:open_end])
        return b"".join(done), data[open_end:]

    def _open_end(self, data: bytes, position: int) -> int:
        """The first place from `position` on where the rest of `data` is the beginning of a token and not the whole of it yet."""
        longest = max(map(len, self._tokens))
        for start in range(max(position, len(data) - longest + 1), len(data)):
            rest = data[start:]
            if any(len(rest) < len(token) and token.startswith(rest) for token in self._tokens):
                return start
        return len(data)


def read(log: Path, mask: Mask, offset: int, limit: int, *, final: bool) -> tuple[bytes, bool]:
    """At most `limit` bytes of the masked log from `offset` of the masked log on, and whether that is all there is.

    With a mask, the log is read from its beginning each time: that is what keeps offsets right without keeping state.
    """
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return b"", True
    with file:
        position = 0
        if not mask:
            file.seek(offset)
            position = offset
        collected = bytearray()
        for piece in mask.stream(iter(lambda: file.read(_BLOCK), b""), final=final):
            collected += piece[max(0, offset - position) :]
            position += len(piece)
            if len(collected) > limit:
                return bytes(collected[:limit]), False
    return bytes(collected), True


def rewrite(log: Path, mask: Mask) -> None:
    """Replace the log by its masked form. Only for a log that nobody writes to any more."""
    if not mask or not log.exists():
        return
    partial = log.with_name(".log.partial")
    with log.open("rb") as source, partial.open("wb") as target:
        target.writelines(mask.stream(iter(lambda: source.read(_BLOCK), b""), final=True))
    partial.replace(log)
