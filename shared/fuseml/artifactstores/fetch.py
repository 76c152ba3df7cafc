"""The program that puts artifacts where a step reads them, before the step starts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from fuseml.artifactstores import folders, program
from fuseml.domain import artifact, errors
from fuseml.domain.plans import transfers
from fuseml.domain.workflows import artifact_rules


def main(environment: Mapping[str, str]) -> None:
    """Put every artifact. Raises PermanentError for one that does not exist or is damaged, TemporaryError if its store stays away."""
    for transfer in program.read(environment, transfers.FETCH):
        address = address_of(transfer.facts["ADDRESS"], environment[transfers.PROJECT])
        program.patiently(lambda transfer=transfer, address=address: _put(transfer, address))  # type: ignore[misc]


def _put(transfer: program.Transfer, address: artifact.Address) -> None:
    target = Path(transfer.facts["TARGET"])
    _empty(target)
    opened = transfer.store().open(address)
    sizes = [file.size for file in opened.files]
    known = None if None in sizes else sum(size or 0 for size in sizes)
    program.say(f"fetching {address} ({program.summary(len(sizes), known)})")
    folders.fill(opened, target)


def _empty(folder: Path) -> None:
    """Make the folder, without what a former attempt has left. It may be a mount, which stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def address_of(text: str, project: str) -> artifact.Address:
    """The address in a plan, or in the output of a step.

    Raises InvalidError for one that no step reads, ForbiddenError for an artifact of another project.
    """
    address = artifact.model_of(project, text) or artifact.Address.parse(text)
    artifact_rules.check_address(str(artifact.check_new(address)))
    if address.project != project:
        raise errors.ForbiddenError(f"a step of the project {project!r} reads the artifacts of its own project only")
    return address


if __name__ == "__main__":
    sys.exit(program.run(lambda: main(os.environ)))
