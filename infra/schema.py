"""Write the documents that are generated from the code: OpenAPI of all functions, and the JSON Schemas of workflows and runnables.

`task schema` runs this, then the test that compares the client's shapes with OpenAPI.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import werkzeug.test

from fuseml.domain.runnables import descriptor
from fuseml.domain.workflows import loading
from fuseml.embedded import composition

ROOT = pathlib.Path(__file__).parents[1]
OPENAPI = ROOT / "docs" / "openapi.json"
WORKFLOW = ROOT / "shared" / "fuseml" / "examples" / "workflow.schema.json"
RUNNABLE = WORKFLOW.with_name("runnable.schema.json")


def openapi(home: pathlib.Path) -> Mapping[str, Any]:
    """The OpenAPI document of all functions, as the embedded server answers it. `home` is an empty folder for the server's state."""
    # Composition starts nothing.
    parts = composition.compose(home, "http://127.0.0.1:1", "token", mlflow="none", anonymous=False, environment={})
    try:
        document: Mapping[str, Any] = json.loads(werkzeug.test.Client(parts.gateway).get("/openapi.json").text)
    finally:
        parts.state.store.close()
    return document


def text(document: Mapping[str, Any]) -> str:
    """The document as it is committed."""
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    """Write the documents."""
    with tempfile.TemporaryDirectory() as home:
        OPENAPI.parent.mkdir(exist_ok=True)
        OPENAPI.write_text(text(openapi(pathlib.Path(home))))
    WORKFLOW.write_text(text(loading.json_schema()))
    RUNNABLE.write_text(text(descriptor.json_schema()))


if __name__ == "__main__":
    main()
