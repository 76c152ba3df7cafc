"""Deliveries of git hosts: GitHub's pushes, Gitea's recorded deliveries, and events that are no pushes."""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.parse
from typing import Any

import pytest

from fuseml.domain import events
from fuseml.store import codesets
from tests.component.ingress import NEW, OLD, SECRET, ZERO, Delivery, Ingress, delivery, recorded


def pushed(ingress: Ingress) -> list[events.CodesetPushed]:
    return [events.CodesetPushed.model_validate(event.data) for event in ingress.publisher.events]


# GitHub (https://docs.github.com/en/webhooks/webhook-events-and-payloads#push)


def user(login: str, **more: object) -> dict[str, object]:
    api, page = f"https://api.github.com/users/{login}", f"https://github.com/{login}"
    return {"login": login, "id": 21031067, "node_id": "MDQ6VXNlcjIxMDMxMDY3", "url": api, "html_url": page, "type": "User", "site_admin": False, **more}  # fmt: skip


def repository(**more: object) -> dict[str, object]:
    return {
        "id": 186853002,
        "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=",
        "name": "mnist",
        "full_name": "workspace/mnist",
        "private": False,
        # In a push the owner has both; elsewhere a login only.
        "owner": {"name": "workspace", "email": "21031067+workspace@users.noreply.github.com", **user("workspace")},
        "html_url": "https://github.com/workspace/mnist",
        "description": None,
        "fork": False,
        "url": "https://github.com/workspace/mnist",
        "created_at": 1557933565,
        "updated_at": "2026-05-15T15:20:41Z",
        "pushed_at": 1557933657,
        "git_url": "git://github.com/workspace/mnist.git",
        "ssh_url": "git@github.com:workspace/mnist.git",
        "clone_url": "https://github.com/workspace/mnist.git",
        "language": "Python",
        "license": None,
        "topics": [],
        "visibility": "public",
        "default_branch": "main",
        "stargazers": 0,
        "master_branch": "main",
        **more,
    }


def commit(id: str, message: str = "train harder", **files: list[str]) -> dict[str, object]:
    person = {"name": "The Octocat", "email": "octocat@nowhere.com", "username": "octocat"}
    return {
        "id": id,
        "tree_id": "31b122c26a97cf9af023e9ddab94a82c6e77b0ea",
        "distinct": True,
        "message": message,
        "timestamp": "2026-11-20T10:30:00-07:00",
        "url": f"https://github.com/workspace/mnist/commit/{id}",
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": [],
        **files,
    }


def github_push(**fields: object) -> dict[str, Any]:
    """A push of one commit to the main branch. GitHub counts no `total_commits`."""
    head = commit(NEW, added=["data.csv"], removed=["old.py"], modified=["train.py"])
    return {
        "ref": "refs/heads/main",
        "before": OLD,
        "after": NEW,
        "repository": repository(),
        "pusher": {"name": "octocat", "email": "octocat@nowhere.com"},
        "sender": user("octocat"),
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/workspace/mnist/compare/{OLD[:12]}...{NEW[:12]}",
        "commits": [head],
        "head_commit": head,
        **fields,
    }


def take(ingress: Ingress, body: object, event: str = "push", **headers: str) -> Any:
    return ingress.take(delivery("github", body, SECRET, event=event, id="72d3162e-cc78-11e3-81ab-4c9367dc0958").having(**headers))


def test_a_push_from_github_has_the_effect_of_one_from_gitea(ingress: Ingress) -> None:
    answer = take(ingress, github_push())
    assert (answer.status_code, set(answer.json)) == (202, {"event", "ignored"})
    (event,) = ingress.publisher.events
    assert (event.type, event.subject, event.id) == (events.CodesetPushed.TYPE, "workspace/mnist", answer.json["event"])
    (push,) = pushed(ingress)
    assert (push.project, push.codeset, push.ref, push.before, push.commit) == ("workspace", "mnist", "refs/heads/main", OLD, NEW)
    assert (push.paths, push.message, push.pusher) == (["data.csv", "old.py", "train.py"], "train harder", "octocat")
    with ingress.store.read() as session:
        assert codesets.commits(session, "workspace", "mnist") == {"refs/heads/main": NEW}


@pytest.mark.parametrize(("reported", "known"), [("trunk", "trunk"), (None, "main"), ("x" * 300, "main")])
def test_the_default_branch_of_the_host_is_known(ingress: Ingress, reported: str | None, known: str) -> None:
    assert take(ingress, github_push(repository=repository(default_branch=reported))).status_code == 202
    with ingress.store.read() as session:
        assert codesets.default_ref(session, "workspace", "mnist") == f"refs/heads/{known}"


def test_the_paths_of_all_commits_of_a_push_count(ingress: Ingress) -> None:
    commits = [commit("1" * 40, added=["a"]), commit("2" * 40, removed=["a"], modified=["b"]), commit(NEW, modified=["b", "c"])]
    take(ingress, github_push(commits=commits, head_commit=commits[-1]))
    (push,) = pushed(ingress)
    assert (push.commit, push.paths) == (NEW, ["a", "b", "c"])


NEW_BRANCH = {"ref": "refs/heads/feature", "before": ZERO, "created": True, "base_ref": "refs/heads/main", "commits": []}
TAG = {"ref": "refs/tags/v1", "before": ZERO, "created": True, "base_ref": "refs/heads/main", "commits": []}
ANNOTATED = {**TAG, "after": "c" * 40}
FORCED = {"forced": True, "compare": "https://github.com/workspace/mnist/compare/aaaaaaaaaaaa...bbbbbbbbbbbb"}


@pytest.mark.parametrize(
    ("fields", "ref", "before"),
    [
        (NEW_BRANCH, "refs/heads/feature", None),
        (TAG, "refs/tags/v1", None),
        (ANNOTATED, "refs/tags/v1", None),
        (FORCED, "refs/heads/main", OLD),
        ({"forced": True, "commits": []}, "refs/heads/main", OLD),
        ({"ref": "refs/heads/feature/with/slashes"}, "refs/heads/feature/with/slashes", OLD),
    ],
    ids=["new branch", "tag", "annotated tag", "forced", "reset", "slashes"],
)
def test_every_kind_of_push_is_read(ingress: Ingress, fields: dict[str, object], ref: str, before: str | None) -> None:
    assert take(ingress, github_push(**fields)).status_code == 202
    (push,) = pushed(ingress)
    assert (push.ref, push.before, push.commit) == (ref, before, NEW)
    assert (push.paths is None) == (ref != "refs/heads/feature/with/slashes"), "without the paths every workflow runs"


@pytest.mark.parametrize("ref", ["refs/heads/feature", "refs/tags/v1"])
def test_a_deleted_ref_starts_nothing(ingress: Ingress, ref: str) -> None:
    answer = take(ingress, github_push(ref=ref, after=ZERO, deleted=True, commits=[], head_commit=None))
    assert (answer.status_code, answer.json["event"], ingress.publisher.events) == (202, None, [])
    assert answer.json["ignored"] == f"{ref} was deleted: there is no commit to work on"


REPOSITORY = repository(owner=user("workspace"))
OTHERS: list[tuple[str, dict[str, object], str]] = [
    ("ping", {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {"type": "Repository"}}, "only checks that the webhook can be reached"),
    ("create", {"ref": "feature", "ref_type": "branch", "master_branch": "main", "pusher_type": "user"}, "the push that is delivered next to it"),
    ("delete", {"ref": "feature", "ref_type": "branch", "pusher_type": "user"}, "there is no commit to work on"),
    ("release", {"action": "published", "release": {"tag_name": "v1"}}, "the push of its tag"),
    ("repository", {"action": "created"}, "its pushes start"),
    ("repository", {"action": "archived"}, "its pushes start"),
    ("repository", {"action": "deleted"}, "its codeset stays registered"),
    ("star", {"action": "created", "starred_at": "2026-11-20T10:30:00Z"}, "only pushes start runs"),
    ("pull_request", {"action": "opened", "number": 1}, "only pushes start runs"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "fields", "reason"), OTHERS)
def test_an_event_that_is_no_push_is_ignored_with_its_reason(ingress: Ingress, event: str, fields: dict[str, object], reason: str) -> None:
    answer = take(ingress, {**fields, "repository": REPOSITORY, "sender": user("octocat")}, event)
    assert (answer.status_code, answer.json["event"], ingress.publisher.events) == (202, None, [])
    assert reason in answer.json["ignored"]
    with ingress.store.read() as session:
        assert codesets.find_codeset(session, "workspace", "mnist") is not None


def test_a_form_is_refused_with_the_setting_to_change_on_github(ingress: Ingress) -> None:
    # GitHub's default content type.
    body = b"payload=" + urllib.parse.quote_plus('{"repository": {}}').encode()
    sent = delivery("github", body, SECRET)
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert sent.headers["X-Hub-Signature-256"] == f"sha256={mac}"
    answer = ingress.take(sent.having(Content_Type="application/x-www-form-urlencoded"))
    assert answer.status_code == 400
    assert "set its content type to application/json" in answer.json["message"]


# Gitea's recorded deliveries


@pytest.mark.parametrize(
    ("name", "ref", "before", "paths"),
    [
        ("push.branch.http", "refs/heads/main", OLD, ["data.csv", "train.py"]),
        ("push.new-branch.http", "refs/heads/feature", None, None),
        ("push.tag.http", "refs/tags/v1.0.0", None, None),
        ("push.truncated-12-commits.http", "refs/heads/main", OLD, None),
    ],
)
def test_recorded_pushes_of_gitea_become_events(ingress: Ingress, name: str, ref: str, before: str | None, paths: list[str] | None) -> None:
    answer = ingress.take(recorded("gitea", name))
    assert answer.status_code == 202, answer.text
    (push,) = pushed(ingress)
    assert (push.ref, push.before, push.commit, push.paths, push.pusher) == (ref, before, NEW, paths, "dev")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("create.branch.http", "the push that is delivered next to it"),
        ("create.tag.http", "the push that is delivered next to it"),
        ("delete.branch.http", "there is no commit to work on"),
        ("release.published.http", "the push of its tag"),
        ("repository.created.http", "its pushes start"),
        ("repository.deleted.http", "until `fuseml codeset delete`"),
    ],
)
def test_other_deliveries_of_gitea_are_ignored_with_their_reason(ingress: Ingress, name: str, reason: str) -> None:
    answer = ingress.take(recorded("gitea", name))
    assert (answer.status_code, ingress.publisher.events) == (202, [])
    assert reason in answer.json["ignored"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"null", b'{"repository": null}', b'{"repository": {"name": "mnist", "owner": []}}', b"\xff", b"[" * 100_000],
)
def test_a_body_that_is_no_delivery_is_invalid(ingress: Ingress, body: bytes) -> None:
    answer = ingress.take(delivery("gitea", body, SECRET))
    assert (answer.status_code, answer.json["name"]) == (400, "invalid")


def test_a_signed_push_without_the_host_s_headers_is_refused(ingress: Ingress) -> None:
    sent = delivery("github", github_push(), SECRET)
    answer = ingress.take(Delivery("github", sent.without("X-GitHub-Event", "X-GitHub-Delivery").headers, sent.body))
    assert answer.status_code == 400
    assert "X-Gitea-Event or X-Gitea-Delivery header (or GitHub's) is missing" in answer.json["message"]


@pytest.mark.parametrize("secret", [SECRET, "another"], ids=["verified", "refused"])
def test_a_body_is_decoded_once_and_only_after_it_is_verified(ingress: Ingress, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    body = json.dumps(github_push()).encode()
    decoded: list[object] = []
    loads = json.loads

    def recording(text: str | bytes, **options: Any) -> Any:
        decoded.append(text)
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", recording)
    answer = ingress.take(delivery("github", body, secret))
    assert answer.status_code == (202 if secret == SECRET else 401)
    assert decoded.count(body) + decoded.count(body.decode()) == (secret == SECRET)
