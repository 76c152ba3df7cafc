"""HTTP of `resolver`."""

from __future__ import annotations

from typing import Annotated

import pydantic

from functions.resolver import service
from functions.resolver.deps import Deps
from fuseml.domain.documents import document
from fuseml.domain.registry import selector
from fuseml.runtime import http


class Request(document.Model):
    """`explain` asks for every candidate and the rule that kept or dropped it."""

    selectors: Annotated[list[selector.Selector], pydantic.Field(min_length=1, max_length=100)]
    context: selector.Context = selector.Context()
    explain: bool = False


class Binding(selector.Binding):
    """`env` is what a step would get, secrets as `<hidden>`."""

    env: dict[str, str]


class Resolved(pydantic.BaseModel):
    bindings: list[Binding]
    explanations: list[selector.Explanation]


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/resolve", body=Request, returns=Resolved)
    def resolve(body: Request) -> Resolved:
        """Resolve selectors as a run of this project and user would, without running anything."""
        found = service.resolve(deps, body.selectors, body.context, explain=body.explain)
        bindings = [Binding(**binding.model_dump(), env=binding.environment()) for binding in found.bindings]
        return Resolved(bindings=bindings, explanations=list(found.explanations))
