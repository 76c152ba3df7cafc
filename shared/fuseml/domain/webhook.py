"""What git hosts and MLflow tell us: is the sender the one who knows the secret, and what happened.

Nothing of a body may be believed before its signature was verified. A body that is genuine but asks for nothing (a deleted
branch, a release) is `Ignored` with its reason, so that `why did nothing start` has an answer; only a body that breaks its own
format is an InvalidError.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document

Headers = Mapping[str, str]

# GitHub documents "The array includes a maximum of 2048 commits" for push payloads and sends no total.
GITHUB_COMMITS = 2048

# The models and prompts of MLflow's own test deliveries (infra/platform-facts.md 1.2).
_MLFLOW_EXAMPLES = frozenset({"example_model", "example_prompt"})

# The signatures that Gitea sends side by side (infra/platform-facts.md 5.1), each with what stands before the hexadecimal digits.
_GIT_SIGNATURES = {"x-gitea-signature": "", "x-gogs-signature": "", "x-hub-signature-256": "sha256="}

_GIT_DELIVERIES = ("x-gitea-delivery", "x-gogs-delivery", "x-github-delivery")

# Every registry event of MLflow (infra/platform-facts.md 1.2) and the fields without which it says nothing.
_REGISTRY_EVENTS: Mapping[str, tuple[str, ...]] = {
    "registered_model.created": (),
    "model_version.created": ("version", "source"),
    "model_version_tag.set": ("version", "key", "value"),
    "model_version_tag.deleted": ("version", "key"),
    "model_version_alias.created": ("version", "alias"),
    "model_version_alias.deleted": ("alias",),
    "prompt.created": (),
    "prompt_version.created": ("version",),
    "prompt_tag.set": ("key", "value"),
    "prompt_tag.deleted": ("key",),
    "prompt_version_tag.set": ("version", "key", "value"),
    "prompt_version_tag.deleted": ("version", "key"),
    "prompt_alias.created": ("version", "alias"),
    "prompt_alias.deleted": ("alias",),
}

_IGNORED_GIT_EVENTS: Mapping[str, str] = {
    "create": "a new branch or tag: the push that is delivered next to it starts what there is to start",
    "delete": "a branch or tag was deleted: there is no commit to work on",
    "ping": "the git host only checks that the webhook can be reached",
    "release": "a release: the push of its tag starts what there is to start",
    "repository": "the repository itself was made or changed: its pushes start what there is to start",
}
_REPOSITORY_DELETED = (
    "the repository was deleted on the git host: its codeset stays registered, with its runs and artifacts, until `fuseml codeset delete`"
)


@dataclass(frozen=True, slots=True)
class Push:
    """A ref of a codeset points at a new commit.

    `before` is None for a new ref. `commit` is always a commit, also where an annotated tag was pushed. `paths` are the changed
    files, sorted, or None where the body cannot tell them all: new refs, tags, forced pushes that it shows, truncated lists.
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


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """A change in MLflow's model or prompt registry; `kind` is `<entity>.<action>` in MLflow's words.

    `delivery_id` stays the same when MLflow retries. `run_id` may be missing although the version has a run (infra/platform-facts.md 1.3):
    read the version again. `test` marks MLflow's own test deliveries, whose model does not exist.
    """

    kind: str
    name: str
    delivery_id: str
    timestamp: str
    version: str | None = None
    source: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None
    key: str | None = None
    value: str | None = None
    test: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine delivery that asks for nothing, and why."""

    reason: str


def sign_gitea(secret: str, body: bytes) -> str:
    """Gitea's signature of a body: HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify_gitea(secret: str, headers: Headers, body: bytes) -> None:
    """Accept a body that was signed with `secret` as Gitea, Gogs or GitHub sign.

    Every signature that came along must be right. Raises UnauthenticatedError with the reason, PermanentError without a secret.
    """
    _require_secret(secret)
    given = _lower(headers)
    signatures = {name: given[name] for name in _GIT_SIGNATURES if given.get(name)}
    if not signatures:
        # Gitea sends the headers empty where the webhook has no secret.
        raise errors.UnauthenticatedError("the delivery is not signed: give the webhook the codeset's secret on the git host")
    expected = sign_gitea(secret, body)
    for name, signature in signatures.items():
        if not _same(_GIT_SIGNATURES[name] + expected, signature):
            raise errors.UnauthenticatedError(
                f"the {name} header does not fit the body: another secret, or the body was changed on its way"
            )


def verify_mlflow(secret: str, headers: Headers, body: bytes, now: float, max_age: float = 300) -> None:
    """Accept a body that MLflow signed with `secret` at most `max_age` seconds before or after `now` (Unix seconds).

    The rule is that of infra/platform-facts.md 1.1. Raises UnauthenticatedError with the reason, PermanentError without a secret.
    """
    _require_secret(secret)
    given = _lower(headers)
    signature = given.get("x-mlflow-signature")
    if not signature:
        raise errors.UnauthenticatedError("the delivery is not signed: create the webhook in MLflow with the tracking server's secret")
    delivery, timestamp = given.get("x-mlflow-delivery-id", ""), given.get("x-mlflow-timestamp", "")
    if not delivery or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise errors.UnauthenticatedError("the X-MLflow-Delivery-Id or X-MLflow-Timestamp header is missing or malformed")
    signed = f"{delivery}.{timestamp}.".encode("utf-8", "replace") + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    if not _same("v1," + base64.b64encode(digest).decode(), signature):
        raise errors.UnauthenticatedError(
            "the X-MLflow-Signature header does not fit the body: another secret, or the delivery was changed on its way"
        )
    if abs(now - int(timestamp)) > max_age:
        raise errors.UnauthenticatedError(
            f"the delivery is not fresh: it was signed more than {max_age:g} seconds ago or ahead; is it replayed, or a clock wrong?"
        )


def delivery_id(headers: Headers) -> str:
    """What the sender calls the delivery, empty where it gives no name."""
    given = _lower(headers)
    return _first(given, *_GIT_DELIVERIES, "x-mlflow-delivery-id")


def claimed_repository(headers: Headers, body: bytes) -> tuple[str, str]:
    """Project and codeset that a git host's delivery says it is about: only to find the secret that it must be signed with.

    Raises InvalidError when it names none.
    """
    data = _json(_lower(headers), body)
    try:
        repository = data["repository"]  # type: ignore[index]
        owner = repository["owner"]
        return str(owner.get("login") or owner.get("username") or owner["name"]), str(repository["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidError("the body is not a webhook of a git host: it names no repository") from error


def accept(secrets: Sequence[str], verify: Callable[[str], None]) -> None:
    """`verify` with each secret in turn, the current one first: after a rotation, the one before is good for a while.

    Raises UnauthenticatedError as it is said of the current one, PermanentError without any.
    """
    current, *former = secrets or ("",)
    try:
        verify(current)
    except errors.UnauthenticatedError:
        for secret in former:
            with contextlib.suppress(errors.UnauthenticatedError):
                return verify(secret)
        raise


def parse_push(headers: Headers, body: bytes) -> Push | Ignored:
    """Read a webhook of Gitea or GitHub. Raises InvalidError where the body or its headers break the format.

    Gitea does not mark forced pushes (infra/platform-facts.md 5.2): `paths` then holds what the new commits touched, without what the
    dropped ones did.
    """
    given = _lower(headers)
    event = _first(given, "x-gitea-event", "x-gogs-event", "x-github-event")
    delivery = _first(given, *_GIT_DELIVERIES)
    if not event or not delivery:
        raise errors.InvalidError(
            "this is not the webhook of a git host: the X-Gitea-Event or X-Gitea-Delivery header (or GitHub's) is missing"
        )
    data = _json(given, body)
    if event == "repository" and isinstance(data, dict) and data.get("action") == "deleted":
        return Ignored(_REPOSITORY_DELETED)
    if event != "push":
        return Ignored(_IGNORED_GIT_EVENTS.get(event, f"a {event} event of the git host: only pushes start something"))
    wire = document.validate(_PushBody, data, kind="push")
    if _is_zero(wire.after):
        return Ignored(f"{wire.ref} was deleted: there is no commit to work on")
    if not wire.ref.startswith(("refs/heads/", "refs/tags/")):
        return Ignored(f"{wire.ref} is neither a branch nor a tag")
    tag = wire.ref.startswith("refs/tags/")
    return Push(
        project=wire.repository.owner.login,
        codeset=wire.repository.name,
        ref=wire.ref,
        before=None if _is_zero(wire.before) else wire.before,
        # `after` of an annotated tag is the tag object; the head commit is what it stands for.
        commit=wire.head_commit.id if tag and wire.head_commit else wire.after,
        paths=None if tag else _changed_paths(wire),
        message=wire.head_commit.message if wire.head_commit else "",
        pusher=wire.pusher.login,
        delivery_id=delivery,
    )


def parse_registry_event(headers: Headers, body: bytes) -> RegistryEvent | Ignored:
    """Read a webhook of MLflow's registry. Raises InvalidError where the body or its headers break the format."""
    given = _lower(headers)
    delivery = given.get("x-mlflow-delivery-id")
    if not delivery:
        raise errors.InvalidError("this is not a webhook of MLflow: the X-MLflow-Delivery-Id header is missing")
    envelope = document.validate(_Envelope, _json(given, body), kind="MLflow event")
    kind = f"{envelope.entity}.{envelope.action}"
    if kind not in _REGISTRY_EVENTS:
        return Ignored(f"MLflow's event {kind} is not about the registry, or this version of FuseML does not know it")
    data = document.validate(_RegistryData, envelope.data, kind=f"data of {kind}")
    missing = [errors.Problem(f"data.{name}", "is required") for name in _REGISTRY_EVENTS[kind] if getattr(data, name) is None]
    if missing:
        raise errors.InvalidError(f"the MLflow event {kind} is not complete: {missing[0]}", missing)
    return RegistryEvent(
        kind=kind,
        delivery_id=delivery,
        timestamp=envelope.timestamp,
        test=data.name in _MLFLOW_EXAMPLES,
        **{**data.model_dump(), "tags": data.tags or {}},
    )


class _Wire(pydantic.BaseModel):
    """The parent of foreign bodies: what we do not read may change freely."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")


def _none_is_empty(value: object) -> object:
    return () if value is None else value


# Go writes an empty list as null.
_Paths = Annotated[tuple[str, ...], pydantic.BeforeValidator(_none_is_empty)]
_ObjectId = Annotated[str, pydantic.StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})\z")]
_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}\z")]


class _Commit(_Wire):
    id: _ObjectId
    message: str = ""
    added: _Paths = ()
    removed: _Paths = ()
    modified: _Paths = ()


# Gitea fills login and username, GitHub login, or only name (the pusher of a push).
_LOGIN = pydantic.AliasChoices("login", "username", "name")


class _Pusher(_Wire):
    login: str = pydantic.Field("", validation_alias=_LOGIN)


class _Owner(_Wire):
    login: _Name = pydantic.Field(validation_alias=_LOGIN)


class _Repository(_Wire):
    name: _Name
    owner: _Owner


class _PushBody(_Wire):
    ref: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)]
    before: _ObjectId
    after: _ObjectId
    forced: bool = False
    commits: Annotated[tuple[_Commit, ...], pydantic.BeforeValidator(_none_is_empty)] = ()
    total_commits: int | None = None
    head_commit: _Commit | None = None
    repository: _Repository
    pusher: _Pusher = _Pusher()


class _Envelope(_Wire):
    entity: str
    action: str
    timestamp: str
    data: dict[str, object]


class _RegistryData(_Wire):
    name: Annotated[str, pydantic.StringConstraints(min_length=1)]
    version: document.Text | None = None
    source: str | None = None
    run_id: str | None = None
    tags: dict[str, str] | None = None
    alias: str | None = None
    key: str | None = None
    value: str | None = None


def _changed_paths(wire: _PushBody) -> tuple[str, ...] | None:
    listed = len(wire.commits)
    truncated = listed < wire.total_commits if wire.total_commits is not None else listed >= GITHUB_COMMITS
    # A branch that moved without new commits was reset to an older one.
    if _is_zero(wire.before) or wire.forced or truncated or not listed:
        return None
    return tuple(sorted({path for commit in wire.commits for path in (*commit.added, *commit.removed, *commit.modified)}))


def _json(lower: Headers, body: bytes) -> object:
    if lower.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise errors.InvalidError("the webhook sends a form: set its content type to application/json on the git host")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise errors.InvalidError(f"the body of the webhook is not JSON: {reason}") from error


def _require_secret(secret: str) -> None:
    if not secret:
        raise errors.PermanentError("no webhook secret is configured: without one, anybody could start runs; set a secret, on both sides")


def _lower(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _first(lower: Headers, *names: str) -> str:
    return next((lower[name] for name in names if lower.get(name)), "")


def _same(expected: str, given: str) -> bool:
    # compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(expected.encode(), given.strip().encode("utf-8", "replace"))


def _is_zero(object_id: str) -> bool:
    return not object_id.strip("0")
