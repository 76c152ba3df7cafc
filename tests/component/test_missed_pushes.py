"""Missed pushes: the record of pushes of the git host, and their recovery by the housekeeper."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlmodel

from functions.housekeeper import deps as housekeeper_deps
from functions.housekeeper import pushes, service
from fuseml import githosts
from fuseml.domain import events
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import clock, secrets
from fuseml.store import codesets, deliveries, moves, outbox
from fuseml.store.tables import codeset_rows, outbox_rows
from tests import databases, event_keys

from . import endpoint, gitea, githost

if TYPE_CHECKING:
    from dulwich.repo import Repo

server, clone = githost.server, githost.clone
TICK = events.Event(events.TICK, "/test", "tick", None, endpoint.NOON, {})


def recorded(server: githost.Server, after: int = 0) -> list[githosts.Push]:
    """The recorded pushes without the ids of their deliveries, which are unique."""
    found = server.host.pushes("workspace", "mnist", after)[0]
    assert len({push.delivery for push in found}) == len(found)
    return [dataclasses.replace(push, delivery="") for push in found]


# The record


def test_the_record_contains_every_push_with_the_previous_commit(server: githost.Server, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    second = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main", "main:refs/heads/feature/a")
    clone.git("tag", "-a", "-m", "a release", "v1")
    clone.git("push", "--quiet", "origin", "v1")
    clone.git("push", "--quiet", "--force", "origin", f"{first}:main")
    clone.git("push", "--quiet", "origin", ":feature/a")
    clone.git("push", "--quiet", "origin", "main:refs/heads/feature")
    main = "refs/heads/main"
    assert recorded(server) == [
        githosts.Push(main, None, first, "ada"),
        githosts.Push(main, first, second, "ada"),
        githosts.Push("refs/heads/feature/a", None, second, "ada"),
        githosts.Push("refs/tags/v1", None, second, "ada"),
        githosts.Push(main, second, first, "ada"),
        githosts.Push("refs/heads/feature", None, second, "ada"),
    ]


def test_the_record_is_read_from_a_position(server: githost.Server, clone: githost.Clone) -> None:
    first, position = server.host.pushes("workspace", "mnist", 0)
    assert (len(first), server.host.pushes("workspace", "mnist", position)) == (1, ([], position))
    commit = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert [push.commit for push in recorded(server, position)] == [commit]


def test_the_record_does_not_contain_rejected_pushes(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    other = githost.Clone.of(server.url(), tmp_path / "other")
    accepted = clone.commit("accepted")
    clone.git("push", "--quiet", "origin", "main")
    other.commit("rejected")
    assert other.push("origin", "main").returncode != 0
    assert clone.push("origin", ":main").returncode != 0
    assert [push.commit for push in recorded(server)][1:] == [accepted]


def test_an_incomplete_line_of_the_record_is_ignored(server: githost.Server, clone: githost.Clone) -> None:
    record = server.root / "workspace" / "mnist.git" / "fuseml-pushes"
    complete = record.read_bytes()
    record.write_bytes(complete + b'{"ref": "refs/he')
    assert len(recorded(server)) == 1
    assert server.host.pushes("workspace", "mnist", 0)[1] == len(complete)
    commit = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert [push.commit for push in recorded(server, len(complete))] == [commit]
    assert len(recorded(server)) == 2


class ConcurrentPushHost(EmbeddedGitHost):
    """A host that receives a push right after each repository was opened."""

    def __init__(self, root: Path, clone: githost.Clone) -> None:
        super().__init__(root, "http://127.0.0.1:1/git")
        self._clone = clone

    @contextlib.contextmanager
    def open(self, project: str, codeset: str) -> Iterator[Repo]:
        with super().open(project, codeset) as repository:
            self._clone.commit("in between")
            self._clone.git("push", "--quiet", "origin", "main")
            yield repository


def test_a_push_during_the_read_of_the_record_is_returned_now_or_later(server: githost.Server, clone: githost.Clone) -> None:
    host, position, collected = ConcurrentPushHost(server.root, clone), 0, list[githosts.Push]()
    for _ in range(3):
        part, position = host.pushes("workspace", "mnist", position)
        collected += part
    pushed = clone.git("rev-list", "--reverse", "main").split()
    assert [push.commit for push in collected] == pushed[: len(collected)]
    assert len(collected) >= len(pushed) - 1


def test_a_repository_without_a_record_has_no_pushes(server: githost.Server) -> None:
    server.host.create_repository("workspace", "new")
    assert server.host.pushes("workspace", "new", 0) == ([], 0)


# The sweep


class Housekeeper:
    """The housekeeper with a git host whose webhooks are all lost, and the published events."""

    def __init__(self, host: githosts.GitHost, folder: Path) -> None:
        self.store = databases.on_sqlite(folder / "fuseml.db")
        engine = local.LocalEngine(
            root=folder / "runs",
            emit=lambda _event: None,
            checkout=lambda *_: (),
            seal=lambda secret: secret,
            unseal=lambda sealed: sealed,
            environments=folder / "environments",
        )
        self.published = endpoint.Publisher()
        self.deps = housekeeper_deps.Deps(
            store=self.store,
            publisher=self.published,
            signer=event_keys.SIGNER,
            git=host,
            engine=engine,
            keyring=secrets.Keyring([secrets.new_key()]),
        )
        with self.store.write() as session:
            codesets.ensure_project(session, "workspace", endpoint.NOON)
            row = codeset_rows.Codeset(project="workspace", name="mnist", url="http://x", webhook_secret="x", created=endpoint.NOON)
            codesets.add_codeset(session, row)

    def sweep(self) -> list[events.CodesetPushed]:
        """The pushes that one tick publishes; afterwards they are in the ledger, as with a broker."""
        self.published.events.clear()
        pushes.publish_missed_pushes(self.deps, TICK)
        with self.store.write() as session:
            for event in self.published.events:
                deliveries.accept(session, event, [], endpoint.NOON, 0)
        return [events.CodesetPushed.model_validate(event.data) for event in self.published.events]

    def reported(self) -> dict[str, str]:
        with self.store.read() as session:
            return dict(codesets.commits(session, "workspace", "mnist"))


@pytest.fixture
def housekeeper(server: githost.Server, tmp_path: Path) -> Iterator[Housekeeper]:
    housekeeper = Housekeeper(server.host, tmp_path)
    yield housekeeper
    housekeeper.store.close()


def test_every_missed_push_is_published_including_superseded_ones(housekeeper: Housekeeper, clone: githost.Clone) -> None:
    commits = [clone.git("rev-parse", "HEAD")]
    for number in range(3):
        commits.append(clone.commit(f"number {number}", {f"{number}.py": ""}))
        clone.git("push", "--quiet", "origin", "main")
    published = housekeeper.sweep()
    assert [(push.ref, push.before, push.commit, push.pusher) for push in published] == [
        ("refs/heads/main", before, commit, "ada") for before, commit in zip([None, *commits], commits, strict=False)
    ]
    assert [push.paths for push in published] == [None, ["0.py"], ["1.py"], ["2.py"]]
    assert housekeeper.reported() == {"refs/heads/main": commits[-1]}
    assert housekeeper.sweep() == []


class BrokenHost(EmbeddedGitHost):
    """A host that fails with an unexpected error."""

    def pushes(self, project: str, codeset: str, after: int) -> tuple[list[githosts.Push], int]:
        raise ZeroDivisionError


def test_a_failing_repair_does_not_prevent_the_others(
    housekeeper: Housekeeper, server: githost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with housekeeper.store.write() as session:
        outbox.add(session, [events.event(events.RunStarted(run="w-1", workflow="w", project="workspace"), endpoint.NOON)], clock.ago(60))
    broken = BrokenHost(server.root, "http://127.0.0.1:1/git")
    service.sweep(dataclasses.replace(housekeeper.deps, git=broken), TICK)
    assert [event.type for event in housekeeper.published.events] == [events.RunStarted.TYPE]
    assert "repair publish_missed_pushes failed; the others go on" in caplog.text


def test_reported_pushes_are_not_published_again_and_a_stale_ref_is_corrected(
    housekeeper: Housekeeper, server: githost.Server, clone: githost.Clone
) -> None:
    first = clone.git("rev-parse", "HEAD")
    housekeeper.sweep()
    second, third = clone.commit("second"), clone.commit("third")
    for commit in (second, third):
        clone.git("push", "--quiet", "origin", f"{commit}:main")
    # The webhook of the third push arrived; the known commit of the ref is that of the first one.
    delivery = server.host.pushes("workspace", "mnist", 0)[0][-1].delivery
    payload = events.CodesetPushed(
        project="workspace", codeset="mnist", ref="refs/heads/main", before=second, commit=third, registered=endpoint.NOON, push=delivery
    )
    with housekeeper.store.write() as session:
        row = codesets.codeset(session, "workspace", "mnist")
        assert moves.take(session, row, payload, "digest", endpoint.NOON).published == [payload]
        codesets.record_commit(session, row, "refs/heads/main", first, endpoint.NOON)
    assert [push.commit for push in housekeeper.sweep()] == [second]
    assert housekeeper.reported() == {"refs/heads/main": third}


def test_a_ref_that_moved_without_a_record_is_published_with_its_present_commit(
    housekeeper: Housekeeper, server: githost.Server, clone: githost.Clone
) -> None:
    first = clone.git("rev-parse", "HEAD")
    housekeeper.sweep()
    clone.commit("second")
    third = clone.commit("third")
    clone.git("push", "--quiet", str(server.root / "workspace" / "mnist.git"), "HEAD:refs/heads/main")
    assert [(push.before, push.commit) for push in housekeeper.sweep()] == [(first, third)]


def test_no_push_counts_as_reported_while_the_outbox_is_full(housekeeper: Housekeeper, clone: githost.Clone) -> None:
    started = events.event(events.RunStarted(run="w-1", workflow="w", project="demo"), endpoint.NOON)
    with housekeeper.store.write() as session:
        outbox.add(session, [started] * outbox.FULL, endpoint.NOON)
    with pytest.raises(Exception, match="10000 events wait for the broker"):
        pushes.publish_missed_pushes(housekeeper.deps, TICK)
    with housekeeper.store.write() as session:
        session.exec(sqlmodel.delete(outbox_rows.Outbox))
    assert [push.commit for push in housekeeper.sweep()] == [clone.git("rev-parse", "HEAD")]


@pytest.mark.parametrize("page", [2, 50])
@pytest.mark.parametrize("feed", ["with a feed", "without a feed"])
def test_every_push_to_gitea_during_an_outage_is_published(tmp_path: Path, page: int, feed: str) -> None:
    with gitea.fake_gitea(tmp_path / "gitea") as fake:
        fake.page, fake.without_feed = page, feed == "without a feed"
        host = githosts.connect(fake.url, gitea.TOKEN, "http://127.0.0.1:1")
        host.create_repository("workspace", "mnist")
        user = host.grant_push("workspace", "mnist", "s3cret")
        system = Housekeeper(host, tmp_path)
        address = host.clone_url("workspace", "mnist").replace("://", f"://{user}:s3cret@")
        work = githost.Clone.of(address, tmp_path / "work")
        commits = [work.commit("first")]
        work.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        assert [push.commit for push in system.sweep()] == commits
        for number in range(3):
            commits.append(work.commit(f"number {number}", {f"{number}.py": ""}))
            work.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        published = [(push.before, push.commit, push.paths) for push in system.sweep()]
        if fake.without_feed:
            assert published == [(commits[0], commits[3], None)]
        else:
            assert published == [(commits[number], commits[number + 1], [f"{number}.py"]) for number in range(3)]
        assert system.sweep() == []
        system.store.close()


def test_a_push_of_the_feed_and_its_delivery_are_one(tmp_path: Path) -> None:
    with gitea.fake_gitea(tmp_path / "gitea") as fake:
        host = githosts.connect(fake.url, gitea.TOKEN, "http://127.0.0.1:1")
        host.create_repository("workspace", "mnist")
        user = host.grant_push("workspace", "mnist", "s3cret")
        system = Housekeeper(host, tmp_path)
        work = githost.Clone.of(host.clone_url("workspace", "mnist").replace("://", f"://{user}:s3cret@"), tmp_path / "work")
        commits = [work.commit("first")]
        work.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        system.sweep()
        for number in range(3):
            commits.append(work.commit(f"number {number}"))
            work.git("push", "--quiet", "origin", "HEAD:refs/heads/main")

        def delivered(number: int) -> int:
            push = events.CodesetPushed(
                project="workspace",
                codeset="mnist",
                ref="refs/heads/main",
                before=commits[number],
                commit=commits[number + 1],
                push=f"d{number}",
            )
            with system.store.write() as session:
                return len(
                    moves.take(session, codesets.codeset(session, "workspace", "mnist"), push, f"body {number}", endpoint.NOON).published
                )

        # One delivery comes before the sweep, one after it, one never.
        assert delivered(1) == 1
        assert [push.commit for push in system.sweep()] == [commits[1], commits[3]]
        assert (delivered(0), delivered(0)) == (0, 0)
        assert system.sweep() == []
        assert system.reported() == {"refs/heads/main": commits[3]}
        system.store.close()
