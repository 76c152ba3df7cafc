"""The requests of git clients: their lines before a pack, and their refusal where they violate the protocol.

Imported at the first request only, because dulwich is slow to import.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator
from typing import IO

from dulwich import errors as git_errors
from dulwich import protocol, server
from dulwich.objects import ObjectID

from fuseml.domain import errors

# The last two, because dulwich validates input with `assert` and `int()`.
_BROKEN = (git_errors.GitProtocolError, git_errors.HangupException, git_errors.UnexpectedCommandError, AssertionError, ValueError)

# Lines of a request before its pack: refs to move, or commits that a client has.
_MOST_LINES = 200_000


def without_boundary(request: IO[bytes]) -> tuple[Callable[[int], bytes], set[ObjectID]]:
    """The request without the `shallow` lines, which list the oldest commits of a shallow clone, and these commits.

    dulwich accepts the lines only before a `deepen` line; such a request keeps them.
    """
    lines = list(itertools.islice(protocol.Protocol(request.read, lambda _: None).read_pkt_seq(), _MOST_LINES + 1))
    if len(lines) > _MOST_LINES:
        raise errors.TooLargeError(f"the request names more than {_MOST_LINES} refs or commits; push or fetch in parts")
    deepens = any(line.startswith(b"deepen ") for line in lines)
    shallow = set() if deepens else {line for line in lines if line.startswith(b"shallow ")}
    kept = [protocol.pkt_line(line) for line in lines if line not in shallow]
    beginning = io.BytesIO(b"".join([*kept, protocol.pkt_line(None)]))
    return lambda size: beginning.read(size) or request.read(size), {ObjectID(line.removeprefix(b"shallow ").strip()) for line in shallow}


@contextlib.contextmanager
def invalid_rejected() -> Iterator[None]:
    """Raises InvalidError for a request that violates git's protocol."""
    try:
        yield
    except _BROKEN as error:
        raise errors.InvalidError(f"the request violates the git protocol: {error}") from error


class SingleRepository(server.Backend):
    """The backend of one request, whose repository is already authorised and open."""

    def __init__(self, repository: server.BackendRepo) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> server.BackendRepo:
        """The repository, whatever the path."""
        return self._repository
