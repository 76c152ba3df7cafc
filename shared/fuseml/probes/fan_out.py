"""Asks many at once, within a time limit, on a bounded number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 16


def fan_out(question: Callable[[Item], Result], items: Sequence[Item], seconds: float) -> Iterator[tuple[Item, Result]]:
    """Every item with what `question` said of it, as the answers come. What is not answered in time is left out.

    A question in progress is not interrupted: it must have a time limit of its own.
    """
    if not items:
        return
    workers = futures.ThreadPoolExecutor(min(_MOST_THREADS, len(items)), "probe")
    try:
        asked = {workers.submit(question, item): item for item in items}
        for done in futures.as_completed(asked, timeout=seconds):
            yield asked[done], done.result()
    except futures.TimeoutError:
        return
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
