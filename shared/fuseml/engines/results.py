"""The outputs that a step has written, and the rules that decide whether they may be published: in events, in the API, to other steps.

The module starts fast, because a program in the pod of each step loads it (`check`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fuseml.domain import errors, outputs, scalars
from fuseml.engines import masking, step_files


def read(
    root: Path,
    folders: Sequence[str],
    names: Sequence[str],
    known_secrets: Callable[[], masking.Mask],
    types: Mapping[str, str] = MappingProxyType({}),
    limit: int = outputs.LIMIT,
) -> dict[str, str]:
    """The outputs of a step by name. Their files are in the path `folders` below `root`. `known_secrets` is the mask of the run's secrets,
    `types` are the types of outputs that have one.

    Raises PermanentError for an output that is missing, not text, of another type, of another kind than a file, or that contains a secret, and
    if they take more than `limit` bytes together.
    """
    written = {name: _read_output(root, folders, name) for name in names}
    if outputs.size(written) > limit:
        raise errors.PermanentError(outputs.too_large(limit))
    if written:
        mask = known_secrets()
        for name in (name for name, content in written.items() if mask.found_in(content)):
            raise errors.PermanentError(outputs.contains_secret(name))
    texts = {name: _text(name, content) for name, content in written.items()}
    for name, type_ in types.items():
        if fault := scalars.fault(type_, texts.get(name, "")):
            raise errors.PermanentError(f"its output {name!r}: {fault}")
    return texts


def _read_output(root: Path, folders: Sequence[str], name: str) -> bytes:
    """The content of an output, cut off right after the limit."""
    remedy = f"write the file $FUSEML_ENV_RESULTS/{name}"
    try:
        return step_files.read(root, *folders, name, limit=outputs.LIMIT + 1)
    except FileNotFoundError:
        raise errors.PermanentError(f"it exited with code 0 but did not write its output {name!r}: {remedy}") from None
    except OSError as error:
        raise errors.PermanentError(f"its output {name!r} cannot be read: {error.strerror or error}; {remedy}") from error


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise errors.PermanentError(f"its output {name!r} is not UTF-8 text; write text") from None
    if "\0" in text:
        raise errors.PermanentError(f"its output {name!r} contains a NUL character; write text")
    return text.removesuffix("\n").removesuffix("\r")
