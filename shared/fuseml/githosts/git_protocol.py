"""The two services of the git protocol, fetch and push, over one open repository.

The protocol itself is dulwich's. What it leaves open is decided here: a ref moves only from the value that the pusher saw, only
to a commit whose history is complete, and the branch that HEAD names cannot be deleted. What it does not know yet, pushes from
and pulls into shallow clones, is added. Callers hold the repository's turn while they receive. Imported on the first request
only, because dulwich is slow to import.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from dulwich import errors as git_errors
from dulwich import hooks, protocol, server
from dulwich.object_format import ObjectFormat
from dulwich.object_store import MissingObjectFinder, PackBasedObjectStore
from dulwich.objects import ObjectID
from dulwich.refs import Ref, RefsContainer
from dulwich.repo import Repo

from fuseml.domain import errors
from fuseml.githosts import history, payload

# The last two because dulwich checks much of what it reads with `assert` and `int()`.
_BROKEN = (git_errors.GitProtocolError, git_errors.HangupException, git_errors.UnexpectedCommandError, AssertionError, ValueError)

Announce = Callable[[Sequence[payload.Change]], None]
Record = Callable[[payload.Change], None]


def advertise(repository: Repo, service: str, output: IO[bytes]) -> None:
    """Write the answer to `info/refs?service=...`: the refs of the repository and what the service can do."""
    wire = protocol.ReceivableProtocol(lambda _: b"", output.write)
    wire.write_pkt_line(f"# service={service}\n".encode())
    wire.write_pkt_line(None)
    handler = server.ReceivePackHandler if service == "git-receive-pack" else _UploadPack
    handler(_Single(repository), [""], wire, stateless_rpc=True, advertise_refs=True).handle()


def upload_pack(repository: Repo, request: IO[bytes], output: IO[bytes]) -> None:
    """Serve one step of a clone or fetch. Raises InvalidError for a request that is not git's protocol."""
    with _broken_requests_refused():
        read, boundary = _without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        _UploadPack(_Single(_SeenRepository(repository, boundary)), [""], wire, stateless_rpc=True).handle()


def receive_pack(repository: Repo, request: IO[bytes], output: IO[bytes], record: Record, announce: Announce) -> None:
    """Receive one push; `announce` gets the refs that really moved, in the order of the push, after they moved.

    `record` gets each before it moves: what it keeps, no crash can take from a push that was answered.
    Raises InvalidError for a request that is not git's protocol. Refused refs are reported to the client, in `output`.
    """
    repository.hooks["update"] = _Guard(repository, record)
    repository.hooks["post-receive"] = _Announcement(repository, announce)
    with _broken_requests_refused():
        # The boundary of a pusher is of no interest: `_Guard` looks for holes itself.
        read, _ = _without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        server.ReceivePackHandler(_Single(repository), [""], wire, stateless_rpc=True).handle()


def _without_boundary(request: IO[bytes]) -> tuple[Callable[[int], bytes], set[ObjectID]]:
    """The request without the lines in which a shallow clone names the oldest commits that it has, and these commits.

    dulwich understands the lines only in front of a `deepen` line; there they stay.
    """
    lines = list(protocol.Protocol(request.read, lambda _: None).read_pkt_seq())
    deepens = any(line.startswith(b"deepen ") for line in lines)
    shallow = set() if deepens else {line for line in lines if line.startswith(b"shallow ")}
    kept = [protocol.pkt_line(line) for line in lines if line not in shallow]
    beginning = io.BytesIO(b"".join([*kept, protocol.pkt_line(None)]))
    return lambda size: beginning.read(size) or request.read(size), {ObjectID(line.removeprefix(b"shallow ").strip()) for line in shallow}


@contextlib.contextmanager
def _broken_requests_refused() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise errors.InvalidError(f"this is not a request of the git protocol: {error}") from error


class _Single(server.Backend):
    """The backend of one request: the repository was found, authorised and opened before."""

    def __init__(self, repository: server.BackendRepo) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> server.BackendRepo:
        return self._repository


class _UploadPack(server.UploadPackHandler):
    """Offers no filters: a partial clone asks for single files later, which dulwich does not serve. git then clones as a whole."""

    def capabilities(self) -> list[bytes]:
        return [capability for capability in super().capabilities() if capability != protocol.CAPABILITY_FILTER]

    def set_client_capabilities(self, caps: Iterable[bytes]) -> None:
        # git 2.39 claims the capability although nobody offered it.
        super().set_client_capabilities([capability for capability in caps if capability != protocol.CAPABILITY_FILTER])


class _SeenRepository(server.BackendRepo):
    """The repository as a shallow clone sees it: history ends at the clone's boundary, whatever the repository has behind it."""

    def __init__(self, repository: Repo, boundary: set[ObjectID]) -> None:
        self._repository = repository
        self._boundary = boundary

    @property
    def object_store(self) -> PackBasedObjectStore:
        return self._repository.object_store

    @property
    def refs(self) -> RefsContainer:
        return self._repository.refs

    @property
    def object_format(self) -> ObjectFormat:
        return self._repository.object_format

    def get_refs(self) -> dict[Ref, ObjectID]:
        return self._repository.get_refs()

    def get_peeled(self, ref: Ref) -> ObjectID | None:
        return self._repository.get_peeled(ref)

    def find_missing_objects(
        self,
        determine_wants: Callable[[Mapping[Ref, ObjectID], int | None], list[ObjectID]],
        graph_walker: Any,
        progress: Callable[[bytes], None] | None,
        *,
        get_tagged: Callable[[], dict[ObjectID, ObjectID]] | None = None,
        depth: int | None = None,
    ) -> MissingObjectFinder | None:
        def wants(heads: Mapping[Ref, ObjectID], depth: int | None) -> list[ObjectID]:
            wanted = determine_wants(heads, depth)
            graph_walker.shallow.update(self._boundary)
            return wanted

        return self._repository.find_missing_objects(wants, graph_walker, progress, get_tagged=get_tagged, depth=depth)


class _Guard(hooks.Hook):
    """git's `update` hook: raises HookError, whose text the client shows, for a ref that must not move."""

    def __init__(self, repository: Repo, record: Record) -> None:
        self._repository, self._record = repository, record

    def execute(self, *args: bytes) -> tuple[None, None]:
        ref, before, after = Ref(args[0]), args[1].decode(), args[2].decode()
        current = self._repository.refs.read_ref(ref)
        # dulwich reports success where the comparison fails, so it is made here, under the repository's turn.
        if before != (current.decode() if current else payload.ZERO):
            raise git_errors.HookError("somebody else moved it meanwhile: fetch, then push again")
        if after != payload.ZERO:
            self._check_history(ref, after)
        elif current is None:
            raise git_errors.HookError("there is no such ref to delete")
        elif ref.decode("utf-8", "replace") == history.head_ref(self._repository):
            raise git_errors.HookError("this is the default branch, it cannot be deleted")
        self._record(payload.Change(ref.decode("utf-8", "replace"), before, after))
        return None, None

    def _check_history(self, ref: Ref, after: str) -> None:
        tip = history.commit_of(self._repository, after)
        if tip is None or (ref.startswith(b"refs/heads/") and tip.id.decode() != after):
            raise git_errors.HookError("it does not point to a commit")
        try:
            new = history.new_commits(self._repository, tip, known=list(self._repository.get_refs().values()))
        except (KeyError, git_errors.MissingCommitError) as error:
            raise git_errors.HookError("its history is not complete: push from a whole clone (git fetch --unshallow)") from error
        # Only the root of each: walking all files would cost more than the push, and git itself always sends them.
        if any(commit.tree not in self._repository.object_store for commit in new):
            raise git_errors.HookError("files of its history are missing in the push")


class _Announcement(hooks.Hook):
    """git's `post-receive` hook."""

    def __init__(self, repository: Repo, announce: Announce) -> None:
        self._repository = repository
        self._announce = announce

    def execute(self, *args: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        changes = [payload.Change(ref.decode("utf-8", "replace"), before.decode(), after.decode()) for before, after, ref in args[0]]
        self._adopt_default_branch(changes)
        self._announce(changes)

    def _adopt_default_branch(self, changes: Sequence[payload.Change]) -> None:
        # As on Gitea: the first branch of an empty repository becomes its default, whatever it is called.
        pushed = [change.ref for change in changes if change.ref.startswith("refs/heads/") and not change.deleted]
        if pushed and history.head_ref(self._repository).encode() not in self._repository.get_refs():
            self._repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(pushed[0].encode()))
