"""The same on a real Gitea, which is both the host of the origin and the git host of codesets."""

from __future__ import annotations

from pathlib import Path

from fuseml.store import database
from tests.component import copied
from tests.component.githost import Clone, git
from tests.contract import origin_hosts
from tests.waiting import wait_until


def test_a_repository_on_a_real_gitea_is_followed_and_gets_statuses(sqlite_store: database.Database, tmp_path: Path) -> None:
    with (
        origin_hosts.real_gitea(tmp_path) as origin,
        copied.Copied(sqlite_store, tmp_path, origin, (origin.url, origin.keeper)).running() as made,
    ):
        clone = Clone.fresh(origin.push_url(), tmp_path / "work")
        first = clone.commit("first", {"train.py": "print(1)\n"})
        clone.git("push", "--quiet", "origin", "main", "HEAD:refs/heads/old")
        made.register_host(origin.tokens["admin"])
        assert made.register()["webhook"]["state"] == "set"
        made.follow()
        wait_until(lambda: len(made.pushes()) >= 2, lambda: f"the pushes of the import, not {made.pushes()}")
        assert sorted(made.pushes()) == [("refs/heads/main", first), ("refs/heads/old", first)]
        assert made.status()["missing"] == ["no delivery"] or made.status()["missing"] == []

        # Gitea itself delivers: a force push, a tag, and a deletion.
        clone.git("commit", "--quiet", "--amend", "--allow-empty", "-m", "another first")
        second = clone.git("rev-parse", "HEAD")
        clone.git("tag", "-a", "v1", "-m", "one")
        clone.git("push", "--quiet", "--force", "origin", "main", "v1", ":old")
        wait_until(lambda: made.row().delivered, "a delivery")

        def equal() -> bool:
            made.follow()
            heads = made.git.heads("demo", "churn")
            return heads == {"refs/heads/main": second, "refs/tags/v1": second}

        wait_until(equal, lambda: f"the copy to be equal, not {made.git.heads('demo', 'churn')}")
        wait_until(lambda: ("refs/tags/v1", second) in made.pushes(), lambda: f"the push of the tag, not {made.pushes()}")
        assert made.status()["webhook"]["state"] == "set" and made.status()["missing"] == []

        made.deliver(made.run(1, second, "running"))
        assert origin.shown(second)["fuseml/demo/train"][0] == "pending"
        made.deliver(made.run(1, second, "failed", "fit: exit code 1"))
        assert origin.shown(second)["fuseml/demo/train"][:2] == ("failure", "train-1 failed: fit: exit code 1")
        assert git("ls-remote", origin.push_url())

        # A codeset of its own shows the runs at the git host of codesets.
        registered = made.call("codesets", "POST", "/codesets", 201, query_string={"project": "demo", "name": "own"})
        account = f"{registered['username']}:{registered['password']}"
        own = Clone.fresh(registered["codeset"]["url"].replace("://", f"://{account}@"), tmp_path / "own")
        commit = own.commit("own")
        own.git("push", "--quiet", "origin", "main")
        made.deliver(made.run(2, commit, "succeeded", codeset="own"))
        shown = origin_hosts.call(f"{origin.url}/api/v1/repos/demo/own/commits/{commit}/status", origin.keeper)["statuses"]
        assert [(item["context"], item["status"]) for item in shown] == [("fuseml/demo/train", "success")]

        made.call("codesets", "DELETE", "/codesets/demo/churn", 204)
        assert origin_hosts.client(origin, "admin").webhooks() == []
