"""Plans, dry runs and refused deletions of the registry, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from functions.extensions import sealing
from fuseml.domain.registry import extension, resolution, selector
from fuseml.runtime import clock, secrets
from fuseml.store import extensions, runs
from fuseml.store.tables import run_rows
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
    made = Registry(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def used(registry: Registry) -> Registry:
    """MinIO is registered, and an assigned workflow needs it."""
    registry.add_workflow("train", STORE)
    assert registry.client.post("/extensions", json=MINIO).status_code == 201
    return registry


def send(registry: Registry, method: str, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
    answer = registry.client.open(path, method=method, json=body)
    assert answer.status_code == status, answer.text
    assert "canary" not in answer.text
    data: dict[str, Any] = answer.get_json() if answer.data else {}
    return data


def effects(found: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    return {(effect["workflow"], effect["project"]): effect["effect"] for effect in found["effects"]}


def test_a_plan_tells_what_a_new_record_would_do_and_stores_nothing(registry: Registry) -> None:
    registry.add_workflow("train", STORE)
    found = send(registry, "POST", "/extensions/plan", MINIO)
    assert (found["extension_id"], found["change"], found["revision"]) == ("minio", "registers", 0)
    assert effects(found) == {("train", "demo"): "resolves"}
    assert found["effects"][0]["after"] == {"extension_id": "minio", "service_id": "s3", "url": ENDPOINT, "credentials_id": "admin"}
    assert "services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY" in {change["path"] for change in found["changes"]}
    send(registry, "GET", "/extensions/minio", status=404)
    assert registry.published.events == []


def test_a_plan_of_a_known_record_is_that_of_an_update(used: Registry) -> None:
    patch = {"id": "minio", "version": "5.0.0", "services": [{"id": "s3", "endpoints": [{"url": "http://in:9000", "type": "internal"}]}]}
    found = send(used, "POST", "/extensions/plan", patch)
    assert (found["change"], found["revision"], effects(found)) == ("updates", 1, {("train", "demo"): "rebinds"})
    assert {change["path"] for change in found["changes"]} == {
        "version",
        "services[s3].endpoints[http://in:9000]",
        "services[s3].endpoints[http://in:9000].type",
    }
    assert send(used, "GET", "/extensions/minio")["revision"] == 1


def test_a_plan_finds_what_registering_would_refuse(registry: Registry) -> None:
    refused = send(registry, "POST", "/extensions/plan", {"id": "x", "services": [{"id": "a"}, {"id": "a"}], "nonsense": 1}, 400)
    assert refused["details"]["problems"][0]["path"] == "nonsense"
    send(registry, "POST", "/extensions/plan", {"id": "x", "services": [{"id": "a"}, {"id": "a"}]}, 409)
    refused = send(registry, "POST", "/extensions/plan?replace=true", {"id": "x", "services": [{"resource": "s3"}]}, 400)
    assert refused["details"]["problems"][0]["path"] == "services[0].id"


def test_a_dry_run_of_an_update_stores_nothing(used: Registry) -> None:
    found = send(used, "PUT", "/extensions/minio?dry_run=true", {"services": None})
    assert (found["change"], effects(found)) == ("updates", {("train", "demo"): "breaks"})
    assert found["effects"][0]["reason"] == "minio: it has no services"
    assert len(send(used, "GET", "/extensions/minio")["services"]) == 1
    send(used, "PUT", "/extensions/nothing?dry_run=true", {}, 404)
    assert used.client.put("/extensions/minio?dry_run=true", json={}, headers={"If-Match": '"7"'}).status_code == 412


def test_an_update_is_not_refused_whatever_it_breaks(used: Registry) -> None:
    assert send(used, "PUT", "/extensions/minio", {"services": None})["services"] == []


def test_a_dry_run_of_a_deletion_deletes_nothing(used: Registry) -> None:
    found = send(used, "DELETE", "/extensions/minio?dry_run=true")
    assert (found["change"], effects(found)) == ("removes", {("train", "demo"): "breaks"})
    send(used, "GET", "/extensions/minio")


def test_deleting_what_an_assigned_workflow_needs_is_refused_unless_forced(used: Registry) -> None:
    refused = send(used, "DELETE", "/extensions/minio", status=409)
    assert refused["name"] == "conflict"
    assert refused["message"] == (
        "extension minio is needed by assigned workflows: without it train/trainer 'store' would find nothing; force it if that is meant"
    )
    assert effects(refused["details"]["impact"]) == {("train", "demo"): "breaks"}
    send(used, "GET", "/extensions/minio")
    send(used, "DELETE", "/extensions/minio?force=true", status=204)
    send(used, "GET", "/extensions/minio", status=404)


@pytest.mark.parametrize("part", ["services/s3", "services/s3/endpoints/http:%252F%252Fminio:9000", "services/s3/credentials/admin"])
def test_the_parts_that_an_assigned_workflow_needs_are_kept_too(part: str, used: Registry) -> None:
    refused = send(used, "DELETE", f"/extensions/minio/{part}", status=409)
    assert effects(refused["details"]["impact"]) == {("train", "demo"): "breaks"}
    assert send(used, "GET", "/extensions/minio")["revision"] == 1
    send(used, "DELETE", f"/extensions/minio/{part}?force=true", status=204)
    assert send(used, "GET", "/extensions/minio")["revision"] == 2


def test_what_another_record_can_stand_in_for_may_go(used: Registry) -> None:
    send(used, "POST", "/extensions", {**MINIO, "id": "minio-2"}, 201)
    assert effects(send(used, "DELETE", "/extensions/minio?dry_run=true")) == {("train", "demo"): "rebinds"}
    send(used, "DELETE", "/extensions/minio", status=204)


def test_what_only_an_unassigned_workflow_needs_may_go(registry: Registry) -> None:
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


def test_the_projects_and_users_of_the_latest_runs_are_judged_too(registry: Registry) -> None:
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
    found = send(registry, "DELETE", "/extensions/minio?dry_run=true")
    assert {(effect["project"], effect["user"], effect["effect"]) for effect in found["effects"]} == {
        ("", "", "unchanged"),
        ("gamma", "", "breaks"),
        ("delta", "", "unchanged"),
        ("delta", "ada", "breaks"),
    }


def test_the_same_secret_again_is_no_change(used: Registry) -> None:
    with used.store.read() as session:
        before = extensions.get(session, "minio")
    # Sent again whole, as a patch of one part, and as the exported record.
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
    planned = send(used, "POST", "/extensions/plan", MINIO)
    assert [(change["path"], change["before"], change["after"]) for change in planned["changes"]] == [
        ("services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY", "<hidden>", "<hidden>")
    ]
    assert [change["key"] for change in planned["effects"][0]["environment"]] == ["AWS_SECRET_ACCESS_KEY"]


def test_a_secret_whose_key_was_lost_can_be_sent_again(registry: Registry) -> None:
    lost, now = secrets.Keyring([secrets.new_key()]), registry.keyring
    account = extension.Credentials(id="admin", configuration={"KEY": "canary", "KEPT": extension.HIDDEN})
    again = sealing.sealed(now, account, sealing.sealed(lost, account, None))
    assert now.unseal(again.configuration["KEY"]) == "canary"
    assert again.configuration["KEPT"] == extension.HIDDEN


def test_a_whole_record_drops_what_it_does_not_name(used: Registry) -> None:
    file = {"id": "minio", "services": [{"id": "s3", "resource": "s3", "endpoints": [{"url": "http://only:9000"}]}]}
    after = send(used, "PUT", "/extensions/minio?replace=true", file)
    assert (after["product"], after["revision"]) == ("", 2)
    service = after["services"][0]
    assert (service["auth_required"], service["credentials"], [endpoint["url"] for endpoint in service["endpoints"]]) == (
        False,
        [],
        ["http://only:9000"],
    )


def test_the_plan_agrees_with_what_a_run_would_resolve(used: Registry) -> None:
    found = send(used, "POST", "/extensions/plan", {**MINIO, "id": "aaa", "version": "9.0.0"})
    send(used, "POST", "/extensions", {**MINIO, "id": "aaa", "version": "9.0.0"}, 201)
    wanted = selector.Selector.model_validate(STORE)
    with used.store.read() as session:
        resolved = resolution.resolve([wanted], extensions.candidates(session, [wanted]), selector.Context(project="demo"))
    assert found["effects"][0]["after"]["extension_id"] == resolved.bindings[0].extension_id == "aaa"
