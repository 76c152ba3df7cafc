"""Masking of secrets in the output of steps, in their usual spellings (`spellings`), whatever the split of the input into blocks.

The supervisors of local steps load this module by its path, without installed packages, so it imports the standard library only.

Text is searched as it is and, where it holds escapes, once more in each decoded form: the escapes of JSON and Python, of URLs, of HTML, and
base64 without its line breaks. So a secret is found whichever of its characters are escaped. The time is linear in the text.
"""

from __future__ import annotations

import bisect
import functools
import json
import re
import sys
from binascii import b2a_base64, hexlify
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

HIDDEN = b"<hidden>"
SHORTEST = 6
"""Characters. Shorter secrets are not masked: they would hide harmless text such as `true` throughout the log."""
_PIECE = 128
"""Bytes. Longer spellings are searched in pieces of this length, so that an open end holds back no more."""
_KEY = 6
"""Bytes that identify the spellings which may begin at a position; no spelling is shorter."""
_SAMPLE, _LONGEST_STEP = 5, 8
_NONE: tuple[list[int], set[bytes], list[bytes]] = ([], set(), [])
_WRAPPED = 60
"""Characters of base64 in a line, from which on the line counts as wrapped; programs wrap after 64 or 76."""

_HEX = rb"[0-9a-fA-F]"
_BACKSLASH = re.compile(
    rb"\\(?:u([dD][89abAB]HH)\\u([dD][c-fC-F]HH)|((?:u[dD][89abAB]HH(?:\\(?:u(?:[dD](?:[c-fC-F]H?)?)?)?)?|uH{0,3}|UH{0,7}|xH?|[0-7]{1,2})?\Z)"
    rb"|u(HHHH)|U(HHHHHHHH)|x(HH)|([0-7]{3})|(.))".replace(b"H", _HEX),
    re.DOTALL,
)
_PERCENT = re.compile(rb"%(?:(HH)|(H?\Z))".replace(b"H", _HEX))
_ENTITY = re.compile(
    rb"&(?:#([0-9]{1,7});|#[xX](H{1,6});|(amp|lt|gt|quot|apos);|((?:#[0-9]{0,7}|#[xX]H{0,6}|[a-z]{0,4})\Z))".replace(b"H", _HEX)
)
_WRAP = re.compile(rb"\n(?<=[A-Za-z0-9+/_-]{%d}\n)|\r(?<=[A-Za-z0-9+/_-]{%d}\r)(?:\n|(\Z))" % (_WRAPPED, _WRAPPED))
_SHORT = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a"}
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")


class Mask:
    """Replaces each secret by `<hidden>`. Each line of a multi-line secret (a key file) is masked on its own, because programs print lines.

    Overlapping secrets become one mark. A mark in the input stays as it is and is part of no secret, so that masking is idempotent.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for form in _forms(secret) for line in form.splitlines()}
        self._tokens = _Tokens({token for line in lines if len(line) >= SHORTEST for token in spellings(line)})

    def __bool__(self) -> bool:
        return bool(self._tokens.longest)

    def found_in(self, data: bytes) -> bool:
        """Whether the data contains a secret."""
        return bool(self) and any(view.matches for view in _views(self._tokens, b"", data, final=True))

    def text(self, text: str) -> str:
        """The masked text."""
        return b"".join(self.stream([text.encode(errors="surrogateescape")], final=True)).decode(errors="surrogateescape")

    def stream(self, blocks: Iterable[bytes], *, final: bool) -> Iterator[bytes]:
        """The masked bytes. Unless the input is `final`, an end that may be the start of a secret is held back."""
        if not self:
            yield from blocks
            return
        state = _State(b"", b"", 0)
        for block in blocks:
            masked, state = self._settle(state, block, final=False)
            yield masked
        if final:
            yield self._settle(state, b"", final=True)[0]

    def _settle(self, state: _State, block: bytes, *, final: bool) -> tuple[bytes, _State]:
        """The masked form of the decided part of the input, and the rest."""
        data = state.rest + block
        views = list(_views(self._tokens, state.before, data, final=final))
        marks = [match.start() for match in re.finditer(re.escape(HIDDEN), data)]
        end, half_mark = len(data), len(data)
        if not final:
            half_mark -= next((size for size in range(len(HIDDEN) - 1, 0, -1) if data.endswith(HIDDEN[:size])), 0)
            end = min([half_mark, *(view.open for view in views)])
        secrets = sorted({match for view in views for match in view.matches if not _meets(match, marks)})
        # The last bytes may become a mark, which is part of no secret.
        end = min([end, *(first for first, last in secrets if last > half_mark)])
        while (moved := min(view.floor(end) for view in views)) < end:
            end = moved
        masked: list[bytes] = []
        position, hidden = 0, state.covered
        for first, last in secrets:
            if first >= end:
                break
            if first >= hidden:
                masked += data[max(position, hidden) : first], HIDDEN
                position = first
            hidden = max(hidden, last)
        masked.append(data[max(position, hidden) : end])
        return b"".join(masked), _State((state.before + data[:end])[-_WRAPPED:], data[end:], max(0, hidden - end))


Decode = Callable[[re.Match[bytes]], bytes | None]
"""An escape -> its meaning; None for one that the end of the text cuts off."""


class _State(NamedTuple):
    """Between two blocks: the last decided bytes, the undecided ones, and how many of these belong to a secret that is marked already."""

    before: bytes
    rest: bytes
    covered: int


def _meets(match: tuple[int, int], marks: Sequence[int]) -> bool:
    """Whether a match shares bytes with one of the marks."""
    index = bisect.bisect_left(marks, match[1])
    return index > 0 and marks[index - 1] + len(HIDDEN) > match[0]


class _Tokens:
    """Spellings of secrets, searched all at once.

    A spelling of `n` bytes contains one of every `step` samples of the text that are `n - step + 1` bytes long, so the time depends
    neither on the number of the secrets nor on the text.
    """

    def __init__(self, spelled: Collection[bytes]) -> None:
        pieces = {piece for token in spelled for part in token.split(HIDDEN) for piece in _pieces(part) if len(piece) >= _KEY}
        groups: dict[bytes, list[bytes]] = {}
        for piece in sorted(pieces):
            groups.setdefault(piece[:_KEY], []).append(piece)
        self._groups = {key: (sorted({len(piece) for piece in group}, reverse=True), set(group), group) for key, group in groups.items()}
        self._starts = {key[:size] for key in groups for size in range(1, _KEY)}
        self.longest = max(map(len, pieces), default=0)
        shortest = min(map(len, pieces), default=_KEY)
        self._step = min(_LONGEST_STEP, shortest - _SAMPLE + 1)
        self._samples: dict[bytes, set[int]] = {}
        for piece in pieces:
            for offset in range(self._step):
                self._samples.setdefault(piece[offset : offset + _SAMPLE], set()).add(offset)

    def search(self, text: bytes, *, final: bool) -> tuple[list[tuple[int, int]], int]:
        """The places (start, end) of the spellings, and the first place where a spelling may begin that the end of the text cuts off."""
        samples, found, size = self._samples, [], len(text)
        sampled = [place for place in range(0, size - _SAMPLE + 1, self._step) if text[place : place + _SAMPLE] in samples]
        for start in sorted({place - offset for place in sampled for offset in samples[text[place : place + _SAMPLE]] if offset <= place}):
            lengths, tokens, _ = self._groups.get(text[start : start + _KEY], _NONE)
            token = next((token for length in lengths if (token := text[start : start + length]) in tokens), b"")
            if token:
                found.append((start, start + len(token)))
        tail = range(size if final else max(0, size - self.longest + 1), size)
        return found, next((start for start in tail if self._is_open(text, start)), size)

    def _is_open(self, text: bytes, start: int) -> bool:
        """Whether the text from a place on is the beginning of a longer spelling."""
        key = text[start : start + _KEY]
        if len(key) < _KEY:
            return key in self._starts
        if key not in self._groups:
            return False
        rest, ordered = text[start:], self._groups[key][2]
        index = bisect.bisect_right(ordered, rest)
        return index < len(ordered) and ordered[index].startswith(rest)


def _pieces(token: bytes) -> Iterator[bytes]:
    count = max(1, len(token) // _PIECE)
    for number in range(count):
        yield token[number * _PIECE : (number + 1) * _PIECE if number + 1 < count else None]


class _View:
    """The matches of one form of the text, as places in the text itself; `open` is the first undecided place."""

    def __init__(self, tokens: _Tokens, text: bytes, size: int, edges: _Edges, opened: int, *, final: bool) -> None:
        self._edges = edges
        found, open_at = tokens.search(text, final=final)
        self.matches = [(edges.first(start), edges.last(end)) for start, end in found]
        self.open = min(opened, size if open_at == len(text) else edges.first(open_at))

    def floor(self, place: int) -> int:
        """`place`, or the beginning of the escape that it divides."""
        return self._edges.floor(place)


class _Edges:
    """The positions of a decoded text and those of its source: alternately of text as it is and of an escape, from each of its beginnings."""

    def __init__(self) -> None:
        self.decoded, self.source, self.plain = [0], [0], [True]

    def first(self, position: int) -> int:
        """Where the source of the byte at a position begins."""
        index = bisect.bisect_right(self.decoded, position) - 1
        return self.source[index] + (position - self.decoded[index] if self.plain[index] else 0)

    def last(self, end: int) -> int:
        """Where the source of the byte before a position ends."""
        index = bisect.bisect_right(self.decoded, end - 1) - 1
        return self.source[index] + end - self.decoded[index] if self.plain[index] else self.source[index + 1]

    def floor(self, place: int) -> int:
        """The beginning of the escape that a place of the source divides; else the place."""
        index = bisect.bisect_right(self.source, place) - 1
        return place if self.plain[index] else self.source[index]


def _views(tokens: _Tokens, before: bytes, data: bytes, *, final: bool) -> Iterator[_View]:
    """The forms of the text that are searched. `before` is the text before it."""
    yield _View(tokens, data, len(data), _Edges(), len(data), final=final)
    for sign, pattern, decode in _DECODERS:
        if sign in data:
            yield _decoded(tokens, data, 0, pattern, decode, final=final)
    if _WRAP.search(before + data, len(before)):
        yield _decoded(tokens, before + data, len(before), _WRAP, _unwrapped, final=final)


def _decoded(tokens: _Tokens, data: bytes, begin: int, pattern: re.Pattern[bytes], decode: Decode, *, final: bool) -> _View:
    parts: list[bytes] = []
    edges, size, position, opened = _Edges(), 0, begin, len(data) - begin
    for match in pattern.finditer(data, begin):
        text = decode(match)
        if text is None:
            if not final:
                opened = match.start() - begin
                break
            continue
        plain = data[position : match.start()]
        parts += plain, text
        edges.decoded += size + len(plain), size + len(plain) + len(text)
        edges.source += match.start() - begin, match.end() - begin
        edges.plain += False, True
        size, position = edges.decoded[-1], match.end()
    parts.append(data[position : begin + opened])
    return _View(tokens, b"".join(parts), len(data) - begin, edges, opened, final=final)


def _backslash(match: re.Match[bytes]) -> bytes | None:
    """The meaning of an escape; None for one that the end cuts off."""
    high, low, _, short, long, byte, octal, character = match.groups()
    if character is not None:
        return _SHORT.get(character, character)
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8) & 255])
    if high:
        return (bytes.fromhex((high + low).decode())).decode("utf-16-be").encode()
    return _character(int(short or long, 16)) if short or long else None


def _character(code: int) -> bytes:
    return chr(code).encode(errors="surrogatepass") if code <= sys.maxunicode else b"?"


def _percent(match: re.Match[bytes]) -> bytes | None:
    return bytes([int(match[1], 16)]) if match[1] else None


def _entity(match: re.Match[bytes]) -> bytes | None:
    decimal, hexadecimal, name, _ = match.groups()
    if name:
        return _ENTITIES[name]
    if not decimal and not hexadecimal:
        return None
    return _character(int(decimal) if decimal else int(hexadecimal, 16))


def _unwrapped(match: re.Match[bytes]) -> bytes | None:
    return b"" if match[1] is None else None


_DECODERS = ((b"\\", _BACKSLASH, _backslash), (b"%", _PERCENT, _percent), (b"&", _ENTITY, _entity))


def _forms(secret: str) -> Iterator[str]:
    """The secret, what it says where it is escaped itself (`echo` of `sh` undoes escapes), and the password in it if it is a URL."""
    passwords = re.findall(r"://[^/?#\s@:]*:([^/?#\s]+)@", secret)
    for text in (secret, *passwords):
        yield text
        data = text.encode(errors="surrogatepass")
        for sign, pattern, decode in _DECODERS:
            if sign in data:
                yield pattern.sub(_undo(decode), data).decode(errors="replace")


def _undo(decode: Decode) -> Callable[[re.Match[bytes]], bytes]:
    return lambda match: decode(match) or match[0]


def spellings(line: str) -> Iterator[bytes]:
    """The spellings of a secret of one line, and those that remain after one of several escapings is undone."""
    texts = dict.fromkeys([line, line.replace(" ", "+")])
    quoted = [json.dumps(line)[1:-1], json.dumps(line, ensure_ascii=False)[1:-1], repr(line)[1:-1]]
    texts |= dict.fromkeys([*quoted, *(json.dumps(text)[1:-1] for text in quoted)])
    escaped = functools.reduce(lambda text, pair: text.replace(*pair), _HTML, line)
    texts |= dict.fromkeys([escaped, escaped.replace("&#x27;", "&#39;"), escaped.replace("&#x27;", "'").replace("&quot;", '"')])
    encoded = dict.fromkeys(text.encode(errors="surrogatepass") for text in texts)
    quotes = [_quoted(line, "/"), _quoted(line, "")]
    encoded |= dict.fromkeys([*quotes, *(quote.replace(b"%20", b"+") for quote in quotes), *(_quoted(q.decode(), "") for q in quotes)])
    if not line.isascii():
        with_bytes = line.encode("latin-1", errors="ignore")
        encoded |= dict.fromkeys([with_bytes] if with_bytes.decode("latin-1") == line else [])
    yield from encoded
    for content in dict.fromkeys([line.encode(errors="surrogatepass"), *(text.encode(errors="surrogatepass") for text in quoted)]):
        yield from _base64(content)
        yield hexlify(content)
        yield hexlify(content).upper()


_HTML = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;"))


def _quoted(text: str, safe: str) -> bytes:
    kept = _UNRESERVED | set(safe.encode())
    return b"".join(bytes([code]) if code in kept else b"%%%02X" % code for code in text.encode(errors="surrogatepass"))


def _base64(content: bytes) -> Iterator[bytes]:
    """The base64 of the content at the three alignments: its characters that no neighbour changes, and with the end of the data."""
    for offset in range(3):
        whole = b2a_base64(bytes(offset) + content, newline=False)
        start, fixed = -(-offset * 8 // 6), (offset + len(content)) * 8 // 6
        for token in (whole[start:fixed], whole[start:]):
            yield token
            yield token.replace(b"+", b"-").replace(b"/", b"_")
