"""Pushes that nobody was told of: what the git host writes down of a push, and what the housekeeper makes of it."""

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
from fuseml.store import codesets, database, deliveries, outbox
from fuseml.store.tables import codeset_rows, outbox_rows

from . import endpoint, githost

if TYPE_CHECKING:
    from dulwich.repo import Repo

server, clone = githost.server, githost.clone
TICK = events.Event(events.TICK, "/test", "tick", None, endpoint.NOON, {})


def recorded(server: githost.Server, after: int = 0) -> list[githosts.Push]:
    return list(server.host.pushes("workspace", "mnist", after)[0])


# The record


def test_every_push_is_in_the_record_with_where_its_ref_was(server: githost.Server, clone: githost.Clone) -> None:
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


def test_the_record_is_read_from_where_one_stopped(server: githost.Server, clone: githost.Clone) -> None:
    found, position = server.host.pushes("workspace", "mnist", 0)
    assert (len(found), server.host.pushes("workspace", "mnist", position)) == (1, ([], position))
    commit = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert [push.commit for push in recorded(server, position)] == [commit]


def test_a_push_that_was_refused_is_not_in_the_record(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    other = githost.Clone.of(server.url(), tmp_path / "other")
    theirs = clone.commit("theirs")
    clone.git("push", "--quiet", "origin", "main")
    other.commit("ours")
    assert other.push("origin", "main").returncode != 0
    assert clone.push("origin", ":main").returncode != 0
    assert [push.commit for push in recorded(server)][1:] == [theirs]


def test_a_line_that_was_not_finished_is_not_believed(server: githost.Server, clone: githost.Clone) -> None:
    record = server.root / "workspace" / "mnist.git" / "fuseml-pushes"
    whole = record.read_bytes()
    record.write_bytes(whole + b'{"ref": "refs/he')
    assert len(recorded(server)) == 1
    assert server.host.pushes("workspace", "mnist", 0)[1] == len(whole)
    commit = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    assert [push.commit for push in recorded(server, len(whole))] == [commit]
    assert len(recorded(server)) == 2


class Raced(EmbeddedGitHost):
    """Somebody pushes right after each repository was opened."""

    def __init__(self, root: Path, clone: githost.Clone) -> None:
        super().__init__(root, "http://127.0.0.1:1/git")
        self._clone = clone

    @contextlib.contextmanager
    def open(self, project: str, codeset: str) -> Iterator[Repo]:
        with super().open(project, codeset) as repository:
            self._clone.commit("in between")
            self._clone.git("push", "--quiet", "origin", "main")
            yield repository


def test_a_push_that_comes_while_the_record_is_read_is_told_now_or_later(server: githost.Server, clone: githost.Clone) -> None:
    host, position, found = Raced(server.root, clone), 0, list[githosts.Push]()
    for _ in range(3):
        told, position = host.pushes("workspace", "mnist", position)
        found += told
    pushed = clone.git("rev-list", "--reverse", "main").split()
    assert [push.commit for push in found] == pushed[: len(found)]
    assert len(found) >= len(pushed) - 1


def test_a_repository_without_a_record_has_no_pushes_to_tell(server: githost.Server) -> None:
    server.host.create_repository("workspace", "new")
    assert server.host.pushes("workspace", "new", 0) == ([], 0)


# The sweep


class House:
    """The housekeeper's repair over the git host, whose webhooks all get lost, and the events that came of it."""

    def __init__(self, server: githost.Server, folder: Path) -> None:
        self.store = database.Database(f"sqlite:///{folder}/fuseml.db")
        self.store.migrate()
        engine = local.LocalEngine(
            root=folder / "runs",
            emit=lambda _event: None,
            checkout=lambda *_: None,
            seal=lambda secret: secret,
            unseal=lambda sealed: sealed,
            environments=folder / "environments",
        )
        self.published = endpoint.Publisher()
        self.deps = housekeeper_deps.Deps(
            store=self.store,
            publisher=self.published,
            git=server.host,
            engine=engine,
            keyring=secrets.Keyring([secrets.new_key()]),
        )
        with self.store.write() as session:
            codesets.ensure_project(session, "workspace", endpoint.NOON)
            row = codeset_rows.Codeset(project="workspace", name="mnist", url="http://x", webhook_secret="x", created=endpoint.NOON)
            codesets.add_codeset(session, row)

    def sweep(self) -> list[events.CodesetPushed]:
        """The pushes that one tick tells; they are in the ledger from then on, as with a broker."""
        self.published.taken.clear()
        pushes.report_missed_pushes(self.deps, TICK)
        with self.store.write() as session:
            for event in self.published.taken:
                deliveries.accept(session, event, [], endpoint.NOON, 0)
        return [events.CodesetPushed.model_validate(event.data) for event in self.published.taken]

    def announced(self) -> dict[str, str]:
        with self.store.read() as session:
            return dict(codesets.announced(session, "workspace", "mnist"))


@pytest.fixture
def house(server: githost.Server, tmp_path: Path) -> Iterator[House]:
    house = House(server, tmp_path)
    yield house
    house.store.close()


def test_every_push_is_told_also_those_that_later_ones_overtook(house: House, clone: githost.Clone) -> None:
    commits = [clone.git("rev-parse", "HEAD")]
    for number in range(3):
        commits.append(clone.commit(f"number {number}", {f"{number}.py": ""}))
        clone.git("push", "--quiet", "origin", "main")
    told = house.sweep()
    assert [(push.ref, push.before, push.commit, push.pusher) for push in told] == [
        ("refs/heads/main", before, commit, "ada") for before, commit in zip([None, *commits], commits, strict=False)
    ]
    assert [push.paths for push in told] == [None, ["0.py"], ["1.py"], ["2.py"]]
    assert house.announced() == {"refs/heads/main": commits[-1]}
    assert house.sweep() == []


class Broken(EmbeddedGitHost):
    """Fails in a way that nobody foresaw."""

    def pushes(self, project: str, codeset: str, after: int) -> tuple[list[githosts.Push], int]:
        raise ZeroDivisionError


def test_a_repair_that_breaks_does_not_keep_the_others_from_their_work(
    house: House, server: githost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with house.store.write() as session:
        outbox.add(session, [events.event(events.RunStarted(run="w-1", workflow="w", project="workspace"), endpoint.NOON)], clock.ago(60))
    broken = Broken(server.root, "http://127.0.0.1:1/git")
    service.sweep(dataclasses.replace(house.deps, git=broken), TICK)
    assert [event.type for event in house.published.taken] == [events.RunStarted.TYPE]
    assert "repair report_missed_pushes failed; the others go on" in caplog.text


def test_what_was_told_is_not_told_again_and_a_stale_ref_is_put_right(house: House, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    house.sweep()
    second, third = clone.commit("second"), clone.commit("third")
    for commit in (second, third):
        clone.git("push", "--quiet", "origin", f"{commit}:main")
    # The third one's webhook came, then a late copy of the first one's.
    payload = events.CodesetPushed(
        project="workspace", codeset="mnist", ref="refs/heads/main", before=second, commit=third, registered=endpoint.NOON
    )
    with house.store.write() as session:
        deliveries.accept(session, events.event(payload, endpoint.NOON), [], endpoint.NOON, 0)
        codesets.announce(session, codesets.codeset(session, "workspace", "mnist"), "refs/heads/main", first, endpoint.NOON)
    assert [push.commit for push in house.sweep()] == [second]
    assert house.announced() == {"refs/heads/main": third}


def test_a_ref_that_moved_without_a_record_is_told_where_it_is(house: House, server: githost.Server, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    house.sweep()
    clone.commit("second")
    third = clone.commit("third")
    clone.git("push", "--quiet", str(server.root / "workspace" / "mnist.git"), "HEAD:refs/heads/main")
    assert [(push.before, push.commit) for push in house.sweep()] == [(first, third)]


def test_nothing_is_taken_as_told_while_the_outbox_is_full(house: House, clone: githost.Clone) -> None:
    started = events.event(events.RunStarted(run="w-1", workflow="w", project="demo"), endpoint.NOON)
    with house.store.write() as session:
        outbox.add(session, [started] * outbox.FULL, endpoint.NOON)
    with pytest.raises(Exception, match="10000 events wait for the broker"):
        pushes.report_missed_pushes(house.deps, TICK)
    with house.store.write() as session:
        session.exec(sqlmodel.delete(outbox_rows.Outbox))
    assert [push.commit for push in house.sweep()] == [clone.git("rev-parse", "HEAD")]
