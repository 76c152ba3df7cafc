"""HTTP routes of `resolver`."""

from __future__ import annotations

from typing import Annotated

import pydantic

from functions.resolver import service
from functions.resolver.deps import Deps
from fuseml.domain.documents import document
from fuseml.domain.registry import selector
from fuseml.runtime import http


class Request(document.Model):
    """Selectors and their context. With `explain`, the response lists every candidate with its verdict."""

    selectors: Annotated[list[selector.Selector], pydantic.Field(min_length=1, max_length=100)]
    context: selector.Context = selector.Context()
    explain: bool = False


class Binding(selector.Binding):
    """A binding with `env`, its variables in the environment of a step, secrets as `<hidden>`."""

    env: dict[str, str]


class ResolveResponse(pydantic.BaseModel):
    bindings: list[Binding]
    explanations: list[selector.Explanation]


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/resolve", body=Request, returns=ResolveResponse, refusals=(422,))
    def resolve(body: Request) -> ResolveResponse:
        """Resolve selectors as for a run of this project and user."""
        resolution = service.resolve(deps, body.selectors, body.context, explain=body.explain)
        bindings = [Binding(**binding.model_dump(), env=binding.environment()) for binding in resolution.bindings]
        return ResolveResponse(bindings=bindings, explanations=list(resolution.explanations))
