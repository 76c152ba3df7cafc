"""Rolling back by git, on a real server with a real git: each move of a ref is a run, and path filters see what differs."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

WORKFLOW = """
name: {name}
inputs: [{{name: code, type: codeset}}]
on: {{push: {{refs: [main, "refs/tags/*"]{paths}}}}}
steps: [{{name: fit, image: "fuseml.local/shell:1", inputs: [{{codeset: {{name: code}}}}], script: "true"}}]
"""


@pytest.fixture(scope="module", params=["webhooks", "sweep"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A server, once with all webhooks and once with none, so that the sweep finds every push."""
    faults = ["--chaos", "drop=1,seed=1"] if request.param == "sweep" else []
    with servers.running(tmp_path_factory.mktemp("pushes") / "home", "--mlflow", "none", *faults) as running:
        yield running


def codeset(server: servers.Server, name: str, folder: pathlib.Path, paths: str = "") -> servers.Checkout:
    server.post("/workflows", raw=WORKFLOW.format(name=name, paths=paths).encode())
    registration = server.post(f"/codesets?project=p&name={name}")
    server.post(f"/workflows/assignments?name={name}&codesetProject=p&codesetName={name}")
    return servers.Checkout(folder, registration["codeset"]["url"], registration["username"], registration["password"])


def commits(server: servers.Server, workflow: str) -> list[str]:
    """The commits of the workflow's runs, oldest first."""
    found: list[dict[str, Any]] = server.get(f"/runs?workflow={workflow}&limit=100")
    return [run["commit"] for run in reversed(found)]


def test_every_way_of_rolling_back_starts_a_run(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = codeset(server, "back", tmp_path / "work")
    first, second = checkout.push("first"), checkout.push("second")
    expected = [first, second]

    def push(*arguments: str) -> None:
        servers.git(checkout.folder, "push", "--quiet", "origin", *arguments)
        wait_until(lambda: sorted(commits(server, "back")) == sorted(expected), lambda: f"{expected}, not {commits(server, 'back')}")

    push("--force", "HEAD:main")
    expected.append(first)
    push("--force", f"{first}:main")
    expected.append(second)
    push("--force", f"{second}:main")
    expected.append(first)
    push(f"{first}:refs/tags/v1")
    expected.append(second)
    push("--force", f"{second}:refs/tags/v1")
    expected.append(first)
    push("--force", f"{first}:refs/tags/v1")
    servers.git(checkout.folder, "push", "--quiet", "origin", ":refs/tags/v1")
    expected.append(first)
    push(f"{first}:refs/tags/v1")
    answer = server.get(f"/why?of={first}")
    assert all(timeline["outcomes"] for timeline in answer["stories"])


def test_a_path_filter_sees_what_a_force_push_drops(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = codeset(server, "filtered", tmp_path / "work", ', paths: ["src/**"]')
    (checkout.folder / "readme").write_text("1")
    first = checkout.push("a new branch has nothing to compare with")
    (checkout.folder / "src").mkdir()
    (checkout.folder / "src" / "train.py").write_text("1")
    second = checkout.push("source")
    (checkout.folder / "readme").write_text("2")
    checkout.push("no source")
    expected = [first, second, first]
    servers.git(checkout.folder, "push", "--quiet", "--force", "origin", f"{first}:main")
    wait_until(lambda: sorted(commits(server, "filtered")) == sorted(expected), lambda: f"{expected}, not {commits(server, 'filtered')}")
