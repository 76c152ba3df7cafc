"""Authentication of callers by bearer tokens. Tokens are compared by hash; none is kept or shown."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors

Role = Literal["admin", "workload"]
_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}):)?(?P<role>admin|workload):(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` appears in the records of decisions. `admin` may do everything; `workload` is a step of a run and may register applications."""

    name: str
    role: Role


class Tokens:
    """The hashes of the accepted tokens. With `anonymous` a caller without a token is admin; only for loopback."""

    def __init__(self, hashes: Mapping[str, Caller], *, anonymous: bool = False) -> None:
        self._hashes = dict(hashes)
        self._anonymous = anonymous

    @staticmethod
    def parse(text: str) -> Tokens:
        """From `[name:]role:sha256` entries, comma separated; the role is the name where none is given. Raises PermanentError."""
        hashes: dict[str, Caller] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise errors.PermanentError(
                    "FUSEML_TOKEN_HASHES must be `role:sha256` or `name:role:sha256` entries, comma separated, with role admin or workload"
                )
            role: Role = "admin" if match["role"] == "admin" else "workload"
            hashes[match["digest"].lower()] = Caller(match["name"] or role, role)
        return Tokens(hashes)

    def caller(self, authorization: str | None) -> Caller:
        """The caller with this Authorization header. Raises UnauthenticatedError."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and token:
            digest = digest_of(token.strip())
            for accepted, caller in self._hashes.items():
                if hmac.compare_digest(accepted, digest):
                    return caller
            raise errors.UnauthenticatedError("the token is not valid")
        if self._anonymous:
            return Caller("anonymous", "admin")
        raise errors.UnauthenticatedError("a token is needed: send `Authorization: Bearer <token>`")


def digest_of(token: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
