"""Use cases of `resolver`."""

from __future__ import annotations

from collections.abc import Sequence

from functions.resolver.deps import Deps
from fuseml.domain.registry import selector
from fuseml.runtime.telemetry import metrics
from fuseml.store import resolution


def resolve(deps: Deps, selectors: Sequence[selector.Selector], context: selector.Context, *, explain: bool) -> selector.Resolution:
    """Resolve selectors. Raises UnresolvedError, with explanations, for selectors without a match."""
    with deps.store.read() as session, metrics.RESOLVE_SECONDS.timed():
        return resolution.resolve(session, selectors, context, home=deps.zone, explain=explain)
