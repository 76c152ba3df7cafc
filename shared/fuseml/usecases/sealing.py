"""Sealing of the credentials in requests. A value that equals the stored one keeps its seal, so that sending it again is no change."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.runtime import secrets


def seal(keyring: secrets.Keyring, record: extension.Record, stored: extension.Record | None) -> extension.Record:
    """The record with all credentials values sealed; `stored` is the record that it changes, None for a new one."""
    values: dict[str, object] = {}
    if isinstance(record, extension.Credentials):
        present: Mapping[str, str] = stored.configuration if isinstance(stored, extension.Credentials) else {}
        values["configuration"] = {key: _seal_value(keyring, text, present.get(key)) for key, text in record.configuration.items()}
    for name in record.parts:
        siblings: Mapping[str, extension.Part] = {part.address: part for part in (getattr(stored, name) if stored else ())}
        values[name] = tuple(seal(keyring, part, siblings.get(part.address)) for part in getattr(record, name))
    # Empty fields stay untouched, so that a patch keeps its set of named fields.
    return extension.replaced(record, {name: value for name, value in values.items() if value})


def _seal_value(keyring: secrets.Keyring, text: str, stored: str | None) -> str:
    if text == extension.HIDDEN:
        return text
    return stored if stored is not None and _equals(keyring, stored, text) else keyring.seal(text)


def _equals(keyring: secrets.Keyring, sealed: str, text: str) -> bool:
    try:
        return sealed != extension.HIDDEN and secrets.same(keyring.unseal(sealed), text)
    except errors.PermanentError:
        # The key of the seal is lost; sending the secret again replaces the value.
        return False
