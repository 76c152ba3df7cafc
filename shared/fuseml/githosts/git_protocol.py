"""The two services of the git protocol, fetch and push, over one open repository.

dulwich implements the protocol. This module adds rules: a ref moves only from the value that the client saw, and only to a commit with a
complete history; the branch of HEAD cannot be deleted; objects are not inflated beyond a bound. Callers of `receive_pack` hold the lock of the
repository. The fetch is in `fetches`. Imported at the first request only, because dulwich is slow to import.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from dulwich import errors as git_errors
from dulwich import protocol, server
from dulwich.objects import ObjectID, RawObjectID, sha_to_hex
from dulwich.pack import UnresolvedDeltas
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from fuseml.domain import errors
from fuseml.githosts import fetches, git_requests, history, large_files, lfs, packs, payload, ref_moves
from fuseml.githosts.limits import Limits

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
    if service == "git-receive-pack":
        backend = git_requests.SingleRepository(repository)
        server.ReceivePackHandler(backend, [""], wire, stateless_rpc=True, advertise_refs=True).handle()
    else:
        fetches.UploadPack(repository, set(), wire, advertise_refs=True).handle()


def receive_pack(repository: Repo, request: IO[bytes], output: IO[bytes], move: Move, deliver: Deliver, limits: Limits) -> None:
    """Receive one push. `deliver` receives the moved refs, in the order of the push, after they have moved.

    Raises InvalidError for a request that violates git's protocol. `output` reports rejected refs and packs to the client.
    """
    with git_requests.invalid_rejected():
        # The shallow boundary of the client is ignored: the history is checked here.
        read, _ = git_requests.without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        _ReceivePack(repository, wire, request, move, deliver, limits).handle()


class _Refused(Exception):
    """A ref that must not move, with the reason for the client."""


class _ReceivePack(server.ReceivePackHandler):
    """The receiving side of a push over one open repository. dulwich parses the commands and reports the outcomes."""

    def __init__(
        self, repository: Repo, wire: protocol.ReceivableProtocol, request: IO[bytes], move: Move, deliver: Deliver, limits: Limits
    ) -> None:
        super().__init__(git_requests.SingleRepository(repository), [""], wire, stateless_rpc=True)
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
