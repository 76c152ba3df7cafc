"""Webhooks of the embedded git host: the deliveries that Gitea would send for a push."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuseml.githosts import payload, smart_http
from fuseml.webhooks import gitea, wire
from tests import deliveries

from . import githost

server, clone = githost.server, githost.clone


def test_a_push_is_delivered_as_by_gitea(server: githost.Server, clone: githost.Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    (clone.folder / "train.py").rename(clone.folder / "fit.py")
    clone.commit("second", {"data/rows.csv": "1,2\n"})
    after = clone.commit("third\n\nwith a body", {"fit.py": "print(2)\n"})
    clone.git("push", "--quiet", "origin", "main")
    push = githost.parse_push(server.deliveries[0])
    [(event, body)] = server.new_deliveries()
    assert (event, body["ref"], body["before"], body["after"], body["total_commits"]) == ("push", "refs/heads/main", before, after, 2)
    assert [commit["message"] for commit in body["commits"]] == ["third\n\nwith a body\n", "second\n"]
    assert body["commits"][0] == body["head_commit"]
    second = body["commits"][1]
    assert (second["added"], second["removed"], second["modified"]) == (["data/rows.csv", "fit.py"], ["train.py"], [])
    assert second["author"] == {"name": "Ada", "email": "ada@example.com", "username": ""}
    assert second["timestamp"] == "2026-11-20T10:30:00+01:00"
    assert body["repository"]["owner"]["username"] == "workspace"
    assert body["repository"]["clone_url"] == server.host.clone_url("workspace", "mnist")
    assert push == gitea.Push(
        "workspace",
        "mnist",
        "refs/heads/main",
        before,
        after,
        ("data/rows.csv", "fit.py", "train.py"),
        "third\n\nwith a body\n",
        "ada",
        push.delivery_id,
        "main",
    )


def test_the_body_has_the_fields_of_a_recorded_delivery(server: githost.Server, clone: githost.Clone) -> None:
    headers, content = deliveries.read("gitea", "push.branch.http")
    clone.commit("second", {"data.csv": "1"})
    clone.git("push", "--quiet", "origin", "main")
    [delivery] = server.deliveries
    recorded, body = json.loads(content), json.loads(delivery.body)
    assert set(body) == set(recorded)
    assert set(body["commits"][0]) == set(recorded["commits"][0])
    for part in ("repository", "pusher", "sender"):
        assert set(body[part]) <= set(recorded[part])
    assert set(delivery.headers) <= set(headers)


def test_only_the_newest_commits_of_a_long_push_are_listed(server: githost.Server, clone: githost.Clone) -> None:
    commits = [clone.commit(f"number {number}") for number in range(7)]
    clone.git("push", "--quiet", "origin", "main")
    assert githost.parse_push(server.deliveries[0]).paths is None
    [(_, body)] = server.new_deliveries()
    assert body["total_commits"] == 7
    assert [commit["id"] for commit in body["commits"]] == commits[:1:-1]
    assert body["head_commit"]["id"] == commits[-1]


def test_a_new_branch_is_created_and_pushed(server: githost.Server, clone: githost.Clone) -> None:
    for number in range(12):
        after = clone.commit(f"number {number}")
    clone.git("push", "--quiet", "origin", "HEAD:refs/heads/feature/a")
    (created, first), (pushed, second) = server.new_deliveries()
    assert (created, first["ref"], first["ref_type"], first["sha"]) == ("create", "feature/a", "branch", after)
    assert (pushed, second["before"], second["after"], second["total_commits"]) == ("push", payload.ZERO, after, payload.NEW_BRANCH_COMMITS)


@pytest.mark.parametrize("options", [[], ["-a", "-m", "a release"]], ids=["lightweight", "annotated"])
def test_a_tag_is_delivered_as_push_and_create_with_its_commit(server: githost.Server, clone: githost.Clone, options: list[str]) -> None:
    commit = clone.git("rev-parse", "HEAD")
    clone.git("tag", *options, "v1")
    clone.git("push", "--quiet", "origin", "v1")
    push = githost.parse_push(server.deliveries[0])
    assert (push.ref, push.commit, push.before, push.paths) == ("refs/tags/v1", commit, None, None)
    (_, body), (event, created) = server.new_deliveries()
    assert (body["after"], body["commits"], event, created["ref_type"]) == (clone.git("rev-parse", "v1"), [], "create", "tag")
    assert server.host.heads("workspace", "mnist")["refs/tags/v1"] == commit


def test_a_forced_push_is_delivered_and_the_lost_commit_can_still_be_exported(
    server: githost.Server, clone: githost.Clone, tmp_path: Path
) -> None:
    lost = clone.commit("a mistake", {"train.py": "print('lost')\n"})
    clone.git("push", "--quiet", "origin", "main")
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    kept = clone.commit("better", {"train.py": "print('kept')\n"})
    clone.git("push", "--quiet", "--force", "origin", "main")
    _, (_, body) = server.new_deliveries()
    assert (body["before"], body["after"], [commit["id"] for commit in body["commits"]]) == (lost, kept, [kept])
    server.host.export("workspace", "mnist", lost, tmp_path / "lost")
    assert (tmp_path / "lost" / "train.py").read_text() == "print('lost')\n"


def test_a_reset_branch_is_delivered_without_paths(server: githost.Server, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    clone.git("push", "--quiet", "--force", "origin", f"{first}:main")
    push = githost.parse_push(server.deliveries[-1])
    assert (push.commit, push.paths) == (first, None)


def test_a_commit_with_an_invalid_date_is_delivered(server: githost.Server, clone: githost.Clone) -> None:
    raw = clone.git("cat-file", "commit", "HEAD").replace("+0100", "+51800")
    (clone.folder / ".git" / "raw").write_text(raw + "\n")
    commit = clone.git("hash-object", "-t", "commit", "-w", "--literally", ".git/raw")
    clone.git("push", "--quiet", "--force", "origin", f"{commit}:main")
    [(_, body)] = server.new_deliveries()
    assert (body["after"], body["head_commit"]["timestamp"]) == (commit, "0001-01-01T00:00:00Z")


def test_deletions_are_delivered_and_ignored_by_the_ingress(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:refs/heads/feature", "main:refs/tags/v1")
    server.new_deliveries()
    clone.git("push", "--quiet", "origin", ":refs/heads/feature", ":refs/tags/v1")
    assert all(isinstance(gitea.read_push(gitea.decode(delivery.headers, delivery.body)), wire.Ignored) for delivery in server.deliveries)
    delivered = [(event, body["ref"], body.get("after")) for event, body in server.new_deliveries()]
    assert delivered == [("delete", "feature", None), ("push", "refs/tags/v1", payload.ZERO), ("delete", "v1", None)]
    assert list(server.host.heads("workspace", "mnist")) == ["refs/heads/main"]


def test_refs_that_are_neither_branch_nor_tag_are_stored_without_a_delivery(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("notes", "add", "-m", "a note")
    clone.git("push", "--quiet", "--mirror", "origin")
    assert server.new_deliveries() == []
    assert "refs/notes/commits" in clone.git("ls-remote", "origin")


def test_a_failing_delivery_is_logged_and_does_not_fail_the_push(
    server: githost.Server, clone: githost.Clone, caplog: pytest.LogCaptureFixture
) -> None:
    def deliver(delivery: payload.Delivery) -> None:
        raise OSError("the disk is full")

    app = smart_http.SmartHttp(server.host, authorise=lambda *_: True, deliver=deliver, secret=lambda *_: githost.SECRET)
    server.serve(app)
    commit = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist")["refs/heads/main"] == commit
    assert "the webhooks of refs/heads/main in workspace/mnist were not delivered" in caplog.text
    assert githost.SECRET not in caplog.text
