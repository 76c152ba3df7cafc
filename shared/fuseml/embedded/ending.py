"""The end of the server: its parts stop side by side, within one bound."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

_log = logging.getLogger("fuseml.server")


def stop_all(stops: Mapping[str, Callable[[], None]], seconds: float) -> list[str]:
    """Call the functions side by side and wait for `seconds` at most. Returns the names of those that have not ended; they are logged.

    A function that fails is logged, too.
    """
    deadline = time.monotonic() + seconds
    threads = {name: threading.Thread(target=_stop, args=(name, stop), name=f"stop-{name}", daemon=True) for name, stop in stops.items()}
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = [name for name, thread in threads.items() if thread.is_alive()]
    if late:
        _log.warning("not ended after %g s: %s; the next start continues the work", seconds, ", ".join(late))
    return late


def _stop(name: str, stop: Callable[[], None]) -> None:
    try:
        stop()
    except Exception:
        # The others must end, too.
        _log.exception("%s did not stop cleanly", name)
