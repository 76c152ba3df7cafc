"""What differs between two versions of an extension record, field by field, as people write the fields.

Credentials values are opaque here: sealed, or `<hidden>`. That one differs is told; what it is never is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from fuseml.domain.documents import document
from fuseml.domain.registry import extension, registry

Kind = Literal["appears", "vanishes", "changes"]


class Change(document.Model):
    """Something that appears, vanishes or changes; `before` and `after` are text, of a secret `<hidden>`, of a missing thing empty."""

    effect: Kind
    secret: bool = False
    before: str = ""
    after: str = ""


class FieldChange(Change):
    """A field of a record, or a whole part: `version`, `services[s3].endpoints[http://minio:9000]`."""

    path: str


def compare(before: extension.Extension | None, after: extension.Extension | None) -> list[FieldChange]:
    """Every difference; None is a record that does not exist. What appears is told field by field, a part that vanishes in one line.

    Of a record that vanishes as a whole there is nothing more to tell.
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
                told = _text(old) if before else "", _text(new)
                kind: Kind = "appears" if not told[0] else "changes" if told[1] else "vanishes"
                yield FieldChange(path=f"{prefix}{name}", effect=kind, before=told[0], after=told[1])


def _parts(before: registry.Node | None, after: registry.Node, name: str, prefix: str) -> Iterator[FieldChange]:
    known = {part.address: part for part in (getattr(before, name) if before else ())}
    for part in getattr(after, name):
        at = f"{prefix}{name}[{part.address}]"
        if part.address not in known:
            yield FieldChange(path=at, effect="appears")
        yield from _fields(known.pop(part.address, None), part, f"{at}.")
    for address in known:
        yield FieldChange(path=f"{prefix}{name}[{address}]", effect="vanishes")


def _configuration(before: Mapping[str, str], after: Mapping[str, str], prefix: str, *, secret: bool) -> Iterator[FieldChange]:
    for key in [*after, *(key for key in before if key not in after)]:
        if before.get(key) != after.get(key):
            kind: Kind = "appears" if key not in before else "changes" if key in after else "vanishes"
            shown = [extension.HIDDEN if secret and key in side else side.get(key, "") for side in (before, after)]
            yield FieldChange(path=prefix + key, effect=kind, secret=secret, before=shown[0], after=shown[1])


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ", ".join(map(str, value))
    return str(value)
