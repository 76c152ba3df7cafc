"""The program of the container that checks the outputs of a step in its pod, after the step's own containers.

Only this container has all secrets of the run. Tekton reports the files that this program writes and no others, so an output that the rules
of `results` refuse never leaves the pod.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fuseml.domain import errors, outputs
from fuseml.engines import masking, results

MODULE = "fuseml.engines.check"
_LIMIT = "--limit"


def arguments(
    written: Path | str,
    secrets: Path | str,
    problem: Path | str,
    accepted: Sequence[tuple[str, str]],
    types: Mapping[str, str] = MappingProxyType({}),
    limit: int = outputs.LIMIT,
) -> list[str]:
    """The arguments of the program.

    `written` is the folder of the outputs, `secrets` that of the run's secrets, empty without secrets, `problem` the file for the reason of
    a refusal. `accepted` names the outputs, each with the file for its text; `types` are the types of those that have one. All outputs take at
    most `limit` bytes.
    """
    narrower = [f"{_LIMIT}={limit}"] if limit != outputs.LIMIT else []
    named = ((f"{name}:{types[name]}" if name in types else name, file) for name, file in accepted)
    return [str(written), str(secrets), str(problem), *narrower, *(f"{name}={file}" for name, file in named)]


def problem_of(given: Sequence[str]) -> Path:
    """The file for the reason of a refusal, among the arguments of the program."""
    return Path(given[2])


def main(given: Sequence[str]) -> int:
    """Check the outputs and write the accepted ones: all, or none and the problem. Returns the exit code."""
    written, secrets, problem, *pairs = given
    accepted, types = dict[str, str](), dict[str, str]()
    for pair in pairs:
        # No name of an output has one of these signs.
        typed, _, file = pair.partition("=")
        name, _, type_ = typed.partition(":")
        accepted[name] = file
        types |= {name: type_} if type_ else {}
    limit = int(accepted.pop(_LIMIT, outputs.LIMIT))
    try:
        texts = results.read(Path(written), (), list(accepted), lambda: _mask(secrets), types, limit)
    except errors.PermanentError as error:
        sys.stderr.write(f"{error.message}\n")
        Path(problem).write_text(error.message)
        return 1
    for name, text in texts.items():
        Path(accepted[name]).write_bytes(text.encode())
    return 0


def _mask(folder: str) -> masking.Mask:
    # Kubernetes keeps the files in a hidden folder beside the links to them.
    return masking.Mask(path.read_bytes().decode() for path in Path(folder).iterdir() if path.is_file()) if folder else masking.Mask(())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
