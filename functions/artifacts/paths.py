"""The path of one artifact: the four parts of its address."""

from __future__ import annotations

import urllib.parse

from fuseml.domain import artifact, errors

ONE = "/artifacts/<kind>/<project>/<name>/<version>"


def address_of(*parts: str) -> artifact.Address:
    """The address that the parts of a path name. Raises InvalidError."""
    address = artifact.Address(*(urllib.parse.unquote(part) for part in parts))
    if artifact.Address.parse(str(address)) != address:
        raise errors.InvalidError(f"{str(address)!r} is not the address that the parts of the path name: only a name may hold a slash")
    return address
