"""Hides secrets in what steps print, with one replacement that gives the same bytes however the input is cut.

Also a program (`main`) that a step's output can be led through. It starts in milliseconds and without anything that is installed,
so this file imports the standard library only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator

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


def main() -> None:
    """Standard input, masked, to standard output, as soon as it can be said. Argument: the file descriptor that the secrets come from."""
    with open(int(sys.argv[1]), "rb") as source:  # noqa: PTH123 - a descriptor has no path
        mask = Mask(secret.decode() for secret in source.read().split(b"\0"))
    for piece in mask.stream(iter(lambda: os.read(0, _BLOCK), b""), final=True):
        while piece:
            piece = piece[os.write(1, piece) :]  # noqa: PLW2901


if __name__ == "__main__":
    main()
