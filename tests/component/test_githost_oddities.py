"""Pushes that real hosts accept: odd names, odd commits, Git LFS, tens of thousands of files."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from fuseml.domain import pushes
from fuseml.githosts import payload
from tests import commands

from . import githost

server, clone = githost.server, githost.clone


def test_a_first_branch_that_is_not_utf_8_becomes_the_default(server: githost.Server, clone: githost.Clone) -> None:
    server.host.create_repository("workspace", "empty")
    branch = b"refs/heads/caf\xe9"
    clone.git("push", "--quiet", server.url("empty"), f"HEAD:{os.fsdecode(branch)}")
    assert (server.root / "workspace" / "empty.git" / "HEAD").read_bytes() == b"ref: " + branch + b"\n"
    commit = clone.git("rev-parse", "HEAD")
    assert server.host.heads("workspace", "empty") == {"refs/heads/caf\ufffd": commit}
    assert [push.ref for push in server.host.pushes("workspace", "empty", 0)[0]] == ["refs/heads/caf\ufffd"]
    pushed = [body for event, body in server.new_deliveries() if event == "push"]
    assert [(body["ref"], body["after"]) for body in pushed] == [("refs/heads/caf\ufffd", commit)]


@pytest.mark.parametrize("head", [b"ref: refs/heads/nowhere\n", b"0" * 40 + b"\n"])
def test_an_odd_head_is_mended_by_the_next_branch(server: githost.Server, clone: githost.Clone, head: bytes) -> None:
    (server.root / "workspace" / "mnist.git" / "HEAD").write_bytes(head)
    clone.git("push", "--quiet", "origin", "main:refs/heads/other")
    assert (server.root / "workspace" / "mnist.git" / "HEAD").read_bytes() == b"ref: refs/heads/other\n"


AUTHORS = {
    "without brackets": "Ada ada@example.com 1790000000 +0100",
    "without a date": "Ada <ada@example.com>",
    "without anything": "",
    "with a bracket too many": "Ada <ada@example.com>> 1790000000 +0100",
    "that is not UTF-8": "Ad\udce9 <ada@example.com> 1790000000 +0100",
}


@pytest.mark.parametrize("author", list(AUTHORS.values()), ids=list(AUTHORS))
def test_a_commit_with_a_broken_author_is_accepted_and_delivered(server: githost.Server, clone: githost.Clone, author: str) -> None:
    tree, parent = clone.git("rev-parse", "HEAD^{tree}"), clone.git("rev-parse", "HEAD")
    raw = f"tree {tree}\nparent {parent}\nauthor {author}\ncommitter Ada <ada@example.com> 1790000000 +0100\n\nbroken\n"
    (clone.folder / ".git" / "raw").write_bytes(raw.encode("utf-8", "surrogateescape"))
    commit = clone.git("hash-object", "-t", "commit", "-w", "--literally", ".git/raw")
    clone.git("push", "--quiet", "origin", f"{commit}:main")
    [(event, body)] = server.new_deliveries()
    assert (event, body["after"], body["head_commit"]["message"]) == ("push", commit, "broken\n")
    assert [push.commit for push in server.host.pushes("workspace", "mnist", 0)[0]][-1] == commit


@pytest.mark.parametrize("committer", ["Ada <ada@example.com> yesterday +0100", "Ada <ada@example.com>"])
def test_a_commit_without_a_readable_date_is_refused_with_the_reason(server: githost.Server, clone: githost.Clone, committer: str) -> None:
    tree, parent = clone.git("rev-parse", "HEAD^{tree}"), clone.git("rev-parse", "HEAD")
    raw = f"tree {tree}\nparent {parent}\nauthor Ada <ada@example.com> 1790000000 +0100\ncommitter {committer}\n\nbroken\n"
    (clone.folder / ".git" / "raw").write_text(raw)
    commit = clone.git("hash-object", "-t", "commit", "-w", "--literally", ".git/raw")
    process = clone.push("origin", f"{commit}:main")
    assert process.returncode != 0
    assert "author or committer line without a valid date" in process.stderr
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": parent}


def test_files_in_git_lfs_are_hinted_at(server: githost.Server, clone: githost.Clone) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    clone.commit("lfs", {".gitattributes": "*.csv filter=lfs diff=lfs merge=lfs -text\n", "data.csv": pointer})
    process = clone.push("origin", "main")
    assert process.returncode == 0
    assert "no content of such a file was pushed here" in process.stderr
    clone.git("rm", "--quiet", ".gitattributes", "data.csv")
    clone.commit("without")
    assert "LFS" not in clone.push("origin", "main").stderr


def test_git_lfs_learns_that_there_are_no_locks(server: githost.Server) -> None:
    status, headers, body = githost.get(server, "/git/workspace/mnist.git/info/lfs/locks/verify")
    assert (status, headers["Content-Type"]) == (501, "application/vnd.git-lfs+json")
    assert "no locks" in json.loads(body)["message"]


def test_forty_thousand_changed_files_are_pushed_and_delivered(server: githost.Server, clone: githost.Clone) -> None:
    count = 40_000
    lines = ["commit refs/heads/main\ncommitter Ada <ada@example.com> 1790000000 +0000\ndata 4\nmany\nfrom refs/heads/main^0\n"]
    lines += [f"M 644 inline data/part-{number % 97}/{number}-{'x' * 60}.csv\ndata 1\nx\n" for number in range(count)]
    commands.run(["git", "fast-import", "--quiet"], cwd=clone.folder, environment=githost.ENVIRONMENT, text="".join(lines))
    before, after = server.host.heads("workspace", "mnist")["refs/heads/main"], clone.git("rev-parse", "main")
    clone.git("push", "--quiet", "origin", "main")
    push = githost.parse_push(server.deliveries[-1])
    assert (push.before, push.commit, push.paths) == (before, after, None)
    assert len(server.deliveries[-1].body) < 100_000
    assert server.host.changed_paths("workspace", "mnist", before, after) is None
    small = clone.git("commit-tree", f"{after}^{{tree}}", "-p", after, "-m", "small")
    clone.git("push", "--quiet", "origin", f"{small}:main")
    assert server.host.changed_paths("workspace", "mnist", after, small) == []
    assert count > pushes.MAX_PATHS


def test_a_push_that_lists_no_ref_twice_is_required(server: githost.Server, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    command = f"{payload.ZERO} {first} refs/heads/twice"
    body = githost.packet(f"{command}\0 report-status".encode()) + githost.packet(command.encode()) + b"0000"
    empty = b"PACK\0\0\0\x02\0\0\0\0"
    body += empty + hashlib.sha1(empty).digest()
    status, _, answer = githost.post(server, "git-receive-pack", body)
    assert status == 200
    assert answer.count(b"the push moves it more than once") == 2
    assert "refs/heads/twice" not in server.host.heads("workspace", "mnist")
