"""Masking of secrets in the output of steps. The result does not depend on how the input is split into blocks.

Also a filter program (`main`) for the output of a step. It must start in milliseconds and without installed packages, so this module
imports the standard library only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator

HIDDEN = b"<hidden>"
SHORTEST = 6
"""Characters. Shorter secrets are not masked: they would hide harmless text such as `true` throughout the log."""
_BLOCK = 1 << 18


class Mask:
    """Replaces each secret by `<hidden>`. Each line of a multi-line secret (a key file) is masked on its own, because programs print lines."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        tokens = sorted((line.encode() for line in lines if len(line) >= SHORTEST), key=len, reverse=True)
        # The mark itself is a token, so that masking is idempotent for all secrets.
        self._tokens = [HIDDEN, *tokens] if tokens else []
        self._pattern = re.compile(b"|".join(re.escape(token) for token in self._tokens))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def stream(self, blocks: Iterable[bytes], *, final: bool) -> Iterator[bytes]:
        """The masked bytes. Unless the input is `final`, an end that may be the start of a secret is held back."""
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
        """The decided part of `data`, masked, and the undecided rest, unmasked."""
        masked: list[bytes] = []
        position, open_end = 0, len(data) if final else self._open_end(data, 0)
        while (match := self._pattern.search(data, position)) and match.start() < open_end:
            masked += data[position : match.start()], HIDDEN
            position = match.end()
            if position > open_end:
                open_end = self._open_end(data, position)
        masked.append(data[position:open_end])
        return b"".join(masked), data[open_end:]

    def _open_end(self, data: bytes, position: int) -> int:
        """The first index from `position` on where the rest of `data` is a proper prefix of a token."""
        longest = max(map(len, self._tokens))
        for start in range(max(position, len(data) - longest + 1), len(data)):
            rest = data[start:]
            if any(len(rest) < len(token) and token.startswith(rest) for token in self._tokens):
                return start
        return len(data)


def main() -> None:
    """Copy standard input, masked, to standard output without delay. Argument: the file descriptor from which to read the secrets."""
    with open(int(sys.argv[1]), "rb") as source:  # noqa: PTH123 - a descriptor has no path
        mask = Mask(secret.decode() for secret in source.read().split(b"\0"))
    for piece in mask.stream(iter(lambda: os.read(0, _BLOCK), b""), final=True):
        while piece:
            piece = piece[os.write(1, piece) :]  # noqa: PLW2901


if __name__ == "__main__":
    main()
