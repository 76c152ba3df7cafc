"""Gitea's webhooks, written by us: what the embedded git host delivers after a push, byte for byte signed as Gitea signs.

Which events follow from which change, and in which order, is Gitea's `services/repository/push.go`; the shape of the bodies is
its `modules/structs/hook.go`. Fields that describe a whole Gitea (ids, avatars, counters) are left out.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.githosts import history
from fuseml.webhooks import gitea

if TYPE_CHECKING:
    from dulwich.objects import Commit
    from dulwich.repo import Repo

ZERO = "0" * 40
"""The id that stands for "no object": `before` of a new ref, `after` of a deleted one."""

# The most commits that one push names (infra/platform-facts.md 5.2); `total_commits` counts all of them.
FEED_MAX_COMMIT_NUM = 5
# Of a new branch only the newest commits are looked at, and counted (infra/platform-facts.md 5.2).
NEW_BRANCH_COMMITS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """One ref that a push moved; the ids are ZERO where the ref was not there before or is gone after."""

    ref: str
    before: str
    after: str

    @property
    def created(self) -> bool:
        return self.before == ZERO

    @property
    def deleted(self) -> bool:
        return self.after == ZERO


@dataclass(frozen=True, slots=True)
class Place:
    """Whose repository it is, and where people clone it."""

    project: str
    codeset: str
    clone_url: str

    @property
    def html_url(self) -> str:
        return self.clone_url.removesuffix(".git")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook, ready to be posted: `body` is signed, not a byte of it may change."""

    project: str
    codeset: str
    event: str
    id: str
    headers: Mapping[str, str]
    body: bytes


def deliveries(repository: Repo, change: Change, place: Place, pusher: str, secret: str) -> Iterator[Delivery]:
    """What Gitea delivers when `pusher` moved a ref of `repository`; nothing for refs that are neither branch nor tag."""
    for event, content in _events(repository, change, place, pusher):
        body = json.dumps({**content, "repository": _repository(repository, place), "sender": _user(pusher)}, indent=2).encode()
        identity = str(uuid.uuid4())
        yield Delivery(place.project, place.codeset, event, identity, _headers(event, identity, secret, body), body)


def _events(repository: Repo, change: Change, place: Place, pusher: str) -> Iterator[tuple[str, dict[str, object]]]:
    kind, _, name = change.ref.removeprefix("refs/").partition("/")
    if kind not in ("heads", "tags"):
        return
    tag = kind == "tags"
    named: dict[str, object] = {"ref": name, "ref_type": "tag" if tag else "branch"}
    create = ("create", {"sha": change.after, **named})
    if change.created and not tag:
        yield create
    if tag or not change.deleted:
        yield "push", _push(repository, change, place, pusher)
    if change.created and tag:
        yield create
    if change.deleted:
        yield "delete", {**named, "pusher_type": "user"}


def _push(repository: Repo, change: Change, place: Place, pusher: str) -> dict[str, object]:
    head = None if change.deleted else history.commit_of(repository, change.after)
    new = _pushed_commits(repository, head, change) if head and change.ref.startswith("refs/heads/") else []
    return {
        "ref": change.ref,
        "before": change.before,
        "after": change.after,
        "compare_url": f"{place.html_url}/compare/{change.before}...{change.after}",
        "commits": [_commit(repository, commit, place) for commit in new[:FEED_MAX_COMMIT_NUM]],
        "total_commits": len(new),
        "head_commit": _commit(repository, head, place) if head else None,
        "pusher": _user(pusher),
    }


def _pushed_commits(repository: Repo, head: Commit, change: Change) -> list[Commit]:
    if change.created:
        return history.new_commits(repository, head, known=[], limit=NEW_BRANCH_COMMITS)
    before = history.commit_of(repository, change.before)
    return history.new_commits(repository, head, known=[before.id] if before else [])


def _commit(repository: Repo, commit: Commit, place: Place) -> dict[str, object]:
    # As `git log -m --first-parent --name-status`, which Gitea asks: a merge changed what it brought to its first parent.
    parent = history.commit_of(repository, commit.parents[0].decode()) if commit.parents else None
    return {
        "id": commit.id.decode(),
        "message": _text(commit.message),
        "url": f"{place.html_url}/commit/{commit.id.decode()}",
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "verification": None,
        "timestamp": _timestamp(commit),
        **dataclasses.asdict(history.difference(repository, parent, commit)),
    }


def _timestamp(commit: Commit) -> str:
    try:
        zone = datetime.timezone(datetime.timedelta(seconds=commit.author_timezone))
        return datetime.datetime.fromtimestamp(commit.author_time, zone).isoformat()
    except (ValueError, OverflowError):
        # Broken clocks and zones are part of many histories; a strange date must not cost the webhook. Go's zero time.
        return "0001-01-01T00:00:00Z"


def _person(line: bytes) -> dict[str, object]:
    name, _, email = _text(line).partition(" <")
    return {"name": name, "email": email.removesuffix(">"), "username": ""}


def _user(login: str) -> dict[str, object]:
    return {"login": login, "full_name": "", "email": f"{login}@noreply.localhost", "username": login}


def _repository(repository: Repo, place: Place) -> dict[str, object]:
    return {
        "owner": _user(place.project),
        "name": place.codeset,
        "full_name": f"{place.project}/{place.codeset}",
        "private": True,
        "html_url": place.html_url,
        "clone_url": place.clone_url,
        "default_branch": history.head_ref(repository).removeprefix("refs/heads/"),
        "object_format_name": "sha1",
    }


def _headers(event: str, identity: str, secret: str, body: bytes) -> dict[str, str]:
    facts = {"Delivery": identity, "Event": event, "Event-Type": event}
    twins = {f"X-{host}-{fact}": value for host in ("Gitea", "Gogs", "GitHub") for fact, value in facts.items()}
    return {"Content-Type": "application/json", **twins, **signatures(secret, body)}


def signatures(secret: str, body: bytes) -> dict[str, str]:
    """The headers by which Gitea proves that it knows the secret (infra/platform-facts.md 5.1)."""
    signature = gitea.sign(secret, body)
    # Gitea sends SHA-1 next to SHA-256 for old receivers; ours never reads it.
    legacy = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    return {
        "X-Gitea-Signature": signature,
        "X-Gogs-Signature": signature,
        "X-Hub-Signature": f"sha1={legacy}",
        "X-Hub-Signature-256": f"sha256={signature}",
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
