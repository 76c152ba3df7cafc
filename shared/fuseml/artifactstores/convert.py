"""The program that copies an artifact to another store, from store to store: a step of its own, which a run adds.

The contents are verified while they are read, and no file of them is stored on the way. A copy that the store has already is not made again.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuseml.artifactstores import fetch, manifest, program
from fuseml.artifactstores.port import About, ArtifactStore, File, Opened, Source
from fuseml.domain import artifact, errors
from fuseml.domain.plans import conversions, transfers
from fuseml.engines import step_files


def main(environment: Mapping[str, str]) -> None:
    """Copy the artifact, and write the address and the place of the copy as outputs.

    Raises PermanentError for contents that do not exist or are damaged, TemporaryError if a store stays away.
    """
    [source], [target] = program.read(environment, transfers.FETCH), program.read(environment, transfers.COLLECT)
    address = fetch.address_of(source.facts["ADDRESS"], environment[transfers.PROJECT])
    name = target.facts["NAME"] or conversions.copy_name(target.facts["STORE"], address.name)
    wanted = artifact.Address(address.kind, address.project, name, address.version)
    copy, uri = program.patiently(lambda: _copy(source, target, address, wanted, environment[f"{transfers.COLLECT}_PRODUCER"]))
    results = Path(environment["FUSEML_ENV_RESULTS"])
    for output, text in ((conversions.COPY, str(copy)), (conversions.COPY_URI, uri)):
        with step_files.create(results / output, 0o644) as file:
            file.write(text.encode())


def _copy(
    source: program.Transfer, target: program.Transfer, address: artifact.Address, wanted: artifact.Address, producer: str
) -> tuple[artifact.Address, str]:
    """The address and the place of the copy."""
    holder, store = source.store(), target.store()
    opened = holder.open(address)
    sizes = [file.size for file in opened.files]
    listed = program.summary(len(sizes), None if None in sizes else sum(size or 0 for size in sizes))
    found = _existing(store, opened.files, wanted)
    if found is not None:
        program.say(f"{target.facts['STORE']} has a copy of {address} ({listed})")
        return found, store.locate(found).uri
    program.say(f"copying {address} to {target.facts['STORE']} ({listed})")
    about = holder.describe(address).about
    place = store.place(wanted.kind, wanted.project, wanted.name)
    digest = store.write(place, [_source(opened, file) for file in opened.files])
    facts = About(about.format, about.framework, about.framework_version, producer)
    copy = store.commit(place, digest, facts)
    return copy, store.locate(copy).uri


def _existing(store: ArtifactStore, files: Sequence[File], wanted: artifact.Address) -> artifact.Address | None:
    """The copy that the store has, where the digests of the files lead to it."""
    if not all(file.digest.startswith("sha256:") and file.size is not None for file in files):
        return None
    address = artifact.Address(wanted.kind, wanted.project, wanted.name, manifest.digest(manifest.encode(files)))
    with contextlib.suppress(errors.NotFoundError, errors.InvalidError):
        # Of another kind of store, this is no version.
        return store.describe(address).address
    return None


def _source(opened: Opened, file: File) -> Source:
    return Source(file.path, lambda: opened.read(file), file.executable)


if __name__ == "__main__":
    sys.exit(program.run(lambda: main(os.environ)))
