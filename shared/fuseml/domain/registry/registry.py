"""The changes of an extension record, as pure functions; time and randomness are arguments.

A record has parts: services, and under each its endpoints and credentials. The path of a part reads like its URL:
`("services", "s3", "endpoints", "http://minio:9000")`. PUT means the same at every level. `now` is RFC 3339; messages follow the original's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from fuseml.domain import errors
from fuseml.domain.registry import credential_files, extension

# The alphabet of Kubernetes' generated names: no vowels, so no words; no characters that are easily confused.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 8
READ_ONLY = frozenset({"extension_id", "service_id", "status", "revision"})
"""Fields that the registry sets; their values in a request are ignored."""

_LEVELS = 2
"""The number of levels of parts."""

_NOUNS = {"services": "a service", "endpoints": "an endpoint", "credentials": "a set of credentials"}

Path = Sequence[str]
Node = extension.Extension | extension.Part
NewId = Callable[[str], str]
"""Generates a unique id with the given prefix, which may be empty."""


def id_source(source: random.Random) -> NewId:
    """A generator of ids in the original's form (infra/platform-facts.md 6.2): `<prefix>-` and eight characters.

    Illegal characters of a prefix become `-`.
    """

    def new_id(prefix: str) -> str:
        legal = re.sub(r"[^A-Za-z0-9_-]+", "-", prefix).strip("-")[: 99 - _SUFFIX]
        return "-".join(filter(None, (legal, "".join(source.choices(_ALPHABET, k=_SUFFIX)))))

    return new_id


def create(draft: extension.Extension, now: str, new_id: NewId) -> extension.Extension:
    """The first revision of a record, with generated ids where none are given. Raises ConflictError for repeated ids, InvalidError for files
    that the credentials cannot have.
    """
    _refuse_repeated(draft)
    _refuse_files(draft)
    return _built(draft, (), now, new_id).model_copy(update={"revision": 1})


def update(
    stored: extension.Extension, patch: extension.Extension, now: str, new_id: NewId, *, replace_lists: bool = False
) -> extension.Extension:
    """Replace the fields of the patch and keep the others; null or an empty list removes parts, listed parts are updated or added.

    With `replace_lists` a list of parts removes the parts that it lacks. `configuration`, `files`, `projects` and `users` are replaced as a
    whole. A patch without a change returns `stored` itself, at its revision. Raises ConflictError for repeated ids, InvalidError for a
    rename, for too many parts and for files that the credentials cannot have.
    """
    return _update(stored, patch, now, new_id, merged_levels=0 if replace_lists else _LEVELS)


def _update(stored: extension.Extension, patch: extension.Extension, now: str, new_id: NewId, *, merged_levels: int) -> extension.Extension:
    """As `update`, but the uppermost `merged_levels` lists of parts keep the parts that the patch does not list."""
    _refuse_rename(stored, patch)
    _refuse_repeated(patch)
    changed = _merged(stored, patch, (), now, new_id, merged_levels)
    _refuse_files(changed)
    return stored if changed is stored else changed.model_copy(update={"revision": stored.revision + 1})


def replace(stored: extension.Extension, desired: extension.Extension, now: str, new_id: NewId) -> extension.Extension:
    """Make the stored record equal to `desired`: absent parts are removed, absent fields cleared.

    `<hidden>` keeps the stored value. Equal records return `stored` itself, at its revision. Raises as `update` and
    `refuse_anonymous` do.
    """
    refuse_anonymous(desired)
    remaining = stored
    for path in removed(stored, desired):
        remaining = remove(remaining, path, now)
    changed = update(remaining, extension.Extension.model_validate(desired.model_dump()), now, new_id)
    return stored if changed is stored else changed.model_copy(update={"revision": stored.revision + 1})


def refuse_anonymous(desired: extension.Extension) -> None:
    """Raises InvalidError for parts without an id: they match no stored part, and each repetition would add new ones."""
    problems = list(_anonymous(desired, ""))
    if problems:
        raise errors.InvalidError(f"the record is not valid: {problems[0]}", problems)


def _anonymous(node: Node, prefix: str) -> Iterator[errors.Problem]:
    for name in node.parts:
        for index, part in enumerate(_parts(node, name)):
            path = f"{prefix}{name}[{index}]"
            if not part.address:
                yield errors.Problem(f"{path}.{part.key}", "is required in a record that replaces the stored one")
            yield from _anonymous(part, f"{path}.")


def removed(before: Node, after: Node, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The paths of the topmost parts that only `before` has."""
    for name in before.parts:
        kept = {part.address: part for part in _parts(after, name)}
        for part in _parts(before, name):
            path = (*above, name, part.address)
            if part.address in kept:
                yield from removed(part, kept[part.address], path)
            else:
                yield path


def find(record: extension.Extension, path: Path) -> extension.Part:
    """The part at `path`. Raises NotFoundError that names the missing part of the path."""
    *above, collection, address = path
    owner = _owner(record, above)
    for part in _parts(owner, collection):
        if part.address == address:
            return part
    noun = f"{_NOUNS[collection]} with the given {_key_name(collection)}"
    raise errors.NotFoundError(f"{noun} could not be found {_under(record.id, *above[1:])}: {address}")


def add(
    record: extension.Extension, collection: Path, draft: extension.Part, now: str, new_id: NewId
) -> tuple[extension.Extension, extension.Part]:
    """The record with the new part, and the part. `collection` is the path of the list: `("services", "s3", "endpoints")`.

    Raises ConflictError when the id or URL is taken, NotFoundError when the owner is missing, InvalidError for too many parts.
    """
    *above, name = collection
    taken = {part.address for part in _parts(_owner(record, above), name)}
    if draft.address in taken:
        raise errors.ConflictError(_exists(name, draft.address, record.id, *above[1:]))
    changed = _update(record, naming(collection, draft), now, new_id, merged_levels=len(collection) // 2 + 1)
    return changed, next(part for part in _parts(_owner(changed, above), name) if part.address not in taken)


def change(
    record: extension.Extension, path: Path, patch: extension.Part, now: str, new_id: NewId, *, replace_lists: bool = False
) -> tuple[extension.Extension, extension.Part]:
    """The record with the part at `path` updated (see `update`), and the part. The patch may repeat the id or URL but not change it.

    Raises NotFoundError, InvalidError, ConflictError.
    """
    stored = find(record, path)
    _refuse_rename(stored, patch)
    named = naming(path[:-1], patch.model_copy(update={stored.key: stored.address}))
    changed = _update(record, named, now, new_id, merged_levels=len(path) // 2 if replace_lists else _LEVELS)
    return changed, find(changed, path)


def remove(record: extension.Extension, path: Path, now: str) -> extension.Extension:
    """The record without the part at `path`. Raises NotFoundError."""
    find(record, path)
    return _with(record, path, None, now).model_copy(update={"revision": record.revision + 1})


def observe(record: extension.Extension, path: Path, *, healthy: bool, now: str, cause: str = "") -> extension.Extension:
    """Record the result of a probe of an endpoint or credentials. Revision and `updated` stay.

    Raises NotFoundError, InvalidError for a service, which has no health of its own.
    """
    part = find(record, path)
    if isinstance(part, extension.Service):
        raise errors.InvalidError("a service has no health of its own; its endpoints and credentials have")
    state: Literal["healthy", "unhealthy"] = "healthy" if healthy else "unhealthy"
    previous = part.status.health
    since = previous.since if previous and previous.state == state else now
    health = extension.Health(state=state, since=since, seen=now, cause="" if healthy else cause)
    return _with(record, path, part.model_copy(update={"status": part.status.model_copy(update={"health": health})}))


def expect_revision(record: extension.Extension, revision: int) -> None:
    """The check behind `If-Match`: raises StaleError if the record is at another revision than the caller's."""
    if record.revision != revision:
        message = f"extension {record.id} is at revision {record.revision}, not {revision}; get it again and repeat the change"
        raise errors.StaleError(message)


def _owner(record: extension.Extension, above: Path) -> Node:
    return find(record, above) if above else record


def _parts(owner: Node, collection: str) -> tuple[extension.Part, ...]:
    parts: tuple[extension.Part, ...] = getattr(owner, collection)
    return parts


def _built(draft: extension.Record, owners: tuple[Node, ...], now: str, new_id: NewId) -> extension.Record:
    """A new record or part from a draft. `owners` are the extension and the service above it."""
    values: dict[str, object] = {name: owner.address for name, owner in zip(("extension_id", "service_id"), owners, strict=False)}
    if not draft.address:
        values[draft.key] = new_id(_prefix(draft, owners))
    values["status"] = type(draft.status).model_validate({draft.status.begin: now, "updated": now})
    record = extension.replaced(draft, values)
    parts = {name: _merged_parts(name, (), _parts(draft, name), (*owners, record), now, new_id, 0) for name in draft.parts}
    return extension.replaced(record, parts)


def _prefix(draft: Node, owners: tuple[Node, ...]) -> str:
    match draft, owners:
        case extension.Extension(), _:
            return draft.product
        case extension.Service(), (extension.Extension() as owner,):
            return draft.resource or (f"{owner.product}-service" if owner.product else "")
        case _, (_, extension.Service() as owner):
            return owner.resource or "creds"
    return ""


def _merged(
    stored: extension.Record, patch: extension.Record, owners: tuple[Node, ...], now: str, new_id: NewId, merged_levels: int
) -> extension.Record:
    values: dict[str, object] = {}
    for name in patch.model_fields_set - READ_ONLY - {stored.key}:
        value = getattr(patch, name)
        if name in stored.parts and value:
            value = _merged_parts(name, _parts(stored, name), value, (*owners, stored), now, new_id, merged_levels)
        elif name == "configuration" and isinstance(stored, extension.Credentials):
            current = stored.configuration
            value = {key: current.get(key, text) if text == extension.HIDDEN else text for key, text in value.items()}
        if value != getattr(stored, name):
            values[name] = value
    return extension.replaced(stored, {**values, "status": stored.status.model_copy(update={"updated": now})}) if values else stored


def _merged_parts(
    name: str,
    stored: tuple[extension.Part, ...],
    named: tuple[extension.Part, ...],
    owners: tuple[Node, ...],
    now: str,
    new_id: NewId,
    merged_levels: int,
) -> tuple[extension.Part, ...]:
    listed = {part.address for part in named}
    parts = {part.address: part for part in stored if merged_levels > 0 or part.address in listed}
    for patch in named:
        current = parts.get(patch.address)
        part = _merged(current, patch, owners, now, new_id, merged_levels - 1) if current else _built(patch, owners, now, new_id)
        if not current and part.address in parts:
            raise errors.ConflictError(_exists(name, part.address, *(owner.address for owner in owners)))
        parts[part.address] = part
    if len(parts) > extension.LIMITS[name]:
        problem = errors.Problem(name, f"there would be {len(parts)} {name}; the limit is {extension.LIMITS[name]}")
        raise errors.InvalidError(str(problem), [problem])
    return tuple(parts.values())


def _with(record: extension.Record, path: Path, part: extension.Part | None, now: str | None = None) -> extension.Record:
    """The record with `part`, or none, at `path`; with `now`, its owners count as changed."""
    name, address, *rest = path
    parts: list[extension.Part] = []
    for current in _parts(record, name):
        if current.address != address:
            parts.append(current)
        elif rest:
            parts.append(_with(current, rest, part, now))
        elif part is not None:
            parts.append(part)
    status = record.status.model_copy(update={"updated": now}) if now else record.status
    return extension.replaced(record, {name: tuple(parts), "status": status})


def naming(collection: Path, part: extension.Part) -> extension.Extension:
    """A patch of the record with only this part, which belongs to the list at `collection`."""
    patch: dict[str, object] = {collection[-1]: [part]}
    if len(collection) > 1:
        patch = {"services": [extension.Service.model_validate({"id": collection[1], **patch})]}
    return extension.Extension.model_validate(patch)


def _refuse_rename(stored: Node, patch: Node) -> None:
    if patch.address and patch.address != stored.address:
        message = f"{stored.address!r} cannot be renamed to {patch.address!r}; register a new one and delete the old one"
        raise errors.InvalidError(message, [errors.Problem(patch.key, message)])


def _refuse_repeated(record: extension.Extension) -> None:
    problems = list(_repeated(record, (record.id,), ""))
    if problems:
        raise errors.ConflictError(problems[0].message, details={"problems": [problem.as_dict() for problem in problems]})


def _refuse_files(record: extension.Extension) -> None:
    problems = [
        errors.Problem(f"services[{service.id or number}].credentials[{item.id or index}].files.{key}", reason)
        for number, service in enumerate(record.services)
        for index, item in enumerate(service.credentials)
        for key, reason in credential_files.faults(item.files, item.configuration)
    ]
    if problems:
        raise errors.InvalidError(f"the record is not valid: {problems[0]}", problems)


def _repeated(node: Node, ids: tuple[str, ...], prefix: str) -> Iterator[errors.Problem]:
    for name in node.parts:
        seen = {""}
        for index, part in enumerate(_parts(node, name)):
            path = f"{prefix}{name}[{index}]"
            if part.address in seen - {""}:
                yield errors.Problem(f"{path}.{part.key}", _exists(name, part.address, *ids))
            seen.add(part.address)
            yield from _repeated(part, (*ids, part.address), f"{path}.")


def _exists(collection: str, address: str, *owners: str) -> str:
    return f"{_NOUNS[collection]} with the same {_key_name(collection)} already exists {_under(*owners)}: {address}"


def _under(*owners: str) -> str:
    return f"under the {'/'.join(owners)!r} extension" + (" service" if len(owners) > 1 else "")


def _key_name(collection: str) -> str:
    return extension.MODELS[collection].key.upper()
