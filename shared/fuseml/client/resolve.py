"""Resolution of selectors to services and credentials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fuseml.client import registry_shapes, transport


class Resolver:
    """`/resolve`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def resolve(
        self, selectors: Sequence[registry_shapes.Selector], consumer: registry_shapes.Consumer, *, explain: bool = False
    ) -> registry_shapes.Resolution:
        """One binding for each selector. Raises UnresolvedError with the explanations when a selector matches no service."""
        document: dict[str, object] = {"selectors": list(selectors), "context": consumer, "explain": explain}
        return cast(registry_shapes.Resolution, self._http.change("POST", "/resolve", document=document))
