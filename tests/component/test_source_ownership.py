"""What a source may change and delete: only its own items. Changes by hand, and repositories elsewhere."""

from __future__ import annotations

import json

import pytest
import sqlalchemy

from fuseml.runtime import clock
from fuseml.store import extensions, runs
from fuseml.store.tables import run_rows
from tests.component.githost import Clone, Server, clone, server
from tests.component.sourced import FILES, KEYRING, NOTHING, STATE, Sourced, api, changed, effects, record, team, workflow

__all__ = ["api", "clone", "server", "team"]


# Ownership


def test_what_exists_is_adopted_only_on_request_and_is_never_deleted(api: Sourced) -> None:
    api.call("POST", "/extensions", {"id": "minio", "product": "minio", "services": [{"id": "s3", "resource": "s3"}]}, status=201)
    with api.store.read() as session:
        before = extensions.get(session, "minio")
    api.commit({"fuseml/registry/minio.yaml": record("minio")})
    answer = api.add()
    assert answer["state"] == "refused"
    assert "`fuseml source sync team --adopt`" in answer["message"]
    with api.store.read() as session:
        assert extensions.get(session, "minio") == before
    assert effects(api.diff(adopt=True)) == [("adopted", "extension", "minio")]
    answer = api.sync(adopt=True)
    assert (answer["state"], answer["contents"][0]["adopted"]) == ("synced", True)
    assert api.state()["extension"] == {"minio": ("1.0", "http://minio:9000")}
    api.commit({"fuseml/registry/minio.yaml": record("minio", "2.0")})
    assert effects(api.sync()) == [("updated", "extension", "minio")]
    api.commit({"README.md": "empty"})
    assert effects(api.sync()) == [("released", "extension", "minio")]
    assert api.state()["extension"] == {"minio": ("2.0", "http://minio:9000")}


def test_two_sources_never_fight(team: Sourced) -> None:
    team.commit({"fuseml/registry/minio.yaml": record("minio", "9.0"), "fuseml/registry/own.yaml": record("own")}, branch="next")
    for adopt in (False, True):
        answer = team.add("other", branch="next", adopt=adopt)
        assert answer["state"] == "refused"
        assert "belongs to the source 'team'" in answer["message"]
    assert team.state() == STATE
    team.call("DELETE", "/sources/team", status=204)
    assert team.state() == STATE
    assert team.sync("other")["state"] == "refused", "what a removed source leaves is as if made by hand"
    assert team.sync("other", adopt=True)["state"] == "synced"
    assert team.state()["extension"] == {"minio": ("9.0", "http://minio:9000"), "own": ("1.0", "http://minio:9000")}


def test_removal_deletes_what_the_source_has_made_only_on_request(team: Sourced) -> None:
    team.call("POST", "/workflows/assignments?name=train&pattern=model://*", status=201)
    refused = team.call("DELETE", "/sources/team?delete=true", status=409)
    assert "by hand" in refused["message"]
    assert team.state()["workflow"] == STATE["workflow"]
    team.call("DELETE", "/workflows/assignments/train?pattern=model://*", status=204)
    team.call("DELETE", "/sources/team?delete=true", status=204)
    assert (team.state(), team.call("GET", "/sources")) == (NOTHING, [])


def test_a_deletion_that_is_not_possible_now_refuses_the_whole_and_is_tried_again(team: Sourced) -> None:
    row = run_rows.Run(
        id="r",
        name="train-1",
        sequence=1,
        workflow="train",
        revision=1,
        project="demo",
        trigger={},
        inputs={},
        state="running",
        created=clock.now(),
    )
    with team.store.write() as session:
        runs.add(session, row, [])
    team.commit(changed(train=None, assigned=None, minio=record("minio", "2.0")))
    answer = team.sync()
    assert (answer["refusals"][0]["file"], team.state()) == ("fuseml/workflows/train.yaml", STATE)
    assert "has 1 active runs" in answer["message"]
    with team.store.write() as session:
        runs.get(session, "train-1").state = "succeeded"
        session.flush()
    team.tick()
    assert team.state()["workflow"] == {}
    assert team.state()["extension"]["minio"][0] == "2.0"


def test_a_record_that_assigned_workflows_need_is_not_deleted(team: Sourced) -> None:
    needing = workflow("use") + "    extensions: [{name: store, service_resource: s3}]\n"
    use = {"workflows__use": needing, "assignments__use": "workflow: use\ncodeset: demo/code\n"}
    team.commit(changed(**use))
    assert team.sync()["state"] == "synced"
    team.call("PUT", "/extensions/minio/services/s3/credentials/account", {"configuration": {"KEY": "x"}})
    team.commit(changed(minio=None, **use))
    assert "assigned workflows need extension minio" in team.sync()["message"]
    team.commit(changed(minio=None))
    assert team.sync()["state"] == "synced"


def test_the_remedies_of_refused_deletions_fit_a_source(team: Sourced) -> None:
    needing = workflow("use") + "    extensions: [{name: store, service_resource: s3}]\n"
    team.commit(changed(workflows__use=needing, assignments__use="workflow: use\ncodeset: demo/code\n"))
    assert team.sync()["state"] == "synced"
    team.call("PUT", "/extensions/minio/services/s3/credentials/account", {"configuration": {"KEY": "x"}})
    team.commit(changed(minio=None, workflows__use=needing, assignments__use="workflow: use\ncodeset: demo/code\n"))
    message = team.sync()["message"]
    assert ("force" in message, "change or unassign them first" in message) == (False, True)
    team.commit({"fuseml/assignments/a.yaml": "workflow: train\npattern: model://*\n"}, branch="next")
    team.commit(FILES)
    team.sync()
    assert team.add("other", branch="next")["state"] == "synced"
    team.commit(changed(train=None, assigned=None))
    assert "assigned to model://* by the source 'other'; remove it from that source" in team.sync()["message"]


def test_a_source_never_removes_a_record_that_took_the_place_of_its_address(api: Sourced, server: Server, elsewhere: Clone) -> None:
    api.add("foreign", codeset=None, url=server.url())
    api.call("DELETE", "/extensions/foreign", status=204)
    api.call("POST", "/extensions", {"id": "foreign", "product": "minio"}, status=201)
    api.call("DELETE", "/sources/foreign", status=204)
    with api.store.read() as session:
        assert extensions.get(session, "foreign").product == "minio"


def test_the_address_of_a_source_is_no_record_of_another_one(team: Sourced, server: Server, elsewhere: Clone) -> None:
    url = server.url()
    account = {"id": "account", "default": True, "configuration": {"username": "ada", "password": "correct horse"}}
    address = f"http://{url.rpartition('@')[2]}"
    service = {"id": "source", "resource": "fuseml-source", "endpoints": [{"url": address}], "credentials": [account]}
    foreign = json.dumps({"id": "foreign", "product": "git", "services": [service]})
    team.commit(changed(registry__foreign=foreign))
    assert team.sync()["state"] == "synced"
    refused = team.add("foreign", codeset=None, url=url, status=409)
    assert "the record 'foreign' belongs to the source 'team'" in refused["message"]
    team.call("DELETE", "/sources/team?delete=true", status=204)
    assert team.add("foreign", codeset=None, url=url)["name"] == "foreign"


# Drift


def test_changes_by_hand_are_shown_and_undone_by_the_next_sync(team: Sourced) -> None:
    team.call("PUT", "/extensions/minio", {"version": "7.0"})
    team.call("PUT", "/workflows/train", {"name": "train", "steps": [{"name": "a", "image": "other:1"}]})
    team.call("DELETE", "/workflows/assignments/train?pattern=code://alpha/*", status=204)
    [listed] = team.call("GET", "/sources")
    assert (listed["state"], listed["items"], listed["drifted"]) == ("synced", 6, 3)
    drifted = {item["name"] for item in team.call("GET", "/sources/team")["contents"] if item["drifted"]}
    assert drifted == {"minio", "train", "train code://alpha/*"}
    found = team.diff()["changes"]
    assert [(change["effect"], change["name"], change["by_hand"]) for change in found] == [
        ("updated", "minio", True),
        ("updated", "train", True),
        ("created", "train code://alpha/*", True),
    ]
    # A tick leaves them: a repair by hand may be needed until the next push.
    team.tick()
    assert team.call("GET", "/sources/team")["drifted"] == 3
    assert [change["by_hand"] for change in team.sync()["changes"]] == [True] * 3
    assert team.state() == STATE
    assert team.call("GET", "/sources/team")["drifted"] == 0


def test_a_change_by_hand_of_a_setting_with_the_name_of_a_read_only_field_is_shown(team: Sourced) -> None:
    file = json.loads(FILES["fuseml/registry/minio.yaml"])
    team.commit(changed(minio=json.dumps({**file, "configuration": {"status": "a", "revision": "1"}})))
    assert team.sync()["state"] == "synced"
    team.call("PUT", "/extensions/minio", {"configuration": {"status": "b", "revision": "1"}})
    assert team.call("GET", "/sources/team")["drifted"] == 1


def test_drift_is_counted_with_few_queries(team: Sourced) -> None:
    documents = "\n---\n".join
    many = range(150)
    team.commit(
        {
            "fuseml/projects/a.yaml": documents(f"name: p{number}" for number in many),
            "fuseml/registry/a.yaml": documents(f"{{id: r{number}, product: p}}" for number in many),
            "fuseml/workflows/a.yaml": documents(workflow(f"w{number}") for number in many),
            "fuseml/assignments/a.yaml": documents(f"workflow: w{number}\npattern: code://*" for number in many),
        }
    )
    assert team.sync()["state"] == "synced"
    team.call("PUT", "/extensions/r149", {"version": "2"})
    queries: list[str] = []
    sqlalchemy.event.listen(team.store.engine, "before_cursor_execute", lambda *about: queries.append(about[2]))
    [listed] = team.call("GET", "/sources")
    assert (listed["items"], listed["drifted"]) == (600, 1)
    assert len(queries) < 20


def test_a_file_that_moves_is_no_change(team: Sourced) -> None:
    files = changed(minio=None)
    files["fuseml/registry/stores/minio.yml"] = "# moved\n" + FILES["fuseml/registry/minio.yaml"]
    team.commit(files)
    assert (effects(team.diff()), team.sync()["state"]) == ([], "synced")
    assert "fuseml/registry/stores/minio.yml" in {item["file"] for item in team.call("GET", "/sources/team")["contents"]}


# Repositories elsewhere


@pytest.fixture
def elsewhere(clone: Clone) -> Clone:
    clone.commit("a change", {path: text for path, text in FILES.items() if "assignments" not in path})
    clone.git("push", "--quiet", "origin", "main")
    return clone


def test_a_private_repository_is_followed_with_an_account_that_is_a_record(api: Sourced, server: Server, elsewhere: Clone) -> None:
    answer = api.add("foreign", codeset=None, url=server.url())
    assert (answer["state"], answer["url"]) == ("synced", f"http://127.0.0.1:{server.port}/git/workspace/mnist.git")
    assert api.state() == {**STATE, "assignment": {}}
    with api.store.read() as session:
        account = extensions.get(session, "foreign").services[0].credentials[0].configuration
    assert KEYRING.unseal(account["password"]) == "correct horse"
    assert "correct" not in str(answer)
    head = elsewhere.commit("a change", {"fuseml/registry/minio.yaml": record("minio", "2.0")})
    elsewhere.git("push", "--quiet", "origin", "main")
    api.tick()
    assert api.call("GET", "/sources/foreign")["commit"] == head
    assert api.state()["extension"]["minio"][0] == "2.0"
    assert api.add("foreign", codeset=None, url=server.url())["commit"] == head
    assert "another account" in api.add("foreign", codeset=None, url=server.url(password="other"), status=409)["message"]
    # Its own record is no item of a source, with any flag.
    elsewhere.commit("a change", {"fuseml/registry/own.yaml": "id: foreign\nproduct: git\n"})
    elsewhere.git("push", "--quiet", "origin", "main")
    assert "belongs to FuseML itself" in api.sync("foreign", adopt=True)["message"]
    api.call("DELETE", "/sources/foreign", status=204)
    with api.store.read() as session:
        assert not extensions.is_known(session, "foreign")


def test_nothing_is_stored_of_a_repository_that_cannot_be_read(api: Sourced, server: Server, elsewhere: Clone) -> None:
    refused = api.add("foreign", codeset=None, url=server.url(password="wrong"), status=503)
    assert "refuses the credentials" in refused["message"]
    assert "wrong" not in refused["message"]
    for fields in (
        {"url": "ftp://x/y"},
        {"url": ""},
        {"url": server.url(), "codeset": "demo/config"},
        {"url": server.url(), "path": "../x"},
    ):
        api.add("foreign", **{"codeset": None, **fields}, status=400)
    api.add("a b", status=400)
    api.add(codeset="demo/gone", status=404)
    assert api.call("GET", "/sources") == []
    with api.store.read() as session:
        assert not extensions.is_known(session, "foreign")


def test_another_source_of_the_name_is_a_conflict(team: Sourced, server: Server, elsewhere: Clone) -> None:
    assert "exists, for demo/config" in team.add(path="elsewhere", status=409)["message"]
    assert "exists, for demo/config" in team.add(codeset=None, url=server.url(), status=409)["message"]
    with team.store.read() as session:
        assert not extensions.is_known(session, "team")


def test_a_missing_source_is_not_found(api: Sourced) -> None:
    for method, path in (("GET", ""), ("GET", "/diff"), ("DELETE", "")):
        assert "`fuseml source list`" in api.call(method, f"/sources/gone{path}", status=404)["message"]
    assert "`fuseml source list`" in api.call("POST", "/sources/gone/sync", {}, status=404)["message"]
