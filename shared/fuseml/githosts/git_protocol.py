"""The two services of the git protocol, fetch and push, over one open repository.

dulwich implements the protocol. This module adds rules: a ref moves only from the value that the client saw, and only to a commit with a
complete history; the branch of HEAD cannot be deleted; objects are not inflated beyond a bound. It also adds support for shallow clones.
Callers of `receive_pack` hold the lock of the repository. Imported at the first request only, because dulwich is slow to import.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dulwich import errors as git_errors
from dulwich import protocol, server
from dulwich.object_format import ObjectFormat
from dulwich.object_store import MissingObjectFinder, PackBasedObjectStore
from dulwich.objects import ObjectID, RawObjectID, sha_to_hex
from dulwich.pack import UnresolvedDeltas
from dulwich.refs import Ref, RefsContainer, check_ref_format
from dulwich.repo import Repo

from fuseml.domain import errors
from fuseml.githosts import history, large_files, lfs, packs, payload, ref_moves
from fuseml.githosts.limits import Limits

# The last two, because dulwich validates input with `assert` and `int()`.
_BROKEN = (git_errors.GitProtocolError, git_errors.HangupException, git_errors.UnexpectedCommandError, AssertionError, ValueError)

# Lines of a request before its pack: refs to move, or commits that a client has.
_MOST_LINES = 200_000
# Of a larger commit a push does not read the tree for the sake of a hint.
_MOST_FILES_OF_HINT = 20_000
_HINT = (
    b"hint: .gitattributes leaves files to Git LFS, and no content of such a file was pushed here. A run that checks one out fails.\n"
    b"hint: Install git-lfs, then push the contents with: git lfs push --all REMOTE\n"
)

Deliver = Callable[[Sequence[ref_moves.Move]], None]
Move = Callable[[Sequence[payload.Change], bool], Sequence[ref_moves.Move]]
"""Moves refs, all or none where the flag is set, and records the pushes in the same step."""


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


def receive_pack(repository: Repo, request: IO[bytes], output: IO[bytes], move: Move, deliver: Deliver, limits: Limits) -> None:
    """Receive one push. `deliver` receives the moved refs, in the order of the push, after they have moved.

    Raises InvalidError for a request that violates git's protocol. `output` reports rejected refs and packs to the client.
    """
    with _invalid_requests_rejected():
        # The shallow boundary of the client is ignored: the history is checked here.
        read, _ = _without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        _ReceivePack(repository, wire, request, move, deliver, limits).handle()


def _without_boundary(request: IO[bytes]) -> tuple[Callable[[int], bytes], set[ObjectID]]:
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


class _Refused(Exception):
    """A ref that must not move, with the reason for the client."""


class _ReceivePack(server.ReceivePackHandler):
    """The receiving side of a push over one open repository. dulwich parses the commands and reports the outcomes."""

    def __init__(
        self, repository: Repo, wire: protocol.ReceivableProtocol, request: IO[bytes], move: Move, deliver: Deliver, limits: Limits
    ) -> None:
        super().__init__(_SingleRepository(repository), [""], wire, stateless_rpc=True)
        self._repository, self._request, self._move, self._deliver, self._limits = repository, request, move, deliver, limits
        self._moved: list[ref_moves.Move] = []

    def _apply_pack(self, refs: list[tuple[ObjectID, ObjectID, Ref]]) -> Iterator[tuple[bytes, bytes]]:
        """The outcome of the pack, and that of each ref, `ok` or the reason, in the order of the commands."""
        changes = [payload.Change(ref.decode("utf-8", "surrogateescape"), before.decode(), after.decode()) for before, after, ref in refs]
        if not all(change.deleted for change in changes):
            problem = self._unpack()
            if problem:
                self._say(f"error: {problem}\n".encode())
                yield b"unpack", _one_line(problem)
                yield from ((ref, b"unpacker error") for _, _, ref in refs)
                return
        yield b"unpack", b"ok"
        refused = self._refusals(changes)
        atomic = self.has_capability(protocol.CAPABILITY_ATOMIC)
        outcomes = {change: refused.get(change, "atomic push failed") for change in changes}
        if not (atomic and refused):
            for move in self._move([change for change in changes if change not in refused], atomic):
                outcomes[move.change] = move.error
                if not move.error:
                    self._moved.append(move)
        yield from ((Ref(change.name), _one_line(outcomes[change]) if outcomes[change] else b"ok") for change in changes)

    def _unpack(self) -> str:
        """Store the objects of the push; returns the reason for which they cannot be stored."""
        store = self._repository.object_store
        try:
            packs.check(self._request, self._limits, lambda raw: sha_to_hex(RawObjectID(raw)) in store)
            store.add_thin_pack(self.proto.read, self.proto.recv)  # type: ignore[attr-defined]
        except (errors.InvalidError, errors.TooLargeError) as error:
            return error.message
        except OSError as error:
            return f"the objects cannot be stored: {error.strerror or error}"
        except git_errors.ObjectFormatException as error:
            return f"a commit has an author or committer line without a valid date, or an object is malformed ({error}); rewrite it"
        except (
            git_errors.ChecksumMismatch,
            git_errors.ApplyDeltaError,
            UnresolvedDeltas,
            AssertionError,
            KeyError,
            ValueError,
            zlib.error,
        ) as error:
            return f"the pack is damaged ({error or type(error).__name__}); push again"
        return ""

    def _refusals(self, changes: Sequence[payload.Change]) -> dict[payload.Change, str]:
        refused = {}
        commands = Counter(change.ref for change in changes)
        for change in changes:
            try:
                if commands[change.ref] > 1:
                    raise _Refused("the push moves it more than once")
                self._check(change)
            except _Refused as error:
                refused[change] = str(error)
        return refused

    def _check(self, change: payload.Change) -> None:
        ref = Ref(change.name)
        if not ref.startswith(b"refs/") or not check_ref_format(ref):
            raise _Refused("it is no valid name of a ref")
        current = self._repository.refs.read_ref(ref)
        if change.before != (current.decode() if current else payload.ZERO):
            raise _Refused("another push moved it meanwhile: fetch, then push again")
        if not change.deleted:
            self._check_history(change)
        elif current is None:
            raise _Refused("it does not exist, so it cannot be deleted")
        elif ref == history.head_name(self._repository):
            raise _Refused("it is the default branch and cannot be deleted")

    def _check_history(self, change: payload.Change) -> None:
        try:
            tip = history.commit_of(self._repository, change.after)
            if tip is None or (change.ref.startswith("refs/heads/") and tip.id.decode() != change.after):
                raise _Refused("it does not point to a commit")
            # HEAD may name a commit that does not exist.
            known = [commit for ref, commit in self._repository.get_refs().items() if ref.startswith(b"refs/")]
            new = history.new_commits(self._repository, tip, known)
            # Only root trees: walking all files would cost more than the push, and git always sends them.
            if any(commit.tree not in self._repository.object_store for commit in new):
                raise _Refused("the push lacks files of its history; push again")
        except (KeyError, git_errors.MissingCommitError) as error:
            raise _Refused("its history is incomplete: push from a full clone (git fetch --unshallow)") from error
        except (git_errors.ObjectFormatException, TypeError) as error:
            # dulwich compares the dates of commits; one without a date is a TypeError.
            raise _Refused(f"a commit of its history has an author or committer line without a valid date ({error}); rewrite it") from error

    def _on_post_receive(self, client_refs: list[tuple[ObjectID, ObjectID, Ref]]) -> None:
        self._adopt_default_branch()
        self._deliver(self._moved)
        branches = [move.change for move in self._moved if move.change.ref.startswith("refs/heads/") and not move.change.deleted]
        objects = lfs.Objects(Path(self._repository.path))
        if branches and not objects.any() and self._uses_lfs(branches[0].after):
            self._say(_HINT)

    def _uses_lfs(self, object_id: str) -> bool:
        commit, store = history.commit_of(self._repository, object_id), self._repository.object_store
        try:
            return commit is not None and large_files.uses_lfs(store, history.entries(store, commit.tree, _MOST_FILES_OF_HINT))
        except (errors.TooLargeError, KeyError, git_errors.ObjectFormatException):
            # The refs have moved: a broken tree fails its checkout, with the reason.
            return False

    def _adopt_default_branch(self) -> None:
        # As on Gitea, the first branch of an empty repository becomes its default, whatever its name.
        pushed = [move.change for move in self._moved if move.change.ref.startswith("refs/heads/") and not move.change.deleted]
        if pushed and history.head_name(self._repository) not in self._repository.get_refs():
            self._repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(pushed[0].name))

    def _say(self, text: bytes) -> None:
        if self.has_capability(protocol.CAPABILITY_SIDE_BAND_64K):
            self.proto.write_sideband(protocol.SIDE_BAND_CHANNEL_PROGRESS, text)


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode("utf-8", "replace")
