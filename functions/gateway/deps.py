"""Dependencies of `gateway`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deps:
    """`functions_url` is the address of a function, with `{function}` for its service; `timeout` is in seconds."""

    functions_url: str
    timeout: float = 60.0
