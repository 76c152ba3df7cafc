"""Files of a commit in the format of git's configuration: `.gitmodules` and `.lfsconfig`. They are untrusted input.

A file names no other file: `include.path` would let a push read the files of the server.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fuseml.domain import errors
from fuseml.githosts import limits

if TYPE_CHECKING:
    from dulwich.config import ConfigFile

LARGEST = 256 << 10
"""Bytes of one file: a thousand submodules, and less than a second to read."""


def read(name: str, content: bytes) -> ConfigFile:
    """The file `name` of a commit, without the files that it includes.

    Raises TooLargeError beyond `LARGEST` bytes, InvalidError for another format. Messages do not repeat its text, which may hold a password.
    """
    from dulwich import config

    if len(content) > LARGEST:
        raise errors.TooLargeError(f"the file {name} of the commit has {limits.size(len(content))}, more than {limits.size(LARGEST)}")
    try:
        return config.ConfigFile.from_file(io.BytesIO(content), expand_includes=False)
    except ValueError:
        raise errors.InvalidError(
            f"the file {name} of the commit is not in the format of git's configuration; `git config --file {name} --list` names the line"
        ) from None
