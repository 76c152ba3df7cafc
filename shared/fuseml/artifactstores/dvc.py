"""Data sets that DVC tracks in codesets: a version is the hash of an output, which `.dvc` and `dvc.lock` name in the history of the codeset.

The name of a data set is the codeset and the path of the output, `codeset/data/rows.csv`. Users add and push data with DVC; its remote keeps
the contents. A tag is a git tag, or a version or stage of GTO. Which versions are new is read from pushes (`PushedStore`), not from a list of
changes: only a codeset that has moved can have some.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fuseml.artifactstores import dvc_files, gto, pages, paths, verification
from fuseml.artifactstores.dvc_remote import Remote
from fuseml.artifactstores.port import (
    PAGE,
    About,
    Brought,
    Capability,
    Description,
    File,
    Location,
    Opened,
    Page,
    Place,
    Pushed,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address

if TYPE_CHECKING:
    from fuseml.githosts import Commit, GitHost

MOST_COMMITS = 10_000
"""The commits of one file of DVC among which a version is looked up."""

MOST_FILES = 2_000
"""The files of DVC that are read of one commit."""

_LARGEST = 10 << 20
_LARGEST_FOLDER = 256 << 20
_COMMITS = 200
_TAG = "refs/tags/"


class _TooManyCommitsError(errors.PermanentError):
    """More commits have changed a file of DVC than are looked through."""


class DvcStore(Undeclared):
    """See `ArtifactStore` and `PushedStore`. The codesets are on `host`, the contents on `remote`."""

    resource = "dvc"
    kinds = frozenset({"dataset"})
    capabilities: frozenset[Capability] = frozenset({"open"})

    def __init__(self, host: GitHost, remote: Remote, environment: Mapping[str, str] | None = None) -> None:
        self._host = host
        self._remote = remote
        self._environment = dict(environment or {})

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`. The metadata hold the first commit that has the data."""
        return _described(address, *self._found(address))

    def pushed(self, project: str, codeset: str, commit: str, before: str | None = None) -> Pushed:
        """See `PushedStore.pushed`. Data whose file has another name than `dvc add` gives it, or a broken file, is a problem."""
        changed = self._host.changed_paths(project, codeset, before, commit) if before else None
        if changed is None or dvc_files.CONFIG in changed:
            # The contents of all data may be on this remote now.
            changed = self._host.paths(project, codeset, commit)
        files = [path for path in changed if dvc_files.is_named(path)]
        if not files:
            return Pushed([])
        found = self._host.commit(project, codeset, commit)
        place, problems = self._remote_of(project, codeset, commit), []
        if len(files) > MOST_FILES:
            problems.append(f"{len(files)} files of DVC have changed, and only the first {MOST_FILES} are read")
        versions: dict[str, Brought] = {}
        for file in files[:MOST_FILES]:
            text = self._read(project, codeset, commit, file)
            try:
                outputs = dvc_files.outputs(file, text) if text is not None else []
            except errors.InvalidError as error:
                problems.append(error.message)
                continue
            for output in outputs:
                address = Address("dataset", project, f"{codeset}/{output.path}", output.hash)
                if file not in _places(address.name):
                    problems.append(f"{file} must be {output.path}.dvc, as `dvc add` names it, for {output.path} to be a data set")
                    continue
                try:
                    artifact.check_new(address)
                except errors.InvalidError as error:
                    problems.append(error.message)
                    continue
                versions.setdefault(output.path, _brought(address, place, output, found))
        return Pushed([versions[path] for path in sorted(versions)], problems)

    def earlier(self, project: str, codeset: str, commit: str, after: str = "") -> Iterator[tuple[str, Brought]]:
        """See `PushedStore.earlier`. Versions on another remote, and those behind the first 10,000 commits of a file, are left out."""
        number, _, path = after.partition(" ")
        for brought in self.pushed(project, codeset, commit).versions:
            name = brought.description.address.name
            _, own = _parts(name)
            if own >= path:
                with contextlib.suppress(_TooManyCommitsError):
                    yield from self._earlier(project, name, int(number) if own == path else 0)

    def _earlier(self, project: str, name: str, skip: int) -> Iterator[tuple[str, Brought]]:
        codeset, path = _parts(name)
        seen: set[str] = set()
        for number, commit in enumerate(self._commits(project, name), 1):
            output = self._output(project, name, commit.id) if number > skip else None
            if output is None or output.hash in seen:
                continue
            seen.add(output.hash)
            try:
                place = self._remote_of(project, codeset, commit.id)
            except errors.InvalidError:
                continue  # at that time the contents were elsewhere
            yield f"{number} {path}", _brought(Address("dataset", project, name, output.hash), place, output, commit)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`. Data that returns to a former state is that version."""
        check_kind(self, kind)
        _parts(name)
        try:
            found = list(self._history(project, name))
        except (errors.NotFoundError, errors.InvalidError):
            return Page([])
        return pages.page([Version(Address(kind, project, name, output.hash), commit.created) for output, commit in found], after, limit)

    def locate(self, address: Address) -> Location:
        """The object on the remote; that of a folder is a JSON list of its files."""
        output, commit = self._found(address)
        return Location(_uri(self._place(address, commit), output), _digest(output), output.size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`. Raises NotFoundError for data that was not pushed to the remote."""
        output, commit = self._found(address)
        place = self._place(address, commit)
        if not output.hash.endswith(".dir"):
            files = [File(posixpath.basename(output.path), output.size, f"md5:{output.hash}")]
        else:
            files = self._folder(address, place, output)

        def fetch(file: File) -> Iterator[bytes]:
            return self._remote.blocks(place, file.digest.removeprefix("md5:"), is_legacy=output.is_legacy)

        return Opened(address, files, fetch)

    def place(self, kind: str, project: str, name: str) -> Place:
        """The address for `git push` of the codeset; `dvc push` stores the contents."""
        check_kind(self, kind)
        codeset, _ = _parts(name)
        return Place(kind, project, name, self._host.clone_url(project, codeset), self._environment)

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        for label, commit in self._labels(project, name):
            if label == tag and (output := self._output(project, name, commit)):
                address = Address(kind, project, name, output.hash)
                # A tag may be on a commit that no branch of the codeset has.
                self._found(address)
                return address
        raise errors.NotFoundError(f"no tag {tag!r} leads to data {name!r} of project {project}")

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        self._found(address)
        labels = self._labels(address.project, address.name)
        by_commit = {commit: self._output(address.project, address.name, commit) for commit in {commit for _, commit in labels}}
        return sorted({label for label, commit in labels if (output := by_commit[commit]) and output.hash == address.version})

    def _labels(self, project: str, name: str) -> list[tuple[str, str]]:
        """Tag and commit: the git tags, and the versions and stages of the artifacts of GTO that stand for this data."""
        codeset, path = _parts(name)
        tags = {ref.removeprefix(_TAG): commit for ref, commit in self._host.heads(project, codeset).items() if ref.startswith(_TAG)}
        found = list(tags.items())
        named: dict[str, set[str]] = {}
        for commit in {*tags.values()}:
            declared = self._read(project, codeset, commit, "dvc.yaml")
            for named_by, place in dvc_files.artifacts("dvc.yaml", declared).items() if declared else ():
                if place == path:
                    named.setdefault(named_by, set()).add(commit)
        for named_by, commits in {**named, path: {*tags.values()}}.items():
            found += [(label, commit) for label, commit in gto.labels(tags, named_by).items() if commit in commits]
        return found

    def _found(self, address: Address) -> tuple[dvc_files.Output, Commit]:
        """The output of an address, and the first commit that has it. Raises NotFoundError."""
        check_kind(self, address.kind)
        for output, commit in self._history(address.project, address.name):
            if output.hash == address.version:
                return output, commit
        raise errors.NotFoundError(f"no commit of the codeset has {address}")

    def _history(self, project: str, name: str) -> Iterator[tuple[dvc_files.Output, Commit]]:
        """Each state of the data with its first commit, the oldest first."""
        seen: set[str] = set()
        for commit in self._commits(project, name):
            output = self._output(project, name, commit.id)
            if output is not None and output.hash not in seen:
                seen.add(output.hash)
                yield output, commit

    def _commits(self, project: str, name: str) -> Iterator[Commit]:
        """The commits that changed one of the files that may name the data, the oldest first."""
        changes = [self._changes(project, name, place) for place in _places(name)]
        return heapq.merge(*changes, key=lambda commit: commit.created)

    def _changes(self, project: str, name: str, place: str) -> Iterator[Commit]:
        """The commits that changed a file, the oldest first."""
        codeset, _ = _parts(name)
        for skip in range(0, MOST_COMMITS, _COMMITS):
            commits = self._host.commits(project, codeset, skip, _COMMITS, place)
            yield from commits
            if len(commits) < _COMMITS:
                return
        raise _TooManyCommitsError(
            f"more than {MOST_COMMITS} commits of {project}/{codeset} changed {place!r}; its data cannot be looked up"
        )

    def _output(self, project: str, name: str, commit: str) -> dvc_files.Output | None:
        """The data at a commit: of the `.dvc` file of its name, or of a `dvc.lock` in a folder above it. Broken files name none."""
        codeset, path = _parts(name)
        for place in _places(name):
            text = self._read(project, codeset, commit, place)
            try:
                found = dvc_files.outputs(place, text) if text else []
            except errors.InvalidError:
                continue  # a commit with a broken file has no version of the data
            for output in found:
                if output.path == path:
                    return output
        return None

    def _read(self, project: str, codeset: str, commit: str, path: str) -> bytes | None:
        try:
            return self._host.read(project, codeset, commit, path, _LARGEST)
        except errors.NotFoundError:
            return None

    def _place(self, address: Address, commit: Commit) -> str:
        codeset, _ = _parts(address.name)
        return self._remote_of(address.project, codeset, commit.id)

    def _remote_of(self, project: str, codeset: str, commit: str) -> str:
        """The place on the remote that a commit configures. Raises InvalidError for another remote."""
        text = self._read(project, codeset, commit, dvc_files.CONFIG) or b""
        return self._remote.place(dvc_files.remote(text.decode("utf-8", "replace")))

    def _folder(self, address: Address, place: str, output: dvc_files.Output) -> list[File]:
        blocks = self._remote.blocks(place, output.hash, is_legacy=output.is_legacy)
        digest = f"md5:{output.hash.removesuffix('.dir')}"
        text, size = [], 0
        for block in verification.verified(blocks, None, digest, f"the list of files of {address}"):
            size += len(block)
            if size > _LARGEST_FOLDER:
                raise errors.PermanentError(f"the list of files of {address} has more than {_LARGEST_FOLDER} bytes")
            text.append(block)
        try:
            files = [File(str(item["relpath"]), None, f"md5:{item['md5']}") for item in json.loads(b"".join(text))]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise errors.PermanentError(f"the list of files of {address} is not one of DVC ({type(error).__name__})") from None
        if any(not dvc_files.HASH.fullmatch(file.digest.removeprefix("md5:")) for file in files):
            raise errors.PermanentError(f"the list of files of {address} names an invalid hash")
        paths.check_paths(file.path for file in files)
        return files


def _described(address: Address, output: dvc_files.Output, commit: Commit) -> Description:
    files = {"files": str(output.files)} if output.files is not None else {}
    about = About(format="dvc", metadata={"path": output.path, "commit": commit.id, **files})
    return Description(address, _digest(output), commit.created, output.size, about)


def _brought(address: Address, place: str, output: dvc_files.Output, commit: Commit) -> Brought:
    return Brought(_described(address, output, commit), _uri(place, output), commit.id)


def _digest(output: dvc_files.Output) -> str:
    return f"md5:{output.hash.removesuffix('.dir')}"


def _uri(place: str, output: dvc_files.Output) -> str:
    kind = "" if output.is_legacy else "files/md5/"
    return f"{place}/{kind}{output.hash[:2]}/{output.hash[2:]}"


def _places(name: str) -> list[str]:
    """The files that may name the data: the `.dvc` file of its path, and the `dvc.lock` of each folder above it."""
    _, path = _parts(name)
    folders = [posixpath.dirname(path)]
    while folders[-1]:
        folders.append(posixpath.dirname(folders[-1]))
    return [f"{path}.dvc", *(posixpath.join(folder, "dvc.lock") for folder in folders)]


def _parts(name: str) -> tuple[str, str]:
    """Codeset and path of the name of a data set. Raises InvalidError."""
    codeset, _, path = name.partition("/")
    if not path or posixpath.normpath(path) != path or path.startswith(("/", "../")) or path in (".", ".."):
        raise errors.InvalidError(f"{name[:200]!r} names no data of DVC; a name is the codeset and a path, such as iris/data/rows.csv")
    return codeset, path
