"""The two services of the git protocol, fetch and push, over one open repository.

dulwich implements the protocol. This module adds rules: a ref moves only from the value that the client saw, and only to a commit with a
complete history; the branch of HEAD cannot be deleted. It also adds support for shallow clones. Callers of `receive_pack` hold the lock
of the repository. Imported at the first request only, because dulwich is slow to import.
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

# The last two, because dulwich validates input with `assert` and `int()`.
_BROKEN = (git_errors.GitProtocolError, git_errors.HangupException, git_errors.UnexpectedCommandError, AssertionError, ValueError)

Deliver = Callable[[Sequence[payload.Change]], None]
Record = Callable[[payload.Change], None]


def advertise(repository: Repo, service: str, output: IO[bytes]) -> None:
    """Write the response to `info/refs?service=...`: the refs of the repository and the capabilities of the service."""
    wire = protocol.ReceivableProtocol(lambda _: b"", output.write)
    wire.write_pkt_line(f"# service={service}\n".encode())
    wire.write_pkt_line(None)
    handler = server.ReceivePackHandler if service == "git-receive-pack" else _UploadPack
    handler(_SingleRepository(repository), [""], wire, stateless_rpc=True, advertise_refs=True).handle()


def upload_pack(repository: Repo, request: IO[bytes], output: IO[bytes]) -> None:
    """Serve one request of a clone or fetch. Raises InvalidError for a request that violates git's protocol."""
    with _invalid_requests_rejected():
        read, boundary = _without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        _UploadPack(_SingleRepository(_ShallowRepository(repository, boundary)), [""], wire, stateless_rpc=True).handle()


def receive_pack(repository: Repo, request: IO[bytes], output: IO[bytes], record: Record, deliver: Deliver) -> None:
    """Receive one push. `deliver` receives the moved refs, in the order of the push, after they have moved.

    `record` receives each ref before it moves, so that a crash cannot lose a push with a response. Raises InvalidError for a request that
    violates git's protocol. `output` reports rejected refs to the client.
    """
    repository.hooks["update"] = _UpdateHook(repository, record)
    repository.hooks["post-receive"] = _PostReceiveHook(repository, deliver)
    with _invalid_requests_rejected():
        # The shallow boundary of the client is ignored: `_UpdateHook` checks the history itself.
        read, _ = _without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        server.ReceivePackHandler(_SingleRepository(repository), [""], wire, stateless_rpc=True).handle()


def _without_boundary(request: IO[bytes]) -> tuple[Callable[[int], bytes], set[ObjectID]]:
    """The request without the `shallow` lines, which list the oldest commits of a shallow clone, and these commits.

    dulwich accepts the lines only before a `deepen` line; such a request keeps them.
    """
    lines = list(protocol.Protocol(request.read, lambda _: None).read_pkt_seq())
    deepens = any(line.startswith(b"deepen ") for line in lines)
    shallow = set() if deepens else {line for line in lines if line.startswith(b"shallow ")}
    kept = [protocol.pkt_line(line) for line in lines if line not in shallow]
    beginning = io.BytesIO(b"".join([*kept, protocol.pkt_line(None)]))
    return lambda size: beginning.read(size) or request.read(size), {ObjectID(line.removeprefix(b"shallow ").strip()) for line in shallow}


@contextlib.contextmanager
def _invalid_requests_rejected() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise errors.InvalidError(f"the request violates the git protocol: {error}") from error


class _SingleRepository(server.Backend):
    """The backend of one request, whose repository is already authorised and open."""

    def __init__(self, repository: server.BackendRepo) -> None:
        self._repository = repository

    def open_repository(self, path: str) -> server.BackendRepo:
        return self._repository


class _UploadPack(server.UploadPackHandler):
    """Fetch without filters: a partial clone would request single files later, which dulwich does not serve. git then clones completely."""

    def capabilities(self) -> list[bytes]:
        return [capability for capability in super().capabilities() if capability != protocol.CAPABILITY_FILTER]

    def set_client_capabilities(self, caps: Iterable[bytes]) -> None:
        # git 2.39 sends the capability even if the server does not offer it.
        super().set_client_capabilities([capability for capability in caps if capability != protocol.CAPABILITY_FILTER])


class _ShallowRepository(server.BackendRepo):
    """The repository as seen by a shallow clone: its history ends at the boundary of the clone."""

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
            object_ids = determine_wants(heads, depth)
            graph_walker.shallow.update(self._boundary)
            return object_ids

        return self._repository.find_missing_objects(wants, graph_walker, progress, get_tagged=get_tagged, depth=depth)


class _UpdateHook(hooks.Hook):
    """git's `update` hook: raises HookError, whose text the client displays, for a ref that must not move."""

    def __init__(self, repository: Repo, record: Record) -> None:
        self._repository, self._record = repository, record

    def execute(self, *args: bytes) -> tuple[None, None]:
        ref, before, after = Ref(args[0]), args[1].decode(), args[2].decode()
        current = self._repository.refs.read_ref(ref)
        # dulwich reports success when the comparison fails, so it is repeated here, under the lock of the repository.
        if before != (current.decode() if current else payload.ZERO):
            raise git_errors.HookError("another push moved it meanwhile: fetch, then push again")
        if after != payload.ZERO:
            self._check_history(ref, after)
        elif current is None:
            raise git_errors.HookError("it does not exist, so it cannot be deleted")
        elif ref.decode("utf-8", "replace") == history.head_ref(self._repository):
            raise git_errors.HookError("it is the default branch and cannot be deleted")
        self._record(payload.Change(ref.decode("utf-8", "replace"), before, after))
        return None, None

    def _check_history(self, ref: Ref, after: str) -> None:
        tip = history.commit_of(self._repository, after)
        if tip is None or (ref.startswith(b"refs/heads/") and tip.id.decode() != after):
            raise git_errors.HookError("it does not point to a commit")
        try:
            new = history.new_commits(self._repository, tip, known=list(self._repository.get_refs().values()))
        except (KeyError, git_errors.MissingCommitError) as error:
            raise git_errors.HookError("its history is incomplete: push from a full clone (git fetch --unshallow)") from error
        # Only root trees: walking all files would cost more than the push, and git always sends them.
        if any(commit.tree not in self._repository.object_store for commit in new):
            raise git_errors.HookError("the push lacks files of its history; push again")


class _PostReceiveHook(hooks.Hook):
    """git's `post-receive` hook."""

    def __init__(self, repository: Repo, deliver: Deliver) -> None:
        self._repository = repository
        self._deliver = deliver

    def execute(self, *args: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        changes = [payload.Change(ref.decode("utf-8", "replace"), before.decode(), after.decode()) for before, after, ref in args[0]]
        self._adopt_default_branch(changes)
        self._deliver(changes)

    def _adopt_default_branch(self, changes: Sequence[payload.Change]) -> None:
        # As on Gitea, the first branch of an empty repository becomes its default, whatever its name.
        pushed = [change.ref for change in changes if change.ref.startswith("refs/heads/") and not change.deleted]
        if pushed and history.head_ref(self._repository).encode() not in self._repository.get_refs():
            self._repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(pushed[0].encode()))
