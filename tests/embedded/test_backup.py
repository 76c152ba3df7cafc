"""A backup of a running server becomes another server with all of its state."""

from __future__ import annotations

import importlib.resources
import pathlib
import random
import shutil
import sqlite3
import stat
import time

import pytest

from tests import commands
from tests.embedded import chaos, servers
from tests.waiting import SCENARIO_PATIENCE, wait_until

CANARY = "canary-backup-4Hq2zT"


class Saved(chaos.Storm):
    """A storm during which backups are made instead of kills."""

    def kill_often(self) -> None:
        self.backups: list[pathlib.Path] = []
        for number in range(self.kills):
            wait_until(lambda n=number: self.pushed >= self.pushes * (n + 1) // (self.kills + 1), "pushes")  # type: ignore[misc]
            time.sleep(self.chance.random())
            self.backups.append(self.folder / f"backup-{number}")
            self.server.fuseml("backup", self.backups[-1])


def test_backups_during_a_storm_of_pushes_become_servers_that_finish_the_work(tmp_path: pathlib.Path) -> None:
    storm = Saved(tmp_path, seed=random.randrange(1_000_000), pushes=30, kills=2, limit=SCENARIO_PATIENCE)
    storm.prove()
    for number, backup in enumerate(storm.backups):
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        home = tmp_path / f"restored-{number}"
        restored = servers.Server(home, "--mlflow", "none")
        commands.fuseml("restore", backup, "--home", home, environment=restored.environment)
        present = {}
        for codeset in chaos.CODESETS:
            repository = home / "git" / "p" / f"{codeset}.git"
            assert servers.git(repository, "fsck", "--full", "--no-dangling") == ""
            present[codeset] = servers.git(repository, "for-each-ref", "--format=%(objectname)", "refs/heads/main")
        restored.start()
        try:
            # Whatever the refs of the backup say has come, has a run, though the copy of the database may be older.
            wait_until(lambda s=restored, p=present: _caught_up(s, p), "the restored server to catch up", patience=SCENARIO_PATIENCE)  # type: ignore[misc]
        finally:
            restored.stop()
        with sqlite3.connect(home / "fuseml.db") as connection:
            repeated = connection.execute('SELECT count(*) FROM run GROUP BY codeset, "commit", workflow HAVING count(*) > 1').fetchall()
        connection.close()
        assert repeated == []


def _caught_up(server: servers.Server, heads: dict[str, str]) -> bool:
    connection = sqlite3.connect(server.home / "fuseml.db", timeout=30)
    try:
        runs = connection.execute('SELECT codeset, "commit", workflow, state FROM run').fetchall()
    finally:
        connection.close()
    expected = {(codeset, commit, workflow) for codeset, commit in heads.items() if commit for workflow in chaos.WORKFLOWS}
    finished = all(state in ("succeeded", "failed", "cancelled") for *_, state in runs)
    return finished and expected <= {(codeset, commit, workflow) for codeset, commit, workflow, _ in runs}


WORKFLOW = f"""
name: secret
inputs:
  - name: code
    type: codeset
steps:
  - name: use
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}
    extensions:
      - {{name: vault, service_resource: vault}}
    script: |
      test "$VAULT_TOKEN" = "$(printf %s {CANARY[::-1]} | rev)"
      echo "logged in with $VAULT_TOKEN"
"""


def test_a_restored_server_has_codesets_runs_logs_models_applications_and_secrets(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")
    from tests.embedded import test_first_light as light

    examples = importlib.resources.files("fuseml") / "examples"
    home, backup = tmp_path / "home", tmp_path / "backup"
    _, rows, _ = light.reference_model(0.5)
    with servers.running(home) as server:
        light._register_mlflow(server)
        server.post("/extensions", _vault())
        registered = server.post("/codesets?project=demo&name=diabetes")
        checkout = servers.Checkout(tmp_path / "code", registered["codeset"]["url"], registered["username"], registered["password"])
        shutil.copytree(str(examples / "codesets" / "sklearn-diabetes"), checkout.folder, dirs_exist_ok=True)
        checkout.push("train")
        for name, text in (("mlflow-e2e", (examples / "workflows" / "mlflow-e2e.yaml").read_text()), ("secret", WORKFLOW)):
            server.post("/workflows", raw=text.encode())
            server.post(f"/workflows/assignments?name={name}&codesetProject=demo&codesetName=diabetes")
        assert server.finished_run("mlflow-e2e-1")["state"] == "succeeded"
        assert server.finished_run("secret-1")["state"] == "succeeded"
        predicted = light._predict(server, rows)
        known = _known(server)
        saved = server.fuseml("backup", backup)
        assert "Not in the backup: environments" in saved.stdout
    port = server.port
    moved = tmp_path / "elsewhere" / "home"
    restored = servers.Server(moved)
    commands.fuseml("restore", backup, "--home", moved, environment=restored.environment)
    # The home and its files belong to this user only, before and after the start.
    _expect_private(moved)
    restored.port = port
    restored.start()
    try:
        _expect_private(moved)
        assert _known(restored) == known
        restored.tracking_ready()
        assert light._predict(restored, rows) == pytest.approx(predicted)
        # The same account pushes, and the run reads its secret and writes to the restored MLflow.
        (checkout.folder / "note").write_text("more")
        before = {run["name"] for run in restored.get("/runs")}
        checkout.push("again")
        wait_until(lambda: len(restored.get("/runs")) == len(before) + 2, "the runs of the push")
        started = [run["name"] for run in restored.get("/runs") if run["name"] not in before]
        assert [restored.finished_run(name)["state"] for name in started] == ["succeeded", "succeeded"]
        name = next(name for name in started if name.startswith("secret"))
        assert "logged in with <hidden>" in restored.fuseml("run", "logs", name).stdout
    finally:
        restored.stop()


def _vault() -> dict[str, object]:
    service = {
        "id": "vault",
        "resource": "vault",
        "endpoints": [{"url": "http://vault.example.com"}],
        "credentials": [{"id": "all", "configuration": {"VAULT_TOKEN": CANARY}}],
    }
    return {"id": "vault", "product": "vault", "services": [service]}


def _known(server: servers.Server) -> dict[str, object]:
    """Records, runs with their logs, artifacts and applications."""
    runs = sorted(run["name"] for run in server.get("/runs"))
    logs = {name: server.fuseml("run", "logs", name).stdout for name in runs}
    codesets = [(item["project"], item["name"]) for item in server.get("/codesets")]
    artifacts = sorted(item["address"] for item in server.get("/artifacts"))
    applications = [(item["name"], item["revision"]) for item in server.get("/applications")]
    extensions = sorted((item["id"], item["revision"]) for item in server.get("/extensions") if item["id"] != "fuseml")
    return {"runs": logs, "codesets": codesets, "artifacts": artifacts, "applications": applications, "extensions": extensions}


def _expect_private(home: pathlib.Path) -> None:
    kept = [home, *home.iterdir(), *(home / "logs").glob("*"), *(home / "mlflow").glob("*.db*"), *(home / "contents").rglob("*")]
    assert {str(path): oct(path.stat().st_mode & 0o077) for path in kept if path.stat().st_mode & 0o077} == {}


def test_an_open_home_is_made_private_and_a_foreign_one_refused(tmp_path: pathlib.Path) -> None:
    home = tmp_path / "home"
    for folder in (home, home / "logs", home / "mlflow"):
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    for name in ("fuseml.db", "token", "keys", "logs/server.log", "mlflow/old.db"):
        (home / name).touch()
        (home / name).chmod(0o666)
    (home / "token").write_text("t" * 40)
    (home / "keys").unlink()
    with servers.running(home, "--mlflow", "none"):
        wait_until((home / "fuseml.db-wal").exists, "the database to be open")
        _expect_private(home)
    environment = servers.Server(home).environment
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    refused = commands.fuseml("up", "--home", open_folder / "home", environment=environment, code=1)
    assert "every user may replace folders in" in refused.stderr
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in commands.fuseml("up", "--home", tmp_path / "file", environment=environment, code=1).stderr
