"""Routes that match requests. Werkzeug also writes two functions for each of them that build its address: most of the time of making them."""

from __future__ import annotations

from collections.abc import Callable

import werkzeug.routing


class Rule(werkzeug.routing.Rule):
    """A route whose address is built when it is asked for. FuseML never asks: no view uses `flask.url_for`."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        # Werkzeug's own method: without this one, routes only take longer to make.
        write = super()._compile_builder

        def build(rule: Rule, **values: object) -> tuple[str, str]:
            built: tuple[str, str] = write(append_unknown).__get__(rule, None)(**values)
            return built

        return build
