"""The webhooks that the embedded git host delivers after a push, in Gitea's format and with Gitea's signatures.

The events of a change and their order follow Gitea's `services/repository/push.go`, the bodies its `modules/structs/hook.go`. Fields that
only a Gitea server has (ids, avatars, counters) are omitted.
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

from fuseml.domain import errors, pushes
from fuseml.githosts import history
from fuseml.webhooks import gitea

if TYPE_CHECKING:
    from dulwich.objects import Commit
    from dulwich.repo import Repo

ZERO = "0" * 40
"""The null object id: `before` of a new ref, `after` of a deleted one."""

RECORD, INTENT = "fuseml-pushes", "fuseml-moving"
"""Files inside a repository, so that they move with it: the record of pushes, and the moves of refs that are under way. git does not use
these names.
"""

# Maximum of listed commits in a push (infra/platform-facts.md 5.2); `total_commits` counts all of them.
FEED_MAX_COMMIT_NUM = 5
# Maximum of examined and counted commits of a new branch, newest first (infra/platform-facts.md 5.2).
NEW_BRANCH_COMMITS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one ref by a push. `before` is ZERO for a new ref, `after` for a deleted one.

    `ref` holds bytes that are not UTF-8 as lone surrogates; `text` replaces them, as Gitea does.
    """

    ref: str
    before: str
    after: str

    @property
    def name(self) -> bytes:
        return self.ref.encode("utf-8", "surrogateescape")

    @property
    def text(self) -> str:
        return self.name.decode("utf-8", "replace")

    @property
    def created(self) -> bool:
        return self.before == ZERO

    @property
    def deleted(self) -> bool:
        return self.after == ZERO


@dataclass(frozen=True, slots=True)
class CodesetAddress:
    """The codeset of a repository and its clone address."""

    project: str
    codeset: str
    clone_url: str

    @property
    def html_url(self) -> str:
        return self.clone_url.removesuffix(".git")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook request. `body` is signed, so it must not change."""

    project: str
    codeset: str
    event: str
    id: str
    headers: Mapping[str, str]
    body: bytes


def deliveries(repository: Repo, change: Change, address: CodesetAddress, pusher: str, secret: str, push: str = "") -> Iterator[Delivery]:
    """The deliveries that Gitea sends when `pusher` changes a ref of `repository`; none for refs that are neither branch nor tag.

    `push` is the id of the push's delivery; without it, it gets a new one.
    """
    for event, content in _events(repository, change, address, pusher):
        body = json.dumps({**content, "repository": _repository(repository, address), "sender": _user(pusher)}, indent=2).encode()
        identity = push if push and event == "push" else str(uuid.uuid4())
        yield Delivery(address.project, address.codeset, event, identity, _headers(event, identity, secret, body), body)


def _events(repository: Repo, change: Change, address: CodesetAddress, pusher: str) -> Iterator[tuple[str, dict[str, object]]]:
    kind, _, name = change.text.removeprefix("refs/").partition("/")
    if kind not in ("heads", "tags"):
        return
    tag = kind == "tags"
    named: dict[str, object] = {"ref": name, "ref_type": "tag" if tag else "branch"}
    create = ("create", {"sha": change.after, **named})
    if change.created and not tag:
        yield create
    if tag or not change.deleted:
        yield "push", _push(repository, change, address, pusher)
    if change.created and tag:
        yield create
    if change.deleted:
        yield "delete", {**named, "pusher_type": "user"}


def _push(repository: Repo, change: Change, address: CodesetAddress, pusher: str) -> dict[str, object]:
    head = None if change.deleted else history.commit_of(repository, change.after)
    new = _pushed_commits(repository, head, change) if head and change.ref.startswith("refs/heads/") else []
    commits = _listed(repository, new[:FEED_MAX_COMMIT_NUM], address)
    return {
        "ref": change.text,
        "before": change.before,
        "after": change.after,
        "compare_url": f"{address.html_url}/compare/{change.before}...{change.after}",
        "commits": commits,
        "total_commits": len(new),
        "head_commit": next(iter(commits), None) or (_commit(head, address, None) if head else None),
        "pusher": _user(pusher),
    }


def _pushed_commits(repository: Repo, head: Commit, change: Change) -> list[Commit]:
    if change.created:
        return history.new_commits(repository, head, known=[], limit=NEW_BRANCH_COMMITS)
    before = history.commit_of(repository, change.before)
    return history.new_commits(repository, head, known=[before.id] if before else [])


def _listed(repository: Repo, commits: list[Commit], address: CodesetAddress) -> list[dict[str, object]]:
    """The commits with their files; the list ends before too many files, as it does before too many commits."""
    listed, left = [], pushes.MAX_PATHS
    for commit in commits:
        # As in Gitea's `git log -m --first-parent --name-status`: a merge is compared with its first parent.
        parent = history.commit_of(repository, commit.parents[0].decode()) if commit.parents else None
        try:
            files = history.difference(repository, parent, commit, left)
        except errors.TooLargeError:
            break
        left -= len(files.added) + len(files.removed) + len(files.modified)
        listed.append(_commit(commit, address, files))
    return listed


def _commit(commit: Commit, address: CodesetAddress, files: history.Difference | None) -> dict[str, object]:
    return {
        "id": commit.id.decode(),
        "message": _text(commit.message),
        "url": f"{address.html_url}/commit/{commit.id.decode()}",
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "verification": None,
        "timestamp": _timestamp(commit),
        **dataclasses.asdict(files or history.Difference([], [], [])),
    }


def _timestamp(commit: Commit) -> str:
    try:
        zone = datetime.timezone(datetime.timedelta(seconds=commit.author_timezone))
        return datetime.datetime.fromtimestamp(commit.author_time, zone).isoformat()
    except (ValueError, OverflowError, TypeError):
        # Many histories contain invalid dates, or none; they must not prevent the webhook. Go's zero time.
        return "0001-01-01T00:00:00Z"


def _person(line: bytes) -> dict[str, object]:
    name, _, email = _text(line).partition(" <")
    return {"name": name, "email": email.removesuffix(">"), "username": ""}


def _user(login: str) -> dict[str, object]:
    return {"login": login, "full_name": "", "email": f"{login}@noreply.localhost", "username": login}


def _repository(repository: Repo, address: CodesetAddress) -> dict[str, object]:
    return {
        "owner": _user(address.project),
        "name": address.codeset,
        "full_name": f"{address.project}/{address.codeset}",
        "private": True,
        "html_url": address.html_url,
        "clone_url": address.clone_url,
        "default_branch": history.head_ref(repository).removeprefix("refs/heads/"),
        "object_format_name": "sha1",
    }


def _headers(event: str, identity: str, secret: str, body: bytes) -> dict[str, str]:
    values = {"Delivery": identity, "Event": event, "Event-Type": event}
    headers = {f"X-{host}-{name}": value for host in ("Gitea", "Gogs", "GitHub") for name, value in values.items()}
    return {"Content-Type": "application/json", **headers, **signatures(secret, body)}


def signatures(secret: str, body: bytes) -> dict[str, str]:
    """Gitea's signature headers (infra/platform-facts.md 5.1)."""
    signature = gitea.sign(secret, body)
    # Gitea also sends SHA-1, for old consumers; FuseML does not read it.
    legacy = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    return {
        "X-Gitea-Signature": signature,
        "X-Gogs-Signature": signature,
        "X-Hub-Signature": f"sha1={legacy}",
        "X-Hub-Signature-256": f"sha256={signature}",
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
