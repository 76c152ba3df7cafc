"""Webhooks of Gitea, and of Forgejo, Gogs and GitHub, whose bodies have the same shape.

Nothing of a delivery may be believed before `verify` has accepted it. A genuine delivery that starts nothing (a deleted branch, a
release) is `Ignored` with its reason; only a body that violates its own format is an InvalidError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import pydantic

from fuseml.domain import errors, pushes
from fuseml.domain.documents import document
from fuseml.webhooks import github, signatures, wire

# The signatures that Gitea sends side by side (infra/platform-facts.md 5.1), each with the prefix of its hexadecimal digits.
# Forgejo sends all of them beside its own.
_SIGNATURES = {
    "x-forgejo-signature": "",
    "x-gitea-signature": "",
    "x-gogs-signature": "",
    github.SIGNATURE: github.SIGNATURE_PREFIX,
}
_EVENTS = ("x-forgejo-event", "x-gitea-event", "x-gogs-event", github.EVENT)
_DELIVERIES = ("x-forgejo-delivery", "x-gitea-delivery", "x-gogs-delivery", github.DELIVERY)

MAX_BODY = 25 << 20
"""Bytes of a delivery: GitHub sends no larger ones."""

_LONGEST_NAME = 255
_OBJECT_ID = "([0-9a-f]{40}|[0-9a-f]{64})"

_IGNORED_EVENTS: Mapping[str, str] = {
    "create": "a new branch or tag: the push that is delivered next to it starts the runs",
    "delete": "a branch or tag was deleted: there is no commit to work on",
    "ping": "the git host only checks that the webhook can be reached",
    "release": "a release: the push of its tag starts the runs",
    "repository": "the repository itself was made or changed: its pushes start the runs",
}
_REPOSITORY_DELETED = (
    "the repository was deleted on the git host: its codeset stays registered, with its runs and artifacts, until `fuseml codeset delete`"
)


@dataclass(frozen=True, slots=True)
class Push:
    """A ref of a codeset points at a new commit.

    `before` is None for a new ref. `commit` is always a commit, also where an annotated tag was pushed. `paths` are the files of the pushed
    commits, sorted, or None where the body does not list them all: new refs, tags, forced pushes that it shows, truncated or very long lists.
    `default_branch` is that of the repository, by its short name; empty where the body does not name it.
    """

    project: str
    codeset: str
    ref: str
    before: str | None
    commit: str
    paths: tuple[str, ...] | None
    message: str
    pusher: str
    delivery_id: str
    default_branch: str = ""


@dataclass(frozen=True, slots=True)
class Deleted(wire.Ignored):
    """A ref was deleted, from the commit or tag object `before` where the delivery names it."""

    ref: str
    before: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery, decoded once; every field is a claim of the sender until `verify` has accepted the body.

    `project` and `codeset` name the repository, both are empty without one; `commit` is the `after` of a push.
    """

    id: str
    event: str = ""
    project: str = ""
    codeset: str = ""
    commit: str | None = None
    data: object = None


def delivery_id(headers: wire.Headers) -> str:
    """The git host's id of the delivery; empty without one."""
    return wire.first(wire.lower(headers), *_DELIVERIES)


def event(headers: wire.Headers) -> str:
    """The name of the event in the headers; empty without one."""
    return wire.first(wire.lower(headers), *_EVENTS)


def sign(secret: str, body: bytes) -> str:
    """Gitea's signature of a body: HMAC-SHA256 in hexadecimal digits. Raises PermanentError for an empty secret."""
    return signatures.digest(secret, body).hex()


def is_signed(headers: wire.Headers) -> bool:
    """Whether the headers have a signature, right or wrong."""
    given = wire.lower(headers)
    # Gitea sends the headers empty where the webhook has no secret.
    return any(given.get(name) for name in _SIGNATURES)


def unsigned() -> errors.UnauthenticatedError:
    """The refusal of a delivery without a signature."""
    return errors.UnauthenticatedError("the delivery is not signed: give the webhook the codeset's secret on the git host")


def verify(secret: str, headers: wire.Headers, body: bytes | Iterable[bytes]) -> None:
    """Accept a body, whole or in parts, that was signed with `secret` as Gitea, Forgejo, Gogs or GitHub sign.

    Every signature of the headers must be right, in digits of either case. Raises UnauthenticatedError with the reason, PermanentError
    without a secret.
    """
    given = wire.lower(headers)
    sent = {name: given[name] for name in _SIGNATURES if given.get(name)}
    if not sent:
        raise unsigned()
    expected = signatures.digest_of(secret, (body,) if isinstance(body, bytes) else body).hex()
    for name, signature in sent.items():
        if not signatures.same(_SIGNATURES[name] + expected, signature.lower()):
            raise errors.UnauthenticatedError(
                f"the {name} header does not fit the body: another secret, or the body was changed on its way"
            )


def decode(headers: wire.Headers, body: bytes) -> Delivery:
    """Decode a body that is not yet verified. Raises InvalidError for a body that is not JSON."""
    given = wire.lower(headers)
    data = wire.read_json(given, body)
    project, codeset = _repository(data)
    after = data.get("after") if isinstance(data, dict) else None
    return Delivery(
        id=wire.first(given, *_DELIVERIES),
        event=wire.first(given, *_EVENTS),
        project=project,
        codeset=codeset,
        commit=after if isinstance(after, str) and re.fullmatch(_OBJECT_ID, after) else None,
        data=data,
    )


def _repository(data: object) -> tuple[str, str]:
    try:
        repository = data["repository"]  # type: ignore[index]
        owner = repository["owner"]
        return str(owner.get("login") or owner.get("username") or owner["name"]), str(repository["name"])
    except (KeyError, TypeError, AttributeError):
        return "", ""


def read_push(delivery: Delivery) -> Push | wire.Ignored:
    """The push of a verified delivery. Raises InvalidError where the body or its headers violate the format.

    Gitea does not mark forced pushes (infra/platform-facts.md 5.2): `paths` then holds the files of the new commits, without those of
    the dropped ones.
    """
    event, data = delivery.event, delivery.data
    if not event or not delivery.id:
        raise errors.InvalidError(
            "this is not the webhook of a git host: the X-Gitea-Event or X-Gitea-Delivery header (or GitHub's) is missing"
        )
    if event == "delete":
        return _deletion(data)
    if event == "repository" and isinstance(data, dict) and data.get("action") == "deleted":
        return wire.Ignored(_REPOSITORY_DELETED)
    if event != "push":
        return wire.Ignored(_IGNORED_EVENTS.get(event, f"a {event} event of the git host: only pushes start runs"))
    push = document.validate(_PushBody, data, kind="push")
    if _is_zero(push.after):
        return Deleted(f"{push.ref} was deleted: there is no commit to work on", push.ref, None if _is_zero(push.before) else push.before)
    if not push.ref.startswith(("refs/heads/", "refs/tags/")):
        return wire.Ignored(f"{push.ref} is neither a branch nor a tag")
    tag = push.ref.startswith("refs/tags/")
    return Push(
        project=push.repository.owner.login,
        codeset=push.repository.name,
        ref=push.ref,
        before=None if _is_zero(push.before) else push.before,
        # `after` of an annotated tag is the tag object; the head commit is the tagged one.
        commit=push.head_commit.id if tag and push.head_commit else push.after,
        paths=None if tag else _changed_paths(push),
        message=push.head_commit.message[: pushes.MAX_TEXT] if push.head_commit else "",
        pusher=push.pusher.login[:_LONGEST_NAME],
        delivery_id=delivery.id,
        default_branch=push.repository.default_branch,
    )


def _deletion(data: object) -> wire.Ignored:
    reason, named = _IGNORED_EVENTS["delete"], data if isinstance(data, dict) else {}
    folder, name = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(str(named.get("ref_type"))), named.get("ref")
    return Deleted(reason, folder + name, None) if folder and isinstance(name, str) and name else wire.Ignored(reason)


def _default(value: object) -> pydantic.BeforeValidator:
    # Hosts write null for what a push has none of: lists, the message of an empty commit, the pusher of a deploy key.
    return pydantic.BeforeValidator(lambda given: value if given is None else given)


_Paths = Annotated[tuple[str, ...], _default(())]
_Text = Annotated[str, _default("")]
_Flag = Annotated[bool, _default(False)]
_ObjectId = Annotated[str, pydantic.StringConstraints(pattern=rf"^{_OBJECT_ID}\z")]
_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}\z")]


class _Commit(wire.Body):
    id: _ObjectId
    message: _Text = ""
    added: _Paths = ()
    removed: _Paths = ()
    modified: _Paths = ()


# Gitea fills login and username, GitHub login, or only name (the pusher of a push).
_LOGIN = pydantic.AliasChoices("login", "username", "name")


class _Pusher(wire.Body):
    login: _Text = pydantic.Field("", validation_alias=_LOGIN)


class _Owner(wire.Body):
    login: _Name = pydantic.Field(validation_alias=_LOGIN)


class _Repository(wire.Body):
    name: _Name
    owner: _Owner
    default_branch: Annotated[
        str, pydantic.BeforeValidator(lambda value: value if isinstance(value, str) and len(value) <= _LONGEST_NAME else "")
    ] = ""


class _PushBody(wire.Body):
    ref: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)]
    before: _ObjectId
    after: _ObjectId
    forced: _Flag = False
    commits: Annotated[tuple[_Commit, ...], _default(())] = ()
    total_commits: int | None = None
    head_commit: _Commit | None = None
    repository: _Repository
    pusher: Annotated[_Pusher, _default({})] = _Pusher()


def _changed_paths(push: _PushBody) -> tuple[str, ...] | None:
    listed = len(push.commits)
    truncated = listed < push.total_commits if push.total_commits is not None else listed >= github.MOST_COMMITS
    # A branch that moved without new commits was reset to an older one.
    if _is_zero(push.before) or push.forced or truncated or not listed:
        return None
    paths = pushes.bounded(sorted({path for commit in push.commits for path in (*commit.added, *commit.removed, *commit.modified)}))
    return tuple(paths) if paths is not None else None


def _is_zero(object_id: str) -> bool:
    return not object_id.strip("0")
