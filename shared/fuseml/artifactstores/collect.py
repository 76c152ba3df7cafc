"""The program that makes artifacts of the files that a step has written, after the step has succeeded.

In a pod it is also the container that checks the outputs (`fuseml.engines.check`), whose arguments follow its own.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fuseml.artifactstores import folders, program
from fuseml.artifactstores.port import About, ArtifactStore, Place, Source
from fuseml.domain import errors
from fuseml.domain.plans import transfers
from fuseml.domain.workflows.artifact_rules import URI_SUFFIX
from fuseml.engines import check, step_files


@dataclass(frozen=True, slots=True)
class _Written:
    """An artifact whose contents its store has, but no version yet."""

    transfer: program.Transfer
    store: ArtifactStore
    place: Place
    digest: str
    files: int


def main(environment: Mapping[str, str]) -> None:
    """Store every artifact, and write the addresses as outputs. None becomes a version unless the contents of all are stored.

    A repetition after a kill stores only what is missing. Raises PermanentError for files that are missing or no regular ones,
    TemporaryError if a store stays away.
    """
    root, within = Path(environment[f"{transfers.COLLECT}_FOLDER"]), environment[f"{transfers.COLLECT}_CODESET_FOLDER"]
    project = environment[transfers.PROJECT]
    found = [
        (transfer, _sources(root, within, transfer.facts["PATH"], transfer.facts["OUTPUT"]))
        for transfer in program.read(environment, transfers.COLLECT)
    ]
    written = [program.patiently(functools.partial(_write, transfer, sources, project)) for transfer, sources in found]
    for item, (transfer, sources) in zip(written, found, strict=True):
        try:
            _commit(item, environment)
        except errors.TemporaryError as error:
            program.say(f"{error.message}; trying again")
            program.patiently(functools.partial(_again, transfer, sources, environment))


def _write(transfer: program.Transfer, sources: Sequence[Source], project: str) -> _Written:
    store = transfer.store()
    place = store.place(transfer.facts["KIND"], project, transfer.facts["NAME"])
    return _Written(transfer, store, place, store.write(place, sources), len(sources))


def _again(transfer: program.Transfer, sources: Sequence[Source], environment: Mapping[str, str]) -> None:
    # The store may have taken contents without a version for leftovers meanwhile.
    _commit(_write(transfer, sources, environment[transfers.PROJECT]), environment)


def _commit(item: _Written, environment: Mapping[str, str]) -> None:
    facts, results = item.transfer.facts, Path(environment["FUSEML_ENV_RESULTS"])
    about = About(format=facts["FORMAT"], producer=environment[f"{transfers.COLLECT}_PRODUCER"])
    address = item.store.commit(item.place, item.digest, about)
    location = item.store.locate(address)
    program.say(f"stored {facts['PATH']} as {address} ({program.summary(item.files, location.size)})")
    written = {facts["OUTPUT"]: str(address)}
    if facts["OUTPUT"] + URI_SUFFIX in environment[f"{transfers.COLLECT}_OUTPUTS"].split():
        written[facts["OUTPUT"] + URI_SUFFIX] = location.uri
    for name, text in written.items():
        with step_files.create(results / name, 0o644) as file:
            file.write(text.encode())


def _sources(root: Path, within: str, path: str, output: str) -> list[Source]:
    """The files below a path of the folder `within` the root. Raises InvalidError for a link on the way, which could lead out of it."""
    place = root
    for part in (part for part in f"{within}/{path}".split("/") if part not in ("", ".")):
        place /= part
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            raise errors.NotFoundError(
                f"the step has succeeded without writing {path!r}, of which the artifact {output!r} is made; write it below $PWD"
            ) from None
        if stat.S_ISLNK(mode):
            raise errors.InvalidError(
                f"{path!r}, of which the artifact {output!r} is made, leads through a link; write the files themselves there"
            )
    try:
        return folders.sources(place, lambda path: _opened(root, path))
    except errors.InvalidError as error:
        raise errors.InvalidError(f"no artifact {output!r} can be made of {path!r}: {error.message}") from error


def _opened(root: Path, path: Path) -> IO[bytes]:
    """A file to read. Raises InvalidError for one that another step of the run has replaced since it was found."""
    try:
        return step_files.open_to_read(root, *path.relative_to(root).parts)
    except OSError as error:
        raise errors.InvalidError(f"{path.relative_to(root)} was replaced while it was read: {error.strerror or error}") from error


def run(environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """The exit code of the program. `arguments` are those of the check that follows, if any."""
    problem = check.problem_of(arguments) if arguments else None
    code = program.run(lambda: main(environment), problem)
    return code or (check.main(arguments) if arguments else 0)


if __name__ == "__main__":
    sys.exit(run(os.environ, sys.argv[1:]))
