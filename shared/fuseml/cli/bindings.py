"""Table columns of bindings: the service and credentials that each selector of a step resolved to."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.cli import output


def target(binding: Mapping[str, object]) -> str:
    """`extension/service`, or `extension/service/credentials` where credentials are bound."""
    return "/".join(str(binding[key]) for key in ("extension_id", "service_id", "credentials_id") if binding.get(key))


COLUMNS = (
    output.column("Step"),
    output.column("Selector", "name"),
    output.Column("Bound to", target),
    output.Column("URL", output.field("url"), fold=True),
    output.column("Note", "withheld", cut=True),
)
