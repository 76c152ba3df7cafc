"""The files of a source at its newest commit: of a codeset by the git host, of a repository elsewhere over the network, both within bounds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import sqlmodel

from functions.sources.deps import Deps
from fuseml.domain import errors
from fuseml.domain.sources import files
from fuseml.githosts import snapshots
from fuseml.githosts.limits import MIB, size
from fuseml.store import codesets, sources
from fuseml.usecases import repositories

USE = repositories.Use("fuseml-source", "registry-source", "source", "source", "fuseml source remove")
"""The records of repositories elsewhere: each has the name of its source."""

_MOST_FILES = 1000
_FILE = MIB
_TOTAL = 8 * MIB


@dataclass(frozen=True, slots=True)
class Look:
    """The items of a source at `commit`, which is empty before the first one. `generation` is that of the source when the look began.

    With a `problem` the repository could not be read, and `declared` is empty; `temporary`: it may be readable soon.
    """

    name: str
    generation: int
    commit: str
    declared: files.Declared
    problem: str = ""
    temporary: bool = False


NOTHING = files.Declared([], [])


def look(deps: Deps, row: sources.Source, *, seconds: float = 20) -> Look:
    """Read the source now. A repository that cannot be read is a result."""
    try:
        commit, found = _of_codeset(deps, row, seconds) if row.codeset else _of_repository(deps, row, seconds)
    except errors.FusemlError as error:
        return Look(row.name, row.generation, "", NOTHING, error.message, isinstance(error, errors.TemporaryError))
    return Look(row.name, row.generation, commit, files.read(row.path, found) if commit else NOTHING)


def head(deps: Deps, row: sources.Source, *, seconds: float = 20) -> str:
    """The newest commit; empty for a codeset without one.

    Raises NotFoundError for a codeset, record or branch that does not exist, TemporaryError while the repository cannot be read, and
    UnresolvedError where no account of it applies.
    """
    if not row.codeset:
        repository, account = _registered(deps, row)
        return snapshots.head(repository.url, account, repository.branch, seconds=seconds)
    with deps.store.read() as session:
        codeset = codesets.codeset(session, row.project, row.codeset)
        ref = ref_of(session, row)
    if codeset.created != row.registered:
        raise errors.NotFoundError(
            f"the codeset {row.project}/{row.codeset} was deleted and registered again; remove the source, and add it again"
        )
    found = deps.git.heads(row.project, row.codeset)
    if ref not in found and row.branch and found:
        raise errors.NotFoundError(f"{row.project}/{row.codeset} does not have the branch {row.branch!r}")
    return found.get(ref, "")


def ref_of(session: sqlmodel.Session, row: sources.Source) -> str:
    """The branch of a source in a codeset, in full."""
    return f"refs/heads/{row.branch}" if row.branch else codesets.default_ref(session, row.project, row.codeset)


def _of_repository(deps: Deps, row: sources.Source, seconds: float) -> tuple[str, Mapping[str, bytes]]:
    repository, account = _registered(deps, row)
    snapshot = snapshots.read(repository.url, account, lambda path: files.is_wanted(row.path, path), repository.branch, seconds=seconds)
    return snapshot.commit, snapshot.files


def _of_codeset(deps: Deps, row: sources.Source, seconds: float) -> tuple[str, Mapping[str, bytes]]:
    deadline = time.monotonic() + seconds
    commit = head(deps, row)
    if not commit:
        return "", {}
    wanted = [path for path in deps.git.paths(row.project, row.codeset, commit) if files.is_wanted(row.path, path)]
    if len(wanted) > _MOST_FILES:
        raise errors.TooLargeError(f"the source has {len(wanted)} files, more than {_MOST_FILES}")
    found: dict[str, bytes] = {}
    total = 0
    for path in wanted:
        # A git host may take long for each of many files.
        if time.monotonic() > deadline:
            raise errors.TemporaryError(f"the {len(wanted)} files of the source could not be read within {seconds:g} seconds")
        try:
            found[path] = deps.git.read(row.project, row.codeset, commit, path, _FILE)
        except errors.NotFoundError:
            continue  # a link or a submodule
        total += len(found[path])
        if total > _TOTAL:
            raise errors.TooLargeError(f"the files of the source take more than {size(_TOTAL)}; divide it into several sources")
    return commit, found


def _registered(deps: Deps, row: sources.Source) -> tuple[repositories.Repository, snapshots.Account]:
    with deps.store.read() as session:
        found = repositories.registered(session, deps.keyring, row.name, USE, project="", zone=deps.zone)
    if found is None:
        raise errors.NotFoundError(
            f"the record {row.name!r} with the address of the source is missing; remove the source, and add it again"
        )
    repository, account = found
    return repository, snapshots.Account(account.username, account.password)
