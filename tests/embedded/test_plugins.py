"""The shipped example of a plugin, installed beside FuseML: its probe recognises a tool, and its store holds the artifacts of a run."""

from __future__ import annotations

import json
import pathlib

import pytest

from tests import commands, plugins
from tests.component import tools
from tests.embedded import servers
from tests.embedded.test_agents import SORTING

STORE = """
id: archive
product: sqlite
services:
  - id: store
    resource: sqlite
    category: artifact-store
    endpoints:
      - url: {url}
"""
BUILD = {"status": "success", "data": {"version": "3.5.0", "goVersion": "go1.24.4", "branch": "HEAD"}}


def prometheus(path: str, headers: tools.Headers) -> tools.Answer:
    """The answers of a Prometheus that needs no account."""
    if path == "/api/v1/status/buildinfo":
        return 200, {"Content-Type": "application/json"}, json.dumps(BUILD).encode()
    return 404, {}, b""


@pytest.fixture
def server(tmp_path: pathlib.Path) -> servers.Server:
    """A server with the example on the module search path, which the steps of an installation would find in FuseML's own environment."""
    installed = plugins.install_example(tmp_path / "package")
    options = ("--mlflow", "none", "--allow-path", str(installed), "--pass-env", "PYTHONPATH")
    return servers.Server(tmp_path / "home", *options, environment={"PYTHONPATH": str(installed)})


def test_the_example_of_a_plugin_works_beside_the_built_in_tools(server: servers.Server, tmp_path: pathlib.Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letters").write_text("b\na\n")
    (tmp_path / "archive.yaml").write_text(STORE.format(url=(tmp_path / "archive").as_uri()))
    (tmp_path / "sorting.yaml").write_text(SORTING)
    installed = {"PYTHONPATH": str(tmp_path / "package" / "installed")}
    try:
        server.start()

        def fuseml(*arguments: str | pathlib.Path) -> str:
            return commands.fuseml(*arguments, environment={**server.environment, **installed}).stdout

        listed = json.loads(fuseml("version", "--plugins", "-o", "json"))["plugins"]
        assert [(item["seam"], item["name"], item["version"], item["problem"]) for item in listed] == [
            ("fuseml.artifactstores", "sqlite", "1.0.0", ""),
            ("fuseml.probes", "prometheus", "1.0.0", ""),
        ]

        with tools.serve(prometheus) as tool:
            [proposal] = json.loads(fuseml("extension", "discover", tool.url, "--apply", "-o", "json"))
        assert (proposal["state"], proposal["extension"]["product"], proposal["extension"]["version"]) == (
            "registered",
            "prometheus",
            "3.5.0",
        )

        fuseml("extension", "register", "-f", tmp_path / "archive.yaml")
        fuseml("project", "create", "-n", "demo")
        fuseml("workflow", "create", tmp_path / "sorting.yaml")
        fuseml("artifact", "push", tmp_path / "data", "-p", "demo", "--kind", "dataset", "--name", "letters", "--tag", "latest")
        server.post("/runs", {"workflow": "sorting", "project": "demo", "inputs": {"data": "dataset://demo/letters@latest"}})
        run = server.finished_run("sorting-1")
        assert (run["state"], run["cause"]) == ("succeeded", None)
        fuseml("artifact", "pull", run["outputs"]["model"], "--to", tmp_path / "pulled")
        assert (tmp_path / "pulled" / "weights").read_text() == "a\nb\n"
        assert (tmp_path / "archive" / "artifacts.db").stat().st_size > 0
    finally:
        server.stop()
