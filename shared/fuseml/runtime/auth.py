"""Who calls. Bearer tokens are compared by hash; nothing here keeps or shows a token."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors

Role = Literal["admin", "workload"]


@dataclass(frozen=True, slots=True)
class Caller:
    """`admin` may do everything; `workload` is a step of a run and may register applications."""

    name: str
    role: Role


class Tokens:
    """Knows the hashes of the accepted tokens. `anonymous` lets everybody in as admin; only ever for loopback."""

    def __init__(self, hashes: Mapping[str, Caller], *, anonymous: bool = False) -> None:
        self._hashes = dict(hashes)
        self._anonymous = anonymous

    @staticmethod
    def parse(text: str) -> Tokens:
        """From `role:sha256,role:sha256`. Raises PermanentError for anything else."""
        hashes: dict[str, Caller] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            role, _, digest = entry.partition(":")
            if role not in ("admin", "workload") or not re.fullmatch("[0-9a-fA-F]{64}", digest):
                raise errors.PermanentError(
                    "FUSEML_TOKEN_HASHES must be `role:sha256` entries, comma separated, with role admin or workload"
                )
            hashes[digest.lower()] = Caller(role, "admin" if role == "admin" else "workload")
        return Tokens(hashes)

    def caller(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header. Raises UnauthenticatedError."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and token:
            digest = digest_of(token.strip())
            for known, caller in self._hashes.items():
                if hmac.compare_digest(known, digest):
                    return caller
            raise errors.UnauthenticatedError("the token is not valid")
        if self._anonymous:
            return Caller("anonymous", "admin")
        raise errors.UnauthenticatedError("a token is needed: send `Authorization: Bearer <token>`")


def digest_of(token: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
