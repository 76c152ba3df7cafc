"""`fuseml extension plan`, dry runs, deletions and secret references, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.component import extensions_cli
from tests.component.extensions_app import Registry
from tests.component.extensions_cli import MINIO, STORE, Run, error_output, output, secrets_of, stored

registry, fuseml, folder = extensions_cli.registry, extensions_cli.fuseml, extensions_cli.folder


def test_references_work_for_registration_update_and_plan(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "minio.yaml"
    file.write_text(MINIO)
    assert fuseml("plan", "-f", str(file)) == 0
    assert "+ minio is registered" in output(capsys)
    assert fuseml("register", "-f", str(file)) == 0
    assert secrets_of(registry)["AWS_SECRET_ACCESS_KEY"] == "canary-one"
    assert stored(registry, "minio")["version"] == "4.10"
    assert fuseml("update", "minio", "-f", str(file), MINIO_USER="canary-v") == 0
    assert secrets_of(registry)["AWS_ACCESS_KEY_ID"] == "canary-v"
    account = folder / "account.yaml"
    account.write_text("id: ci\nconfiguration: {TOKEN: 'Bearer ${env:MINIO_USER}'}\n")
    assert fuseml("credentials", "update", "minio", "s3", "admin", "-f", str(account)) == 1
    assert "cannot be renamed" in error_output(capsys)
    account.write_text("id: admin\nconfiguration: {TOKEN: 'Bearer ${env:MINIO_USER}'}\n")
    assert fuseml("credentials", "update", "minio", "s3", "admin", "-f", str(account)) == 0
    assert secrets_of(registry) == {"TOKEN": "Bearer canary-u"}
    file.write_text(MINIO.replace("resource: s3", "resourse: s3"))
    capsys.readouterr()
    assert fuseml("register", "-f", str(file)) == 1
    assert error_output(capsys) == f"error: {file}:7:5: services[0].resourse: unknown key 'resourse' (did you mean 'resource'?)\n"


def test_a_plan_lists_changes_and_effects_and_can_be_checked(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    fuseml("apply", "-f", str(folder))
    registry.add_workflow("train", {**STORE, "version": "<5"})
    registry.add_workflow("ask", {"name": "tracking", "service_resource": "mlflow-tracking"}, assigned=None)
    patch = folder.parent / "patch.yaml"
    patch.write_text("id: minio\nversion: 5.0.0\n")
    capsys.readouterr()
    broken = "train/trainer 'store' in project demo no longer resolves: minio: version 5.0.0 does not satisfy <5"
    assert fuseml("plan", "-f", str(patch)) == 0
    assert output(capsys).splitlines() == [
        "~ minio is updated",
        "    ~ version: 4.10 -> 5.0.0",
        f"  - {broken}",
        "Selectors of workflows: 1 no longer resolves, 1 stays as it is.",
    ]
    for line in (["plan", "-f", str(patch)], ["update", "minio", "--version", "5.0.0"], ["delete", "minio"]):
        assert fuseml(*line, "--check", "-o", "json") == 1
        assert {effect["effect"] for effect in json.loads(output(capsys))["effects"]} == {"unchanged", "breaks"}
    assert fuseml("update", "mlflow", "--version", "3", "--check") == 0
    assert fuseml("delete", "mlflow", "--dry-run") == 0
    assert fuseml("update", "minio", "--version", "5.0.0", "--dry-run") == 0
    assert [stored(registry, id)["revision"] for id in ("minio", "mlflow")] == [1, 1]
    capsys.readouterr()
    assert fuseml("update", "minio", "--version", "5.0.0") == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ('Extension "minio" successfully updated.\n', f"warning: {broken}\n")


def test_a_breaking_deletion_needs_force(fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    fuseml("apply", "-f", str(folder))
    registry.add_workflow("train", STORE)
    capsys.readouterr()
    for line in (
        ["delete", "minio"],
        ["service", "delete", "minio", "s3"],
        ["credentials", "delete", "minio", "s3", "admin"],
    ):
        assert fuseml(*line) == 1
        assert "train/trainer 'store' in project demo no longer resolves" in error_output(capsys)
    assert fuseml("endpoint", "delete", "minio", "s3", "http://minio:9000") == 0
    assert fuseml("credentials", "delete", "minio", "s3", "admin", "--force") == 0
    assert fuseml("endpoint", "delete", "minio", "s3", "http://minio.example.com", "--force") == 0
    assert fuseml("service", "delete", "minio", "s3", "--force") == 0
    assert fuseml("delete", "minio", "--force") == 0


@pytest.fixture
def two_stores(fuseml: Run, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """An assigned workflow that is bound to the first of two stores. Returns the note that it binds to the second one."""
    for id in ("first", "second"):
        file = tmp_path / f"{id}.yaml"
        file.write_text(
            f"id: {id}\nservices: [{{id: s3, resource: s3, endpoints: [{{url: 'http://{id}'}}, {{url: 'http://{id}-too'}}]}}]\n"
        )
        assert fuseml("register", "-f", str(file)) == 0
    registry.add_workflow("train", STORE)
    capsys.readouterr()
    return "note: train/trainer 'store' in project demo re-binds from first/s3 at http://first to "


@pytest.mark.parametrize(
    ("line", "successor"),
    [
        (["delete", "first"], "second/s3 at http://second"),
        (["service", "delete", "first", "s3"], "second/s3 at http://second"),
        (["endpoint", "delete", "first", "s3", "http://first"], "first/s3 at http://first-too"),
        (["update", "first", "--zone", "far"], "second/s3 at http://second"),
        (["update", "first", "-f", "MOVED"], "first/s3 at http://moved"),
    ],
)
def test_a_change_lists_the_assigned_steps_that_bind_to_something_else(
    line: list[str], successor: str, two_stores: str, fuseml: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.yaml"
    moved.write_text("services: [{id: s3, endpoints: [{url: 'http://moved'}]}]")
    assert fuseml(*(str(moved) if word == "MOVED" else word for word in line)) == 0
    assert capsys.readouterr().err == f"{two_stores}{successor}\n"


def test_update_and_apply_of_one_file_agree(fuseml: Run, two_stores: str, registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "moved.yaml"
    file.write_text("id: first\nservices: [{id: s3, resource: s3, endpoints: [{url: 'http://moved'}]}]\n")
    assert fuseml("update", "first", "-f", str(file)) == 0
    updated = stored(registry, "first")
    assert [endpoint["url"] for endpoint in updated["services"][0]["endpoints"]] == ["http://moved"]
    assert fuseml("apply", "-f", str(file)) == 0
    assert stored(registry, "first") == updated
