"""Data that a push brings to DVC: recorded at once by the event, or later by the sweep, once, with its origin, on both databases."""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.housekeeper import datasets
from fuseml.domain import errors, events, times
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifact_names, artifacts, codesets, database, decisions
from fuseml.store.tables import codeset_rows
from tests.component.following import MAIN, Following, address, data
from tests.component.test_artifact_dvc import config

A, B, C, D = (letter * 32 for letter in "abcd")


@pytest.fixture
def following(tmp_path: Path, store: database.Database) -> Following:
    return Following(tmp_path, store)


def test_a_push_brings_a_version_with_its_origin_by_event_or_sweep(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    first = following.push(clone, {**data(A), **data(B, "raw/images")})
    assert following.deliver(following.event(first)) == [address(B, "raw/images"), address(A)]
    assert following.tick() == []
    second = following.push(clone, data(C))
    assert following.tick() == [address(C)]
    assert following.deliver(following.event(second, first)) == []

    row = following.recorded()[address(C)]
    assert (row.format, row.digest, row.size, row.run) == ("dvc", f"md5:{C}", 4, None)
    assert row.location == f"{following.remote.as_uri()}/files/md5/{C[:2]}/{C[2:]}"
    assert row.details == {"uri": row.location, "store": "data/store", "path": "rows.csv", "commit": second}
    assert following.sources(address(C)) == [f"code://demo/iris/{second}"]
    assert following.sources(address(B, "raw/images")) == [f"code://demo/iris/{first}"]


def test_data_that_returns_is_the_same_version(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    commits = [following.push(clone, data(hash)) for hash in (A, B, A)]
    for before, commit in itertools.pairwise([None, *commits]):
        following.deliver(following.event(str(commit), before))
    assert following.sources(address(A)) == [f"code://demo/iris/{commits[0]}"]
    assert following.tick() == []


@pytest.mark.parametrize("order", list(itertools.permutations("12s")))
def test_events_and_sweeps_in_any_order_start_each_pushed_version_once(following: Following, order: tuple[str, ...]) -> None:
    following.register_dvc()
    clone = following.codeset()
    first = following.push(clone, data(A))
    second = following.push(clone, data(B))
    deliveries = {"1": following.event(first), "2": following.event(second, first)}
    announced: list[str] = []
    for each in [*order, *order]:
        announced += following.tick() if each == "s" else following.deliver(deliveries[each])
    # A reply is repeated, with the id of the original event.
    assert sorted(set(announced)) == [address(A), address(B)]
    assert following.sources(address(A)) == [f"code://demo/iris/{first}"]


def test_a_push_of_several_commits_brings_what_it_leads_to(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    commit = following.push(clone, data(A), data(B))
    assert following.deliver(following.event(commit)) == [address(B)]
    assert following.tick() == []
    assert sorted(following.recorded()) == [address(B)]


def test_only_the_default_branch_brings_versions(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    first = following.push(clone, data(A))
    following.tick()
    clone.git("checkout", "--quiet", "-b", "aside")
    aside = clone.commit("aside", data(B))
    clone.git("push", "--quiet", "origin", "aside")
    assert following.deliver(following.event(aside, ref="refs/heads/aside")) == []
    assert following.tick() == []
    clone.git("push", "--quiet", "origin", "aside:main")
    assert following.deliver(following.event(aside, first)) == [address(B)]


# Registration


def test_data_from_before_the_registration_is_recorded_and_starts_nothing(following: Following) -> None:
    clone = following.codeset()
    following.push_old(clone, data(A), data(B))
    following.tick()
    following.register_dvc()
    late = following.event(clone.git("rev-parse", "HEAD"), time=times.shift(clock.now(), -60))
    assert following.deliver(late) == []
    assert following.tick() == []
    assert sorted(following.recorded()) == [address(A), address(B)]
    [first, _] = clone.git("rev-list", "--reverse", "main").split()
    assert following.sources(address(A)) == [f"code://demo/iris/{first}"]
    following.push(clone, data(C))
    assert following.tick() == [address(C)]


def test_a_push_between_the_registration_and_the_first_sweep_starts_what_it_brings(following: Following) -> None:
    clone = following.codeset()
    following.push(clone, {**data(A), **data(B, "other.csv")})
    following.tick()
    following.register_dvc()
    following.push(clone, data(C))
    assert following.tick() == [address(C)]


def test_a_long_history_is_recorded_little_by_little(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = following.codeset()
    hashes = [f"{number:031d}f" for number in range(7)]
    following.push_old(clone, *({**data(hash), **data(hash, "two.csv")} for hash in hashes))
    following.tick()
    following.register_dvc()
    monkeypatch.setattr(datasets, "_MOST", 3)
    counts = []
    for _ in range(8):
        assert following.tick() == []
        counts.append(len(following.recorded()))
    assert counts[0] < counts[1] < counts[-1] == 14
    following.git.asked.clear()
    following.tick()
    assert following.git.asked == []


def test_a_store_that_is_registered_again_is_another_one_and_old_positions_go(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    following.push(clone, data(A))
    following.tick()
    [former] = following.positions()
    assert following.registry.client.delete("/extensions/data?force=true").status_code == 204
    following.tick()
    assert following.positions() == {}
    following.register_dvc()
    following.tick()
    [present] = following.positions()
    assert former != present
    assert sorted(following.recorded()) == [address(A)]


def test_a_store_whose_address_is_put_right_brings_what_it_has_missed(following: Following) -> None:
    following.register_dvc(url="s3://mistaken")
    clone = following.codeset()
    following.push(clone, {**data(A), **data(B, "other.csv")})
    assert following.tick() == []
    record = following.registry.client.get("/extensions/data").get_json()
    record["services"][0]["endpoints"] = [{"url": following.remote.as_uri()}]
    answer = following.registry.client.put("/extensions/data", json={"services": record["services"]})
    assert answer.status_code == 200, answer.text
    assert following.tick() == [address(B, "other.csv"), address(A)]
    assert len(following.positions()) == 1


# Which store


def test_a_codeset_whose_remote_is_another_one_is_recorded_by_the_store_of_that(following: Following) -> None:
    following.register_dvc("elsewhere", url="s3://other/dvc")
    clone = following.codeset()
    first = following.push(clone, data(A))
    event = following.event(first)
    assert following.deliver(event) == []
    with following.store.read() as session:
        [decision] = decisions.of_event(session, event.source, event.id)
    assert decision.commit == first
    assert "is not the one of the store's record" in decision.reason
    assert following.tick() == []
    following.register_dvc("data")
    second = following.push(clone, data(B))
    assert following.deliver(following.event(second, first)) == [address(B)]
    following.tick()
    assert {row.details["store"] for row in following.recorded().values()} == {"data/store"}
    # From now on the contents are on the other remote.
    clone.git("rm", "--quiet", ".dvc/config")
    third = clone.commit("moved", {".dvc/config": config("s3://other/dvc/deep"), **data(C)})
    clone.git("push", "--quiet", "origin", "main")
    assert following.deliver(following.event(third, second)) == [address(C)]
    assert following.recorded()[address(C)].details["store"] == "elsewhere/store"


def test_only_projects_that_find_the_store_have_their_data_recorded(following: Following) -> None:
    account = {"id": "account", "scope": "project", "projects": ["demo"], "configuration": {"AWS_SECRET_ACCESS_KEY": "x"}}
    following.register_dvc(auth_required=True, credentials=[account])
    for project in ("demo", "other"):
        following.push(following.codeset(project=project), data(A))
    assert following.tick() == [address(A)]
    assert sorted(following.recorded()) == [address(A)]


def test_broken_and_misnamed_files_are_decisions_and_hold_up_nothing(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    files = {**data(A), "bad.csv.dvc": "outs: [{md5: ../../etc, path: bad.csv}]\n", "renamed.dvc": data(B)["rows.csv.dvc"]}
    event = following.event(following.push(clone, {**files, **data(C, "odd%name.csv")}))
    assert following.deliver(event) == [address(A)]
    with following.store.read() as session:
        reasons = " ".join(decision.reason for decision in decisions.of_event(session, event.source, event.id))
    assert "is not the hash of an output" in reasons
    assert "renamed.dvc must be rows.csv.dvc" in reasons
    assert "odd%name.csv" in reasons
    assert following.tick() == []


# Failures


def test_while_the_git_host_is_away_nothing_is_lost(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    event = following.event(following.push(clone, data(A)))
    following.git.trouble = errors.TemporaryError("the git host is away")
    assert following.deliver(event, 503) == []
    assert following.tick() == []
    assert following.recorded() == {}
    following.git.trouble = None
    assert following.tick() == [address(A)]
    assert following.deliver(event) == []


def test_while_the_broker_is_away_the_events_wait(following: Following) -> None:
    following.register_dvc()
    following.push(following.codeset(), data(A))
    following.published.up = False
    assert following.tick() == []
    following.published.up = True
    before = len(following.published.events)
    cloudevents.sweep(following.store, following.published, clock.now())
    assert following.announced(following.published.events[before:]) == [address(A)]
    assert following.tick() == []


def test_a_deleted_version_returns_with_a_newer_push_only(following: Following) -> None:
    following.register_dvc()
    clone = following.codeset()
    first = following.push(clone, data(A))
    following.tick()
    with following.store.write() as session:
        row = artifacts.get(session, address(A))
        artifact_names.note_deletion(session, row, "ada", clock.now())
        artifacts.delete(session, row)
    assert following.deliver(following.event(first, time=times.shift(clock.now(), -60))) == []
    following.tick()
    assert following.recorded() == {}
    second = following.push(clone, data(B))
    following.deliver(following.event(second, first))
    third = following.push(clone, data(A))
    assert following.deliver(following.event(third, second)) == [address(A)]


def test_two_sweeps_at_once_record_once(following: Following, tmp_path: Path) -> None:
    following.register_dvc()
    hashes = [f"{number:031d}f" for number in range(4)]
    for number, hash in enumerate(hashes):
        following.push(following.codeset(f"iris-{number}"), data(hash))
    other = Following(tmp_path, database.Database(following.store.url))
    announced: list[str] = []
    threads = [
        threading.Thread(target=lambda under_test=under_test: announced.extend(under_test.tick())) for under_test in (following, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [address(hash, codeset=f"iris-{number}") for number, hash in enumerate(hashes)]
    assert sorted(announced) == expected
    assert following.tick() == other.tick() == []
    other.store.close()


# Size


@pytest.fixture
def many(tmp_path: Path, sqlite_store: database.Database) -> Iterator[Following]:
    following = Following(tmp_path, sqlite_store)
    commit = following.push(following.codeset("template"), data(A))
    bare = tmp_path / "git" / "demo"
    with sqlite_store.write() as session:
        for number in range(1_000):
            (bare / f"c{number}.git").symlink_to(bare / "template.git")
            row = codeset_rows.Codeset(project="demo", name=f"c{number}", url="http://git", webhook_secret="x", created=clock.now())
            codesets.add_codeset(session, row)
            # The sweep of pushes knows the push.
            codesets.record_commit(session, row, MAIN, commit, clock.now())
    yield following


def test_a_codeset_is_asked_again_only_when_it_has_moved(many: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep() -> list[str]:
        """The sweep without its other parts, which ask about each codeset for other reasons."""
        many.git.asked.clear()
        before = len(many.published.events)
        datasets.record_datasets(many.deps, events.Event(events.TICK, "/test", "tick", None, clock.now(), {}))
        return many.announced(many.published.events[before:])

    sweep()
    assert many.git.asked == [], "without a store, nothing is asked"
    many.register_dvc()
    monkeypatch.setattr(datasets, "_SECONDS", 60.0)
    assert sweep() == []
    assert len(many.positions()) == 1_000
    # Once for what came last, and once for the history.
    assert max(collections.Counter(many.git.asked).values()) == 2
    sweep()
    assert many.git.asked == []
    clone = many.codeset("moved")
    commit = many.push(clone, data(B))
    with many.store.write() as session:
        codesets.record_commit(session, codesets.codeset(session, "demo", "moved"), MAIN, commit, clock.now())
    assert sweep() == [address(B, codeset="moved")]
    assert set(many.git.asked) == {"demo/moved"}
