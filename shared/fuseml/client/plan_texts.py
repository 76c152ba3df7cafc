"""The typed values of plans as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value(parts: object) -> str:
    """A typed value: text unchanged, outputs as expressions, secrets by name."""
    return "".join(map(_part, parts if isinstance(parts, list) else []))


def _part(part: Mapping[str, Any]) -> str:
    match part["kind"]:
        case "output":
            return f"{{{{ steps.{part['step']}.outputs.{part['output']} }}}}"
        case "secret" if not part["extension"]:
            return f"<token of step {part['credentials']}>"
        case "secret":
            return f"<secret {part['extension']}/{part['service']}/{part['credentials']}/{part['key']}>"
        case _:
            return str(part["text"])
