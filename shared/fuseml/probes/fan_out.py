"""Concurrent calls for many items, within a time limit, on a bounded number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_THREADS = 16


def fan_out(function: Callable[[Item], Result], items: Sequence[Item], seconds: float) -> Iterator[tuple[Item, Result]]:
    """Each item with the result of `function`, in the order of completion. Items without a result in time are omitted.

    A call in progress is not interrupted: it needs a time limit of its own.
    """
    if not items:
        return
    workers = futures.ThreadPoolExecutor(min(_MAX_THREADS, len(items)), "probe")
    try:
        calls = {workers.submit(function, item): item for item in items}
        for call in futures.as_completed(calls, timeout=seconds):
            yield calls[call], call.result()
    except futures.TimeoutError:
        return
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
