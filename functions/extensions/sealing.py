"""Seals what requests bring. A value that is stored already keeps its seal, so that sending a secret again is no change."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.runtime import secrets


def sealed(keyring: secrets.Keyring, given: extension.Record, stored: extension.Record | None) -> extension.Record:
    """`given` with every credentials value in it sealed; `stored` is what it is to change, None when it is new."""
    values: dict[str, object] = {}
    if isinstance(given, extension.Credentials):
        known: Mapping[str, str] = stored.configuration if isinstance(stored, extension.Credentials) else {}
        values["configuration"] = {key: _seal(keyring, text, known.get(key)) for key, text in given.configuration.items()}
    for name in given.parts:
        siblings: Mapping[str, extension.Part] = {part.address: part for part in (getattr(stored, name) if stored else ())}
        values[name] = tuple(sealed(keyring, part, siblings.get(part.address)) for part in getattr(given, name))
    # What is empty stays untouched, so that a patch names afterwards exactly what it named before.
    return extension.replaced(given, {name: value for name, value in values.items() if value})


def _seal(keyring: secrets.Keyring, text: str, kept: str | None) -> str:
    if text == extension.HIDDEN:
        return text
    return kept if kept is not None and _holds(keyring, kept, text) else keyring.seal(text)


def _holds(keyring: secrets.Keyring, kept: str, text: str) -> bool:
    try:
        return kept != extension.HIDDEN and secrets.same(keyring.unseal(kept), text)
    except errors.PermanentError:
        # Sealed with a key that is lost: sending the secret again is how it is mended.
        return False
