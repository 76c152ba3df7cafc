"""A repository elsewhere on a real server: its pushes start runs, and the runs are shown at its commits; also after kills."""

from __future__ import annotations

import json
import pathlib

from tests import documents
from tests.component.githost import Clone
from tests.contract import origin_hosts
from tests.embedded import servers
from tests.waiting import wait_until


def test_a_push_elsewhere_starts_a_run_and_shows_it_there(tmp_path: pathlib.Path) -> None:
    with (
        origin_hosts.contract_server(tmp_path, "gitlab") as origin,
        servers.running(tmp_path / "home", "--mlflow", "none") as server,
    ):
        clone = Clone.fresh(origin.push_url(), tmp_path / "work")
        first = clone.commit("first", {"train.py": "print(1)\n"})
        clone.git("push", "--quiet", "origin", "main")
        account = {"id": "account", "configuration": {"token": origin_hosts.ADMIN}}
        service = {"id": "git", "resource": "git+http", "category": "VCS", "endpoints": [{"url": origin.url}], "credentials": [account]}
        server.post("/extensions", {"id": "forge", "product": "gitlab", "services": [service]})
        server.post("/workflows", raw=documents.one_step("works").encode())
        server.post("/workflows", raw=documents.one_step("breaks", "script: echo no luck >&2; exit 3").encode())

        url = f"{origin.url}/{origin_hosts.OWNER}/{origin_hosts.NAME}.git"
        shown = server.fuseml("codeset", "register", "--url", url, "-p", "demo", "-n", "churn").stdout
        assert "it follows its origin" in shown and "The webhook is set up." in shown
        for name in ("works", "breaks"):
            server.post(f"/workflows/assignments?name={name}&codesetProject=demo&codesetName=churn")

        def states(commit: str) -> set[str]:
            return {state for state, _, _ in origin.shown(commit).values()}

        wait_until(lambda: states(first) == {"success", "failed"}, lambda: f"the statuses of the import, not {origin.shown(first)}")
        state, description, link = origin.shown(first)["fuseml/demo/breaks"]
        assert state == "failed" and "breaks-1 failed" in description and link.endswith("/runs/breaks-1")

        # The server is killed after the host has delivered, and the copy follows nevertheless.
        second = clone.commit("second", {"train.py": "print(2)\n"})
        clone.git("push", "--quiet", "origin", "main", "HEAD:refs/heads/extra")
        assert origin.deliver(b"{}", delivery="second") == 202
        server.kill()
        server.start()
        wait_until(lambda: states(second) == {"success", "failed"}, lambda: f"the statuses of the second push, not {origin.shown(second)}")

        status = json.loads(server.fuseml("codeset", "status", "churn", "-p", "demo", "-o", "json").stdout)
        assert status["missing"] == [] and status["webhook"]["state"] == "set" and status["origin"]["delivery"] == "push"
        table = server.fuseml("codeset", "status", "churn", "-p", "demo").stdout
        assert "Nothing is missing." in table and "fuseml/demo/works" in table and f"Origin:       {url}" in table
        assert origin_hosts.ADMIN not in table + json.dumps(status)
