"""Pools of threads: a caller whose tasks hang stops no other caller, and queues are bounded."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.embedded.pools import Pool
from tests.waiting import PATIENCE, wait_until


class Hanging:
    """Tasks that end at `release`."""

    def __init__(self) -> None:
        self.release, self.entered, self._lock = threading.Event(), list[str](), threading.Lock()

    def submit(self, pool: Pool, key: str) -> bool:
        def task() -> None:
            with self._lock:
                self.entered.append(key)
            assert self.release.wait(PATIENCE)

        return pool.submit(key, task)

    def has_entered(self, number: int) -> bool:
        """Whether that many tasks have begun."""
        return len(self.entered) == number


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    tasks = Hanging()
    yield tasks
    tasks.release.set()


def executed(pool: Pool, key: str) -> bool:
    """Submit a task of the caller and wait for it."""
    done = threading.Event()
    assert pool.submit(key, done.set)
    return done.wait(PATIENCE)


@settings(max_examples=30, deadline=None)
@given(threads=st.sampled_from([4, 8, 16]), tasks=st.lists(st.integers(1, 40), min_size=1, max_size=2))
def test_hanging_callers_leave_a_thread_for_another_one(threads: int, tasks: list[int]) -> None:
    hanging, pool = Hanging(), Pool("p", threads, 100)
    try:
        for number, count in enumerate(tasks):
            for _ in range(count):
                assert hanging.submit(pool, str(number))
        assert executed(pool, "another")
    finally:
        hanging.release.set()
        pool.close()


def test_the_queue_of_a_caller_is_bounded_and_that_of_others_is_not_affected(hanging: Hanging) -> None:
    pool = Pool("p", 8, 3)
    for number in range(1, 5):
        assert hanging.submit(pool, "a")
        wait_until(functools.partial(hanging.has_entered, number), "a further thread to work for the caller")
    assert [hanging.submit(pool, "a") for _ in range(5)] == [True, True, True, False, False]
    assert executed(pool, "b")
    pool.close()


def test_every_accepted_task_is_executed_once_and_callers_take_turns(hanging: Hanging) -> None:
    pool, lock = Pool("p", 2, 1000), threading.Lock()
    done: list[str] = []

    def note(key: str) -> None:
        with lock:
            done.append(key)

    for number, key in enumerate(("first", "second"), start=1):
        assert hanging.submit(pool, key)
        wait_until(functools.partial(hanging.has_entered, number), "both threads to be occupied")
    for key in ["many"] * 200 + ["few"] * 3:
        assert pool.submit(key, functools.partial(note, key))
    hanging.release.set()
    wait_until(lambda: len(done) == 203, "all tasks")
    assert (done.count("many"), done.count("few")) == (200, 3)
    assert max(index for index, key in enumerate(done) if key == "few") < 20
    pool.close()


def test_a_task_that_fails_leaves_its_thread_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool("p", 1, 10)

    def fail() -> None:
        raise RuntimeError("canary")

    pool.submit("a", fail)
    assert executed(pool, "a")
    assert "canary" in caplog.text
    pool.close()


def test_a_closed_pool_takes_no_task() -> None:
    pool = Pool("p", 2, 10)
    assert executed(pool, "a")
    pool.close()
    assert not pool.submit("a", lambda: None)
