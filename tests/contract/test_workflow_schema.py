"""The shipped JSON Schema for editors equals the generated one."""

from __future__ import annotations

import json
from pathlib import Path

from fuseml.domain.workflows import loading

SHIPPED = Path(__file__).parents[2] / "shared/fuseml/examples/workflow.schema.json"


def test_the_shipped_schema_is_the_generated_one() -> None:
    generated = json.dumps(loading.json_schema(), indent=2) + "\n"
    assert SHIPPED.read_text() == generated, f"write `fuseml.domain.workflows.loading.json_schema()` to {SHIPPED.name} again"
