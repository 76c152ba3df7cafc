"""A process that loads what it keeps collects no garbage meanwhile, and collects it as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from fuseml.steps import loading


class Node:
    """A part of a cycle, which only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def enabled() -> None:
    assert gc.isenabled()
    # The garbage of other tests is not kept with what the block keeps.
    gc.collect()


def nodes() -> int:
    return sum(isinstance(item, Node) for item in gc.get_objects())


def test_garbage_of_afterwards_is_collected() -> None:
    with loading.kept():
        assert not gc.isenabled()
        kept = Node()
    assert gc.isenabled()
    assert not [item for item in gc.get_objects() if item is kept]
    Node()
    gc.collect()
    assert nodes() == 0


def test_collections_continue_after_a_failed_load() -> None:
    with pytest.raises(ImportError), loading.kept():
        raise ImportError
    assert gc.isenabled()


def test_garbage_of_a_load_that_is_not_kept_is_collected_afterwards() -> None:
    with loading.uncollected():
        Node()
        assert not gc.isenabled()
    gc.collect()
    assert nodes() == 0


@pytest.mark.parametrize("load", [loading.kept, loading.uncollected])
def test_a_process_without_collections_gets_none(load: Callable[[], AbstractContextManager[None]]) -> None:
    gc.disable()
    try:
        with load():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
