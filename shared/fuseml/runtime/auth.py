"""Authentication of callers by bearer tokens. Tokens of people are compared by hash; none is kept or shown. Tokens of steps are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors

Role = Literal["admin", "step"]
_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}):)?(?P<role>admin|workload):(?P<digest>[0-9a-fA-F]{64})")
_LOG = logging.getLogger("fuseml.auth")

STEP_PREFIX = "fuseml-step."
"""The beginning of every token of a step (`usecases.step_identity`)."""

ANY_SCOPE = "*"
"""The scope of a route that every token of a step may use. No token has it."""

STEPS_REFUSED = "a step's token may not do this"


@dataclass(frozen=True, slots=True)
class StepCaller:
    """The step of a run that a token was made for. `scopes` are what it is good for (`domain.plans.TOKEN_SCOPES`)."""

    project: str
    codeset: str | None
    workflow: str
    run: str
    step: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` appears in the records of decisions. `admin` may do everything; `step` only what its route allows to steps. `anonymous`
    has no token."""

    name: str
    role: Role
    step: StepCaller | None = None
    anonymous: bool = False


Steps = Callable[[str], StepCaller]
"""Token -> the step that it belongs to. Raises UnauthenticatedError for a token that is forged or whose run has ended."""


class Tokens:
    """The hashes of the accepted tokens. With `anonymous` a caller without a token is admin; only for loopback. `steps` verifies the tokens of
    steps; without it they are refused."""

    def __init__(self, hashes: Mapping[str, Caller], *, anonymous: bool = False, steps: Steps | None = None) -> None:
        self._hashes = dict(hashes)
        self._anonymous = anonymous
        self._steps = steps

    def accepting(self, steps: Steps) -> Tokens:
        """The same tokens, and those of steps."""
        return Tokens(self._hashes, anonymous=self._anonymous, steps=steps)

    @staticmethod
    def parse(text: str) -> Tokens:
        """From `[name:]role:sha256` entries, comma separated; the role is the name where none is given. Raises PermanentError."""
        hashes: dict[str, Caller] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise errors.PermanentError("FUSEML_TOKEN_HASHES must be `admin:sha256` or `name:admin:sha256` entries, comma separated")
            if match["role"] == "workload":
                # Installations of former releases have one: a permanent token that all steps shared.
                _LOG.warning("the entry with the role workload in FUSEML_TOKEN_HASHES has no effect any more; remove it")
                continue
            hashes[match["digest"].lower()] = Caller(match["name"] or "admin", "admin")
        return Tokens(hashes)

    def caller(self, authorization: str | None) -> Caller:
        """The caller with this Authorization header: a bearer token, or a token as the password of any user.

        Raises UnauthenticatedError; ForbiddenError for a step's token where none is accepted.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "basic":
            token = _password(token)
        if scheme.lower() in ("bearer", "basic") and token:
            return self.bearer(token.strip())
        if self._anonymous:
            return Caller("anonymous", "admin", anonymous=True)
        raise errors.UnauthenticatedError("a token is needed: send `Authorization: Bearer <token>`")

    def bearer(self, token: str) -> Caller:
        """The caller with this token. Raises as `caller` does."""
        if token.startswith(STEP_PREFIX):
            if self._steps is None:
                raise errors.ForbiddenError(STEPS_REFUSED)
            step = self._steps(token)
            return Caller(f"step {step.step} of {step.run}", "step", step)
        digest = digest_of(token)
        for accepted, caller in self._hashes.items():
            if hmac.compare_digest(accepted, digest):
                return caller
        raise errors.UnauthenticatedError("the token is not valid")

    def knows(self, digest: str) -> bool:
        """Whether the token with this digest is accepted now."""
        return digest in self._hashes


def _password(encoded: str) -> str:
    """The password of basic authentication; empty where it is malformed."""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def digest_of(token: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
