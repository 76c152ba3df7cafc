"""The load of what a process keeps until its end: its packages, and the model that it serves.

Python's garbage collector visits the objects of an import again and again while their number grows, and finds nothing: a fifth of the time of the
start of MLflow, and a visit of a million objects in each full collection afterwards.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage in the block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Collect no garbage in the block, and afterwards only what is made after it. What exists at its end is never visited."""
    with uncollected():
        try:
            yield
        finally:
            gc.freeze()
