"""Write the documents that are generated from the code: OpenAPI of all functions and of agents, and the JSON Schemas of workflows and runnables.

`task schema` runs this, then the test that compares the client's shapes with OpenAPI.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import werkzeug.test

from fuseml.agents import command, folder_store, store, workload
from fuseml.domain.runnables import descriptor
from fuseml.domain.workflows import loading
from fuseml.embedded import composition
from fuseml.runtime import openapi as runtime_openapi

ROOT = pathlib.Path(__file__).parents[1]
OPENAPI = ROOT / "docs" / "openapi.json"
AGENTS = ROOT / "docs" / "agents-openapi.json"
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


def agents(folder: pathlib.Path) -> Mapping[str, Any]:
    """The OpenAPI document of the protocols of agents. `folder` is an empty one."""
    token = "a-token-of-no-agent"  # noqa: S105 - it protects nothing
    kept = folder_store.FolderStore(folder, "http://127.0.0.1:1")
    apps = (store.create_app(kept, token, folder), workload.create_app(command.CommandWorkload(["true"], folder, {}), token))
    document = runtime_openapi.document([app.extensions["fuseml"] for app in apps])
    about = {"title": "FuseML agents", "version": "1", "description": "The protocols of store agents and workload agents."}
    return {**document, "info": about}


def text(document: Mapping[str, Any]) -> str:
    """The document as it is committed."""
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    """Write the documents."""
    with tempfile.TemporaryDirectory() as home:
        OPENAPI.parent.mkdir(exist_ok=True)
        OPENAPI.write_text(text(openapi(pathlib.Path(home))))
    with tempfile.TemporaryDirectory() as folder:
        AGENTS.write_text(text(agents(pathlib.Path(folder))))
    WORKFLOW.write_text(text(loading.json_schema()))
    RUNNABLE.write_text(text(descriptor.json_schema()))


if __name__ == "__main__":
    main()
