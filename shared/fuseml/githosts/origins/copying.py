"""Copies of origins: the branches and tags of one repository become those of another, both over git's smart protocol.

The objects pass through a temporary file, and are stored by the copy's own git host, which judges them like those of any push. The copy's refs
are read first, and each moves only from the value that was read: of two processes at once, neither takes a newer state back.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from fuseml.domain import errors, inert_text, origins, urls
from fuseml.githosts import bounded
from fuseml.githosts.limits import size as shown_size
from fuseml.githosts.snapshots import Account, translated

if TYPE_CHECKING:
    from dulwich.client import Urllib3HttpGitClient
    from dulwich.objects import ObjectID
    from dulwich.refs import Ref

MOST_BYTES = 1 << 30
"""Of one synchronisation: the most that the embedded git host receives in one push."""

_ADVERTISEMENT = 16 << 20
MOST_REFS = 100
"""Of one push: a host may take a tenth of a second for each, and what has moved need not move again."""
_IN_MEMORY = 1 << 20
_ZERO = "0" * 40
_REPORT = 1 << 20
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Place:
    """The address of a repository for git, and the account there."""

    url: str
    account: Account


@dataclass(frozen=True, slots=True)
class Outcome:
    """The refs that moved, and those that cannot be followed or that the copy's host refused to move, each with its reason; `kept` is a branch that the origin has no
    more, but that is the default one of the copy.
    """

    moved: Sequence[origins.Change]
    refused: Mapping[str, str]
    kept: str = ""


@dataclass(frozen=True, slots=True)
class _Refs:
    values: Mapping[str, str]
    head: str
    faults: Mapping[str, str]


def copy(origin: Place, to: Place, *, seconds: float, size: int = MOST_BYTES, most_refs: int = MOST_REFS) -> Outcome:
    """Make `to` equal to its origin, by pushes of at most `most_refs` refs. Idempotent; after an interruption the next call completes it.

    Raises TemporaryError while one of them cannot be read, TooLargeError for more than `size` bytes, PermanentError where the copy is refused
    as a whole.
    """
    deadline = time.monotonic() + seconds
    moved, refused = list[origins.Change](), dict[str, str]()
    while True:
        present = _read(to, deadline)
        wanted = _read(origin, deadline)
        different = origins.changes(wanted.values, present.values, present.head)
        changes = [item for item in different if item.ref not in refused]
        if not any(ref.startswith("refs/heads/") for ref in present.values):
            # The first branch of an empty repository becomes its default one.
            changes = [item for item in changes if item.ref == wanted.head] or changes
        part = changes[:most_refs]
        if not part:
            is_kept = present.head in present.values and present.head not in wanted.values and bool(wanted.values)
            # A refused ref that another process has moved meanwhile is as it should be.
            failed = {item.ref: refused[item.ref] for item in different}
            return Outcome(moved, {**wanted.faults, **failed}, present.head if is_kept else "")
        answered = _relay(origin, to, part, present, deadline, size)
        refused |= answered
        moved += [item for item in part if item.ref not in answered]


def _read(place: Place, deadline: float) -> _Refs:
    from dulwich import errors as git_errors
    from dulwich.refs import Ref

    shown = urls.shown(place.url)
    with translated(shown), _client(place, deadline, _ADVERTISEMENT) as git:
        answer = git.get_refs(b"")
        _expect_smart(git)
        values = {_text(name): value.decode() for name, value in answer.refs.items() if value}
        if not all(map(origins.is_object_id, values.values())):
            raise git_errors.GitProtocolError("its objects have other ids than those of SHA-1")
        faults = {name: fault for name in values if origins.is_followed(name) and (fault := origins.ref_fault(name))}
        good = {name: value for name, value in values.items() if name not in faults}
        return _Refs(good, _text(answer.symrefs.get(Ref(b"HEAD"), b"")), {_line(name): fault for name, fault in faults.items()})


def _relay(origin: Place, to: Place, changes: Sequence[origins.Change], present: _Refs, deadline: float, size: int) -> dict[str, str]:
    """Move the refs in one push; returns the refused ones with their reasons."""
    wants = {item.after for item in changes if item.after} - set(present.values.values())
    with tempfile.TemporaryFile() as body:
        _write_commands(body, changes)
        if wants:
            _fetch(origin, body, wants, present, deadline, size)
        elif any(item.after for item in changes):
            body.write(_empty_pack())
        body.seek(0)
        report = _push(to, body, deadline)
    return _refusals(report, changes, urls.shown(to.url))


def _fetch(origin: Place, body: IO[bytes], wants: set[str], present: _Refs, deadline: float, size: int) -> None:
    """Append the pack with the wanted objects, without those that the copy has."""
    from dulwich.object_store import ObjectStoreGraphWalker
    from dulwich.objects import ObjectID

    shown, begin = urls.shown(origin.url), body.tell()
    walker = ObjectStoreGraphWalker([ObjectID(value.encode()) for value in sorted(set(present.values.values()))], lambda _: [])

    def write(block: bytes) -> int:
        if body.tell() - begin + len(block) > size:
            raise errors.TooLargeError(f"{shown} is too large: what is new there takes more than {shown_size(size)}")
        return body.write(block)

    def determine_wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
        _expect_smart(git)
        offered = set(refs.values())
        found = [ObjectID(value.encode()) for value in sorted(wants)]
        # The origin has moved on since its refs were read.
        if not offered.issuperset(found):
            raise errors.TemporaryError(f"{shown} was pushed to meanwhile")
        return found

    with translated(shown), _client(origin, deadline, size + _ADVERTISEMENT) as git:
        git.fetch_pack(b"", determine_wants, walker, write, progress=lambda _: None)
    if body.tell() == begin:
        body.write(_empty_pack())


def _write_commands(body: IO[bytes], changes: Sequence[origins.Change]) -> None:
    for number, item in enumerate(changes):
        line = f"{item.before or _ZERO} {item.after or _ZERO} {item.ref}".encode("utf-8", "surrogateescape")
        _write_packet(body, line + (b"\0report-status delete-refs" if number == 0 else b""))
    body.write(b"0000")


def _write_packet(body: IO[bytes], line: bytes) -> None:
    body.write(b"%04x" % (len(line) + 4) + line)


def _empty_pack() -> bytes:
    content = b"PACK" + (2).to_bytes(4, "big") + (0).to_bytes(4, "big")
    return content + hashlib.sha1(content, usedforsecurity=False).digest()


def _push(to: Place, body: IO[bytes], deadline: float) -> bytes:
    import urllib3

    shown = urls.shown(to.url)
    length = body.seek(0, 2)
    body.seek(0)
    service = "application/x-git-receive-pack"
    headers = {
        **urllib3.make_headers(basic_auth=f"{to.account.username}:{to.account.password}"),
        "Content-Type": f"{service}-request",
        "Accept": f"{service}-result",
        "Content-Length": str(length),
        "User-Agent": "git/fuseml",
    }
    with translated(shown), bounded.connections(_left(deadline), deadline) as pool:
        address = f"{to.url.rstrip('/')}/git-receive-pack"
        answer = pool.request("POST", address, body=body, headers=headers, redirect=False, preload_content=False)
        try:
            if answer.status != 200:
                raise errors.TemporaryError(f"{shown} answers a push with status {answer.status}")
            return answer.read(_REPORT)
        finally:
            answer.close()


def _refusals(report: bytes, changes: Sequence[origins.Change], shown: str) -> dict[str, str]:
    """Ref -> reason, from the report of a push. Raises PermanentError where its objects were refused, TemporaryError for a broken report."""
    try:
        lines = [line.rstrip(b"\n").decode("utf-8", "replace") for line in _packets(report)]
    except ValueError as error:
        raise errors.TemporaryError(f"{shown} sent no report of the push ({error})") from None
    if not lines or not lines[0].startswith("unpack "):
        raise errors.TemporaryError(f"{shown} sent no report of the push")
    if lines[0] != "unpack ok":
        raise errors.PermanentError(f"{shown} refuses the objects: {_line(lines[0].removeprefix('unpack '))}")
    refused = {}
    for line in lines[1:]:
        state, _, rest = line.partition(" ")
        if state == "ng":
            ref, _, reason = rest.partition(" ")
            refused[ref] = _line(reason)
    known = {item.ref for item in changes}
    return {ref: reason for ref, reason in refused.items() if ref in known}


def _packets(report: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(report):
        length = int(report[position : position + 4], 16)
        if length == 0:
            return
        if length < 4 or position + length > len(report):
            raise ValueError("a packet is cut off")
        yield report[position + 4 : position + length]
        position += length


def _client(place: Place, deadline: float, size: int) -> contextlib.AbstractContextManager[Urllib3HttpGitClient]:
    account = place.account
    # Any user name goes with a token.
    seconds = _left(deadline)
    return bounded.client(place.url, account.username or "token", account.password, seconds=seconds, size=size, thin_packs=False)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise errors.TemporaryError("the synchronisation took too long; it goes on with the next one")
    return left


def _expect_smart(git: Any) -> None:
    from dulwich import errors as git_errors

    if git.dumb:
        raise git_errors.GitProtocolError("it does not speak git's smart protocol")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _line(text: str) -> str:
    return " ".join(inert_text.visible(text.encode("utf-8", "replace").decode()).split())[:_SHOWN]
