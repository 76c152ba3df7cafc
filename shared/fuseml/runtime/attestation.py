"""Signed statements: DSSE envelopes by an Ed25519 key."""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import TYPE_CHECKING

import pydantic

from fuseml.domain import errors
from fuseml.runtime.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519


class Signature(pydantic.BaseModel):
    """`keyid` is the SHA-256 of the public key (DER, SubjectPublicKeyInfo), `sig` base64."""

    keyid: str
    sig: str


class Envelope(pydantic.BaseModel):
    """A DSSE envelope: `payload` is the statement in base64, of the type `payloadType`."""

    payload: str
    payloadType: str  # noqa: N815 - DSSE's spelling
    signatures: list[Signature]


class Attestor:
    """Signs with one private key, which appears in no representation of it."""

    def __init__(self, private_key: ed25519.Ed25519PrivateKey) -> None:
        self._key = private_key

    @staticmethod
    def of_pem(pem: str) -> Attestor:
        """The attestor with a private key in PEM. Raises PermanentError for anything but an Ed25519 key without a password."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        try:
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            # The cause is left out: its text may quote the key.
            raise errors.PermanentError(
                "FUSEML_PROVENANCE_KEY is no Ed25519 private key in PEM without a password; `openssl genpkey -algorithm ed25519` makes one"
            ) from None
        return Attestor(key)

    @staticmethod
    def derived(seed: str) -> Attestor:
        """The attestor whose key follows from a secret text: equal texts give equal keys."""
        from cryptography.hazmat.primitives.asymmetric import ed25519

        return Attestor(ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest()))

    @functools.cached_property
    def public_key(self) -> str:
        """The public key in PEM."""
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def envelope(self, payload: bytes, type: str) -> Envelope:
        """The payload in a signed envelope; equal payloads give equal envelopes."""
        signature = self._key.sign(_authenticated(payload, type))
        return Envelope(payload=_base64(payload), payloadType=type, signatures=[Signature(keyid=self._key_id, sig=_base64(signature))])

    @functools.cached_property
    def _key_id(self) -> str:
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self._key.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def connect(settings: Settings) -> Attestor | None:
    """The attestor of the settings; None without a key. Raises PermanentError for another text than a key."""
    return Attestor.of_pem(settings.provenance_key) if settings.provenance_key else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _authenticated(payload: bytes, type: str) -> bytes:
    """The bytes to sign: DSSE's encoding of both, which no other pair has."""
    kind = type.encode()
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
