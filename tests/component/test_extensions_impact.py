"""Plans, dry runs and refused deletions of the registry, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain.artifacts import names
from fuseml.domain.registry import extension, resolution
from fuseml.domain.registry.selector import Context, Selector
from fuseml.runtime import clock, secrets
from fuseml.store import artifact_names, artifacts, extensions, runs
from fuseml.store.tables import run_rows
from fuseml.usecases import sealing
from tests.component.extensions_app import Registry

STORE = {"name": "store", "service_resource": "s3"}
ENDPOINT = "http://minio:9000"
MINIO: dict[str, Any] = {
    "id": "minio",
    "product": "minio",
    "version": "4.1.3",
    "services": [
        {
            "id": "s3",
            "resource": "s3",
            "auth_required": True,
            "endpoints": [{"url": ENDPOINT, "configuration": {"S3_ENDPOINT_URL": ENDPOINT}}],
            "credentials": [{"id": "admin", "configuration": {"AWS_SECRET_ACCESS_KEY": "canary-one"}}],
        }
    ],
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    running = Registry(tmp_path)
    yield running
    running.store.close()


@pytest.fixture
def used(registry: Registry) -> Registry:
    """A registry with MinIO and an assigned workflow that needs it."""
    registry.add_workflow("train", STORE)
    assert registry.client.post("/extensions", json=MINIO).status_code == 201
    return registry


def send(registry: Registry, method: str, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
    answer = registry.client.open(path, method=method, json=body)
    assert answer.status_code == status, answer.text
    assert "canary" not in answer.text
    data: dict[str, Any] = answer.get_json() if answer.data else {}
    return data


def effects(result: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    return {(effect["workflow"], effect["project"]): effect["effect"] for effect in result["effects"]}


def test_the_artifact_stores_of_workflows_are_part_of_the_impact(registry: Registry) -> None:
    data = {"name": "data", "artifact": {"address": "dataset://demo/raw@latest"}}
    made = {"name": "model", "artifact": {"kind": "model", "path": "out"}}
    registry.add_steps("train", {"name": "fit", "image": "fit:1", "inputs": [data], "outputs": [made]})
    disk: dict[str, Any] = {"id": "disk", "product": "disk"}
    disk["services"] = [{"id": "store", "resource": "folder", "category": "artifact-store", "endpoints": [{"url": "file:///srv"}]}]
    planned = send(registry, "POST", "/extensions/plan", disk)
    assert [(effect["step"], effect["selector"], effect["effect"]) for effect in planned["effects"]] == [
        ("fit", "output model", "resolves")
    ]
    send(registry, "POST", "/extensions", disk, status=201)
    with registry.store.write() as session:
        row = artifacts.Artifact(
            address="dataset://demo/raw/1",
            kind="dataset",
            project="demo",
            name="raw",
            version="1",
            details={"store": "disk/store"},
            created="",
        )
        artifacts.record(session, row)
        artifact_names.put_tag(session, row, "latest", names.Placed(row.address, immutable=False), "ada", clock.now())
    refused = send(registry, "DELETE", "/extensions/disk", status=409)
    assert "train/fit 'input data', train/fit 'output model' would match nothing without it" in refused["message"]
    planned = send(registry, "DELETE", "/extensions/disk?dry_run=true")
    assert {effect["selector"]: effect["effect"] for effect in planned["effects"]} == {"input data": "breaks", "output model": "breaks"}


def test_a_plan_of_a_new_record_reports_its_impact_and_stores_nothing(registry: Registry) -> None:
    registry.add_workflow("train", STORE)
    result = send(registry, "POST", "/extensions/plan", MINIO)
    assert (result["extension_id"], result["change"], result["revision"]) == ("minio", "registers", 0)
    assert effects(result) == {("train", "demo"): "resolves"}
    assert result["effects"][0]["after"] == {"extension_id": "minio", "service_id": "s3", "url": ENDPOINT, "credentials_id": "admin"}
    assert "services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY" in {change["path"] for change in result["changes"]}
    send(registry, "GET", "/extensions/minio", status=404)
    assert registry.published.events == []


def test_a_plan_of_a_stored_record_is_that_of_an_update(used: Registry) -> None:
    # A new address needs the secret again.
    account = {"id": "admin", "configuration": {"AWS_SECRET_ACCESS_KEY": "canary-one"}}
    service = {"id": "s3", "endpoints": [{"url": "http://in:9000", "type": "internal"}], "credentials": [account]}
    patch = {"id": "minio", "version": "5.0.0", "services": [service]}
    result = send(used, "POST", "/extensions/plan", patch)
    assert (result["change"], result["revision"], effects(result)) == ("updates", 1, {("train", "demo"): "rebinds"})
    assert {change["path"] for change in result["changes"]} == {
        "version",
        "services[s3].endpoints[http://in:9000]",
        "services[s3].endpoints[http://in:9000].type",
    }
    assert send(used, "GET", "/extensions/minio")["revision"] == 1


def test_a_plan_refuses_invalid_records(registry: Registry) -> None:
    refused = send(registry, "POST", "/extensions/plan", {"id": "x", "services": [{"id": "a"}, {"id": "a"}], "nonsense": 1}, 400)
    assert refused["details"]["problems"][0]["path"] == "nonsense"
    send(registry, "POST", "/extensions/plan", {"id": "x", "services": [{"id": "a"}, {"id": "a"}]}, 409)
    refused = send(registry, "POST", "/extensions/plan?replace=true", {"id": "x", "services": [{"resource": "s3"}]}, 400)
    assert refused["details"]["problems"][0]["path"] == "services[0].id"


def test_a_dry_run_of_an_update_stores_nothing(used: Registry) -> None:
    result = send(used, "PUT", "/extensions/minio?dry_run=true", {"services": None})
    assert (result["change"], effects(result)) == ("updates", {("train", "demo"): "breaks"})
    assert result["effects"][0]["reason"] == "minio: it has no services"
    assert len(send(used, "GET", "/extensions/minio")["services"]) == 1
    send(used, "PUT", "/extensions/nothing?dry_run=true", {}, 404)
    assert used.client.put("/extensions/minio?dry_run=true", json={}, headers={"If-Match": '"7"'}).status_code == 412


def test_a_breaking_update_is_not_refused(used: Registry) -> None:
    assert send(used, "PUT", "/extensions/minio", {"services": None})["services"] == []


def test_a_dry_run_of_a_deletion_deletes_nothing(used: Registry) -> None:
    result = send(used, "DELETE", "/extensions/minio?dry_run=true")
    assert (result["change"], effects(result)) == ("removes", {("train", "demo"): "breaks"})
    send(used, "GET", "/extensions/minio")


def test_a_breaking_deletion_is_refused_unless_forced(used: Registry) -> None:
    refused = send(used, "DELETE", "/extensions/minio", status=409)
    assert refused["name"] == "conflict"
    assert refused["message"] == (
        "assigned workflows need extension minio: train/trainer 'store' would match nothing without it; use force to remove it anyway"
    )
    assert effects(refused["details"]["impact"]) == {("train", "demo"): "breaks"}
    send(used, "GET", "/extensions/minio")
    send(used, "DELETE", "/extensions/minio?force=true", status=204)
    send(used, "GET", "/extensions/minio", status=404)


@pytest.mark.parametrize("part", ["services/s3", "services/s3/endpoints/http:%252F%252Fminio:9000", "services/s3/credentials/admin"])
def test_a_breaking_deletion_of_a_part_is_refused_unless_forced(part: str, used: Registry) -> None:
    refused = send(used, "DELETE", f"/extensions/minio/{part}", status=409)
    assert effects(refused["details"]["impact"]) == {("train", "demo"): "breaks"}
    assert send(used, "GET", "/extensions/minio")["revision"] == 1
    send(used, "DELETE", f"/extensions/minio/{part}?force=true", status=204)
    assert send(used, "GET", "/extensions/minio")["revision"] == 2


def test_a_deletion_that_rebinds_is_accepted(used: Registry) -> None:
    send(used, "POST", "/extensions", {**MINIO, "id": "minio-2"}, 201)
    assert effects(send(used, "DELETE", "/extensions/minio?dry_run=true")) == {("train", "demo"): "rebinds"}
    send(used, "DELETE", "/extensions/minio", status=204)


def test_a_deletion_that_breaks_an_unassigned_workflow_is_accepted(registry: Registry) -> None:
    registry.add_workflow("train", STORE, assigned=None)
    send(registry, "POST", "/extensions", MINIO, 201)
    effect = send(registry, "DELETE", "/extensions/minio?dry_run=true")["effects"][0]
    assert (effect["effect"], effect["assigned"]) == ("breaks", False)
    send(registry, "DELETE", "/extensions/minio", status=204)


def test_the_account_of_one_project_is_needed_by_its_workflows_only(registry: Registry) -> None:
    account = {"id": "alpha", "scope": "project", "projects": ["alpha"], "configuration": {"KEY": "canary"}}
    record = {**MINIO, "services": [{**MINIO["services"][0], "credentials": [account]}]}
    registry.add_workflow("beta", STORE, assigned="code://beta/code")
    registry.add_workflow("open", STORE, assigned="model://*")
    send(registry, "POST", "/extensions", record, 201)
    assert effects(send(registry, "DELETE", "/extensions/minio?dry_run=true")) == {("beta", "beta"): "unchanged", ("open", ""): "unchanged"}
    send(registry, "DELETE", "/extensions/minio/services/s3/credentials/alpha", status=204)
    send(registry, "PUT", "/extensions/minio", record)
    registry.add_workflow("alpha", STORE, assigned="code://alpha/*")
    send(registry, "DELETE", "/extensions/minio/services/s3/credentials/alpha", status=409)


def test_the_impact_covers_projects_and_users_of_the_latest_runs(registry: Registry) -> None:
    accounts = [
        {"id": "ada", "scope": "user", "users": ["ada"], "configuration": {"KEY": "canary"}},
        {"id": "gamma", "scope": "project", "projects": ["gamma"], "configuration": {"KEY": "canary"}},
    ]
    send(registry, "POST", "/extensions", {**MINIO, "services": [{**MINIO["services"][0], "credentials": accounts}]}, 201)
    registry.add_workflow("open", STORE, assigned="code://*")
    for number, (project, user) in enumerate((("gamma", "bob"), ("delta", "ada"))):
        row = run_rows.Run(
            id=f"run-{number}",
            name=f"open-{number}",
            sequence=0,
            workflow="open",
            revision=1,
            project=project,
            trigger={"assignment": "open:code://*", "user": user},
            inputs={},
            state="succeeded",
            created=clock.now(),
        )
        with registry.store.write() as session:
            runs.add(session, row, [])
    result = send(registry, "DELETE", "/extensions/minio?dry_run=true")
    assert {(effect["project"], effect["user"], effect["effect"]) for effect in result["effects"]} == {
        ("", "", "unchanged"),
        ("gamma", "", "breaks"),
        ("delta", "", "unchanged"),
        ("delta", "ada", "breaks"),
    }


def test_an_equal_secret_is_no_change(used: Registry) -> None:
    with used.store.read() as session:
        before = extensions.get(session, "minio")
    # Again as a whole, as a patch of one part, and as the exported record.
    answer = send(used, "PUT", "/extensions/minio?replace=true", MINIO)
    assert answer["revision"] == 1
    assert send(used, "POST", "/extensions/plan?replace=true", MINIO)["change"] == "none"
    account = MINIO["services"][0]["credentials"][0]
    assert used.client.put("/extensions/minio/services/s3/credentials/admin", json=account).status_code == 200
    assert send(used, "PUT", "/extensions/minio?replace=true", answer)["revision"] == 1
    with used.store.read() as session:
        assert extensions.get(session, "minio") == before
    other = {"configuration": {"AWS_SECRET_ACCESS_KEY": "canary-two"}}
    assert used.client.put("/extensions/minio/services/s3/credentials/admin", json=other).status_code == 200
    assert send(used, "GET", "/extensions/minio")["revision"] == 2
    plan = send(used, "POST", "/extensions/plan", MINIO)
    assert [(change["path"], change["before"], change["after"]) for change in plan["changes"]] == [
        ("services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY", "<hidden>", "<hidden>")
    ]
    assert [change["key"] for change in plan["effects"][0]["environment"]] == ["AWS_SECRET_ACCESS_KEY"]


def test_a_secret_with_a_lost_key_can_be_sent_again(registry: Registry) -> None:
    lost, now = secrets.Keyring([secrets.new_key()]), registry.keyring
    account = extension.Credentials(id="admin", configuration={"KEY": "canary", "KEPT": extension.HIDDEN})
    again = sealing.seal(now, account, sealing.seal(lost, account, None))
    assert now.unseal(again.configuration["KEY"]) == "canary"
    assert again.configuration["KEPT"] == extension.HIDDEN


def test_a_whole_record_replaces_absent_fields_and_parts(used: Registry) -> None:
    file = {"id": "minio", "services": [{"id": "s3", "resource": "s3", "endpoints": [{"url": "http://only:9000"}]}]}
    after = send(used, "PUT", "/extensions/minio?replace=true", file)
    assert (after["product"], after["revision"]) == ("", 2)
    service = after["services"][0]
    assert (service["auth_required"], service["credentials"], [endpoint["url"] for endpoint in service["endpoints"]]) == (
        False,
        [],
        ["http://only:9000"],
    )


def test_the_plan_agrees_with_the_resolution_of_a_run(used: Registry) -> None:
    result = send(used, "POST", "/extensions/plan", {**MINIO, "id": "aaa", "version": "9.0.0"})
    send(used, "POST", "/extensions", {**MINIO, "id": "aaa", "version": "9.0.0"}, 201)
    selector = Selector.model_validate(STORE)
    with used.store.read() as session:
        resolved = resolution.resolve([selector], extensions.candidates(session, [selector]), Context(project="demo"))
    assert result["effects"][0]["after"]["extension_id"] == resolved.bindings[0].extension_id == "aaa"
