"""Snapshots of repositories elsewhere: some files of one commit, read over HTTP(S) into memory.

The repository is untrusted. Its answers are bounded in bytes and time, and the pack is inspected before an object of it is inflated. Redirects
are not followed, so credentials reach no other host. Links, submodules and contents of Git LFS are left out; nothing is checked out or run.
"""

from __future__ import annotations

import contextlib
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from fuseml.domain import errors, urls
from fuseml.githosts import bounded, history, packs
from fuseml.githosts.limits import MIB, Limits, size

if TYPE_CHECKING:
    from dulwich.client import Urllib3HttpGitClient
    from dulwich.objects import ObjectID
    from dulwich.refs import Ref
    from dulwich.repo import Repo

LIMITS = Limits(object=MIB, pack=32 * MIB, memory=32 * MIB, objects=20_000, files=10_000, checkout=8 * MIB)
"""Of the whole commit, and of the files that are wanted (`checkout`)."""

_SECONDS = 20.0
_ADVERTISEMENT = 4 * MIB
_HEADS = b"refs/heads/"
_IN_MEMORY = MIB


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and a password, or a token as the password; empty for a public repository."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Account({self.username!r})"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit, and the contents of the wanted files by path."""

    commit: str
    files: Mapping[str, bytes]


def read(
    url: str,
    account: Account,
    wanted: Callable[[str], bool],
    branch: str = "",
    *,
    limits: Limits = LIMITS,
    seconds: float = _SECONDS,
) -> Snapshot:
    """The newest commit of the branch, of the default one without a name, with the regular files whose paths are wanted.

    Raises InvalidError for an address that is not of HTTP(S), TemporaryError while the repository cannot be read, NotFoundError for a branch
    that does not exist, TooLargeError beyond the limits.
    """
    from dulwich.repo import Repo

    _check(url)
    with tempfile.TemporaryDirectory(prefix="fuseml-snapshot-") as scratch, Repo.init_bare(scratch) as repository:
        commit = _fetch(repository, url, account, branch, limits, seconds)
        found = history.commit_of(repository, commit)
        if found is None:
            raise errors.TemporaryError(f"{urls.shown(url)} did not send the commit {commit}")
        return Snapshot(found.id.decode(), dict(_files(repository, found.tree, wanted, limits)))


def head(url: str, account: Account, branch: str = "", *, seconds: float = _SECONDS) -> str:
    """The newest commit of the branch, of the default one without a name; no file is read. Raises as `read` does."""
    from dulwich import errors as git_errors

    _check(url)
    with translated(urls.shown(url)), _client(url, account, seconds, _ADVERTISEMENT) as git:
        answer = git.get_refs(b"")
        if git.dumb:
            raise git_errors.GitProtocolError("it does not speak git's smart protocol")
        return _choose({name: commit for name, commit in answer.refs.items() if commit}, branch, urls.shown(url)).decode()


def _check(url: str) -> None:
    if not url.startswith(("http://", "https://")) or "@" in url or any(character.isspace() for character in url):
        raise errors.InvalidError("the address of a repository begins with http:// or https://, and holds neither an account nor a space")


def _client(url: str, account: Account, seconds: float, size: int) -> AbstractContextManager[Urllib3HttpGitClient]:
    # Any user name goes with a token.
    return bounded.client(url, account.username or "token", account.password, seconds=seconds, size=size)


def _files(repository: Repo, tree: ObjectID, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, bytes]]:
    from dulwich import errors as git_errors

    total = 0
    try:
        for path, mode, object_id in history.entries(repository.object_store, tree, limits.files):
            name = path.decode("utf-8", "replace")
            if not stat.S_ISREG(mode) or not wanted(name):
                continue
            content = repository.object_store[object_id].as_raw_string()
            total += len(content)
            if total > limits.checkout:
                raise errors.TooLargeError(f"the files take more than {size(limits.checkout)}")
            yield name, content
    except (KeyError, git_errors.ObjectFormatException, zlib.error) as error:
        raise errors.InvalidError(f"the files of the commit are incomplete or unreadable: {error}") from error


def _fetch(repository: Repo, url: str, account: Account, branch: str, limits: Limits, seconds: float) -> str:
    """Fetch the newest commit into the repository; its id."""
    from dulwich import errors as git_errors

    shown = urls.shown(url)
    chosen: list[ObjectID] = []
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as pack:
        with translated(shown), _client(url, account, seconds, limits.pack + _ADVERTISEMENT) as git:

            def determine_wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
                if git.dumb:
                    # Its client inflates objects before anything has judged their sizes.
                    raise git_errors.GitProtocolError("it does not speak git's smart protocol")
                chosen[:] = [_choose(refs, branch, shown)]
                return chosen

            git.fetch_pack(b"", determine_wants, repository.get_graph_walker(), pack.write, progress=lambda _: None, depth=1)
        pack.seek(0)
        _store(repository, pack, limits, shown)
    return chosen[0].decode()


@contextlib.contextmanager
def translated(shown: str) -> Iterator[None]:
    """Raises TemporaryError for what a client of git raises about a repository that it cannot read."""
    import urllib3.exceptions
    from dulwich import errors as git_errors
    from dulwich.client import HTTPUnauthorized

    try:
        yield
    except HTTPUnauthorized:
        raise errors.TemporaryError(
            f"{shown} refuses the credentials; give it an account that may read it: in the address of a new one, "
            "by `fuseml extension credentials` for a registered one"
        ) from None
    except git_errors.NotGitRepository:
        raise errors.TemporaryError(f"there is no git repository at {shown}, or not for everyone") from None
    except (
        git_errors.GitProtocolError,
        git_errors.HangupException,
        urllib3.exceptions.HTTPError,
        OSError,
        ValueError,
        AssertionError,
        KeyError,
    ) as error:
        raise errors.TemporaryError(f"{shown} cannot be read: {_reason(error)}") from error


def _choose(refs: Mapping[Ref, ObjectID], branch: str, shown: str) -> ObjectID:
    """The commit of the branch, or of HEAD."""
    from dulwich.refs import Ref

    commit = refs.get(Ref(_HEADS + branch.encode() if branch else b"HEAD"))
    if commit is None:
        what = f"the branch {branch!r}" if branch else "a default branch with a commit"
        raise errors.NotFoundError(f"{shown} does not have {what}")
    return commit


def _store(repository: Repo, pack: IO[bytes], limits: Limits, shown: str) -> None:
    from dulwich import errors as git_errors
    from dulwich.pack import UnresolvedDeltas

    try:
        # No object is known here, so a delta has its base in the pack.
        packs.check(pack, limits, lambda _: False)
        file, commit, abort = repository.object_store.add_pack()
        try:
            while block := pack.read(1 << 16):
                file.write(block)
        except BaseException:
            abort()
            raise
        commit()
    except errors.TooLargeError as error:
        raise errors.TooLargeError(
            f"{shown} is too large: its newest commit takes more than {size(limits.pack)} or {limits.objects} objects"
        ) from error
    except errors.InvalidError as error:
        raise errors.TemporaryError(f"{shown} sent a damaged pack: {error.message}") from error
    except (
        git_errors.ChecksumMismatch,
        git_errors.ApplyDeltaError,
        git_errors.ObjectFormatException,
        UnresolvedDeltas,
        AssertionError,
        KeyError,
        ValueError,
        zlib.error,
    ) as error:
        raise errors.TemporaryError(f"{shown} sent a damaged pack: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
