"""Private keys in PEM, for the signature of provenance."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | None = None) -> str:
    """The key, or a fresh Ed25519 key, without a password."""
    private = key or ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
