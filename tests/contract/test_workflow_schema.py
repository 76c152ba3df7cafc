"""The committed JSON Schema of workflow documents, which editors read, is the generated one."""

from __future__ import annotations

from fuseml.domain.workflows import loading
from infra import schema


def test_the_committed_schema_is_the_generated_one() -> None:
    assert schema.WORKFLOW.read_text() == schema.text(loading.json_schema()), "run `task schema`"
