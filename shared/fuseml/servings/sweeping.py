"""The sweep over the applications of a serving: one that is refused keeps no other one from being served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fuseml.domain import errors
from fuseml.servings.port import ServingSpec

_log = logging.getLogger("fuseml.serving")


def each(specs: Sequence[ServingSpec], serve: Callable[[ServingSpec], None]) -> errors.PermanentError | None:
    """Serve each application. Returns the last refusal; the log has a warning about each."""
    refusal: errors.PermanentError | None = None
    for spec in specs:
        try:
            serve(spec)
        except errors.PermanentError as error:
            _log.warning("application %s cannot be served as specified: %s", spec.name, error.message)
            refusal = error
    return refusal
