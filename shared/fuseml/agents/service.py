"""The HTTP of every agent: its bearer token, its errors, and answers that are streamed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import flask

from fuseml.domain import errors
from fuseml.runtime import agent_calls, auth, http

TOKEN = agent_calls.TOKEN
SHORTEST_TOKEN = 16


def setting(environment: Mapping[str, str], name: str) -> str:
    """A variable of an agent's process. Raises InvalidError with its name if it is not set."""
    if not environment.get(name):
        raise errors.InvalidError(f"the agent needs {name} in its environment")
    return environment[name]


def api(name: str, summary: str, token: str) -> http.Api:
    """An application without routes for one caller, FuseML. Raises InvalidError for a token that is too short to be a secret."""
    if len(token) < SHORTEST_TOKEN:
        raise errors.InvalidError(f"the token of an agent needs at least {SHORTEST_TOKEN} characters; set {TOKEN}")
    return http.Api(name, summary, tokens=auth.Tokens({auth.digest_of(token): auth.Caller("fuseml", "admin")}))


def streamed(blocks: Iterator[bytes], size: int | None) -> flask.Response:
    """An answer of bytes. An error of the first block is one of the request; a later one ends the connection before the last byte."""
    first = next(blocks, b"")
    headers = {} if size is None else {"Content-Length": str(size)}
    return flask.Response(itertools.chain([first], blocks), headers=headers, content_type="application/octet-stream")
