"""Moves of refs on the embedded git host: all or nothing, in one step with the record, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuseml.githosts import payload, ref_moves
from fuseml.githosts.embedded import EmbeddedGitHost
from tests import commands

from . import githost

server, clone = githost.server, githost.clone


def folder(server: githost.Server) -> Path:
    return server.root / "workspace" / "mnist.git"


def refs(server: githost.Server) -> dict[str, str]:
    return server.host.heads("workspace", "mnist")


def recorded(server: githost.Server) -> list[tuple[str, str | None, str]]:
    return [(push.ref, push.before, push.commit) for push in server.host.pushes("workspace", "mnist", 0)[0]]


def lock(server: githost.Server, ref: str) -> Path:
    path = folder(server) / f"{ref}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_ref_that_is_a_folder_of_another_is_refused_with_the_reason(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:refs/heads/a/b/c")
    for name in ("a", "a/b", "a/b/c/d"):
        process = clone.push("origin", f"main:refs/heads/{name}")
        assert process.returncode != 0
        assert "refs/heads/a/b/c exists, and no ref can be both a name and a folder" in process.stderr
    clone.git("push", "--quiet", "origin", ":refs/heads/a/b/c", "main:refs/heads/a")
    assert set(refs(server)) == {"refs/heads/main", "refs/heads/a"}


FAILURES = {
    "a folder": ["main:refs/heads/main/below"],
    "a locked ref": ["main:refs/heads/locked"],
    "two conflicting new refs": ["main:refs/heads/x", "main:refs/heads/x/y"],
    "a missing deletion": ["main:refs/heads/locked", ":refs/heads/kept"],
}


@pytest.mark.parametrize("failing", list(FAILURES.values()), ids=list(FAILURES))
@pytest.mark.parametrize("first", [True, False])
def test_an_atomic_push_has_no_effect_when_one_ref_cannot_move(
    server: githost.Server, clone: githost.Clone, failing: list[str], first: bool
) -> None:
    clone.git("push", "--quiet", "origin", "main:refs/heads/kept")
    lock(server, "refs/heads/locked")
    before, record = refs(server), recorded(server)
    server.new_deliveries()
    clone.commit("second")
    good = ["main:refs/heads/main", "main:refs/heads/new", "main:refs/tags/v1"]
    commands = [*failing, *good] if first else [*good, *failing]
    process = clone.push("--atomic", "origin", *commands)
    assert process.returncode != 0
    assert "atomic push failed" in process.stderr
    assert (refs(server), recorded(server), server.new_deliveries()) == (before, record, [])
    assert not (folder(server) / payload.INTENT).exists()


def test_without_atomic_the_other_refs_move(server: githost.Server, clone: githost.Clone) -> None:
    blocked = lock(server, "refs/heads/locked")
    second = clone.commit("second")
    process = clone.push("origin", "main", "main:refs/heads/locked", "main:refs/heads/other")
    assert process.returncode != 0
    assert "it is locked by another process" in process.stderr
    assert refs(server) == {"refs/heads/main": second, "refs/heads/other": second}
    assert [ref for ref, _, _ in recorded(server)][1:] == ["refs/heads/main", "refs/heads/other"]
    blocked.unlink()
    clone.git("push", "--quiet", "origin", "main:refs/heads/locked")
    assert recorded(server)[-1] == ("refs/heads/locked", None, second)


@pytest.mark.parametrize("part", ["_write", "_append"])
@pytest.mark.parametrize("atomic", [["--atomic"], []])
def test_a_full_disk_refuses_the_push_without_an_effect(
    server: githost.Server, clone: githost.Clone, monkeypatch: pytest.MonkeyPatch, part: str, atomic: list[str]
) -> None:
    before, record = refs(server), recorded(server)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(ref_moves, part, full)
        clone.commit("second")
        process = clone.push(*atomic, "origin", "main", "main:refs/heads/new")
    assert process.returncode != 0
    assert "it cannot be recorded: No space left on device" in process.stderr
    assert (refs(server), recorded(server)) == (before, record)
    clone.git("push", "--quiet", "origin", "main", "main:refs/heads/new")
    assert len(recorded(server)) == len(record) + 2


class Killed(BaseException):
    """The process ends here; no handler of the code under test may catch it."""


# Where the process dies: before it has made this many steps of a push of two refs.
STEPS = range(6)


@pytest.mark.parametrize("died_at", STEPS)
@pytest.mark.parametrize("atomic", [True, False])
def test_a_process_killed_in_a_push_leaves_refs_and_record_equal(
    server: githost.Server, clone: githost.Clone, monkeypatch: pytest.MonkeyPatch, died_at: int, atomic: bool
) -> None:
    first, second = clone.git("rev-parse", "HEAD"), clone.commit("second")
    clone.git("push", "--quiet", "origin", "main:refs/heads/objects")
    before, record = refs(server), recorded(server)
    steps = 0

    def dying(function: object) -> object:
        def call(*arguments: object) -> object:
            nonlocal steps
            if steps == died_at:
                raise Killed
            steps += 1
            return function(*arguments)  # type: ignore[operator]

        return call

    changes = [payload.Change("refs/heads/main", first, second), payload.Change("refs/tags/v1", payload.ZERO, second)]
    with monkeypatch.context() as patched, server.host.open("workspace", "mnist") as repository:
        for part in ("_write", "_move", "_append"):
            patched.setattr(ref_moves, part, dying(getattr(ref_moves, part)))
        patched.setattr(Path, "unlink", dying(Path.unlink))
        with contextlib.suppress(Killed):
            ref_moves.move(repository.refs, folder(server), changes, "ada", atomic=atomic)
    restarted = EmbeddedGitHost(server.root, "http://127.0.0.1:1/git")
    restarted.recover()
    moved = {ref: commit for ref, commit in restarted.heads("workspace", "mnist").items() if before.get(ref) != commit}
    for _ in range(2):
        pushes = restarted.pushes("workspace", "mnist", 0)[0]
        assert {push.ref: push.commit for push in pushes[len(record) :]} == moved
        assert len(pushes) == len(record) + len(moved)
    if atomic:
        assert len(moved) in (0, 2)
    assert not (folder(server) / payload.INTENT).exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"atomic": fal'])
def test_an_intent_that_was_cut_off_has_moved_nothing(server: githost.Server, clone: githost.Clone, content: bytes) -> None:
    before = recorded(server)
    (folder(server) / payload.INTENT).write_bytes(content)
    assert recorded(server) == before
    second = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert recorded(server)[-1][2] == second


def test_every_push_has_the_id_of_its_delivery(server: githost.Server, clone: githost.Clone) -> None:
    first, second = clone.git("rev-parse", "HEAD"), clone.commit("second")
    for target in (second, first, second):
        clone.git("push", "--quiet", "--force", "origin", f"{target}:main")
    delivered = [delivery.id for delivery in server.deliveries if delivery.event == "push"]
    pushes = server.host.pushes("workspace", "mnist", 0)[0]
    assert [push.delivery for push in pushes][1:] == delivered
    assert [(push.before, push.commit) for push in pushes[1:]] == [(first, second), (second, first), (first, second)]


def test_a_push_of_hundreds_of_refs_is_recorded_and_delivered(server: githost.Server, clone: githost.Clone) -> None:
    count = 300
    tags = "".join(f"create refs/tags/v{number} HEAD\n" for number in range(count))
    commands.run(["git", "update-ref", "--stdin"], cwd=clone.folder, environment=githost.ENVIRONMENT, text=tags)
    clone.git("push", "--quiet", "--tags", "origin")
    assert len(recorded(server)) == count + 1
    assert sum(event == "push" for event, _ in server.new_deliveries()) == count


def _created(changes: Sequence[tuple[str, str | None, str]]) -> list[str]:
    return [ref for ref, before, _ in changes if before is None]


def test_a_branch_may_have_the_name_of_a_tag(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:refs/heads/v1", "main:refs/tags/v1")
    assert _created(recorded(server))[1:] == ["refs/heads/v1", "refs/tags/v1"]
    assert [body["ref"] for event, body in server.new_deliveries() if event == "push"] == ["refs/heads/v1", "refs/tags/v1"]
