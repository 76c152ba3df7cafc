"""The difference between two states of an extension record, field by field.

Credentials values are opaque (sealed, or `<hidden>`): a difference reports their change, never the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from fuseml.domain.documents import document
from fuseml.domain.registry import extension, registry

Kind = Literal["appears", "vanishes", "changes"]


class Change(document.Model):
    """A value that appears, vanishes or changes. `before` and `after` are text: `<hidden>` for secrets, empty for a missing value."""

    effect: Kind
    secret: bool = False
    before: str = ""
    after: str = ""


class FieldChange(Change):
    """The change of a field, or of a whole part: `version`, `services[s3].endpoints[http://minio:9000]`."""

    path: str


def compare(before: extension.Extension | None, after: extension.Extension | None) -> list[FieldChange]:
    """All changes; None is a record that does not exist.

    A part that appears is listed with its fields, a part that vanishes as a whole. The removal of the record itself has no field changes.
    """
    return list(_fields(before, after, "")) if after else []


def _fields(before: registry.Node | None, after: registry.Node, prefix: str) -> Iterator[FieldChange]:
    for name, info in type(after).model_fields.items():
        if name in after.parts:
            yield from _parts(before, after, name, prefix)
        elif name not in registry.READ_ONLY | {after.key}:
            old, new = getattr(before, name) if before else info.default, getattr(after, name)
            if isinstance(new, Mapping):
                yield from _configuration(old, new, f"{prefix}{name}.", secret=isinstance(after, extension.Credentials))
            elif old != new:
                texts = _text(old) if before else "", _text(new)
                kind: Kind = "appears" if not texts[0] else "changes" if texts[1] else "vanishes"
                yield FieldChange(path=f"{prefix}{name}", effect=kind, before=texts[0], after=texts[1])


def _parts(before: registry.Node | None, after: registry.Node, name: str, prefix: str) -> Iterator[FieldChange]:
    removed = {part.address: part for part in (getattr(before, name) if before else ())}
    for part in getattr(after, name):
        path = f"{prefix}{name}[{part.address}]"
        if part.address not in removed:
            yield FieldChange(path=path, effect="appears")
        yield from _fields(removed.pop(part.address, None), part, f"{path}.")
    for address in removed:
        yield FieldChange(path=f"{prefix}{name}[{address}]", effect="vanishes")


def _configuration(before: Mapping[str, str], after: Mapping[str, str], prefix: str, *, secret: bool) -> Iterator[FieldChange]:
    for key in [*after, *(key for key in before if key not in after)]:
        if before.get(key) != after.get(key):
            kind: Kind = "appears" if key not in before else "changes" if key in after else "vanishes"
            texts = [extension.HIDDEN if secret and key in side else side.get(key, "") for side in (before, after)]
            yield FieldChange(path=prefix + key, effect=kind, secret=secret, before=texts[0], after=texts[1])


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ", ".join(map(str, value))
    return str(value)
