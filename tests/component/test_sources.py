"""Sources: the files of a repository become records, workflows, assignments and projects, all or none, and only what the source owns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from functions.events import timeline
from functions.sources import reading
from fuseml.domain import events
from fuseml.runtime import clock
from fuseml.store import codesets, database, decisions, extensions, outbox, runs, sources
from fuseml.store.tables import run_rows
from tests.component.githost import Clone, Server, clone, server
from tests.component.sourced import KEYRING, Sourced, record, workflow

__all__ = ["clone", "server"]

FILES = {
    "fuseml/projects/all.yaml": "name: alpha\ndescription: Ours.\n---\nname: beta\n",
    "fuseml/registry/minio.yaml": record("minio"),
    "fuseml/workflows/train.yaml": workflow("train"),
    "fuseml/assignments/train.yaml": "workflow: train\ncodeset: demo/code\n---\nworkflow: train\npattern: code://alpha/*\n",
    "README.md": "not read",
    "other/registry/no.yaml": "not: [read",
}
STATE = {
    "project": {"alpha": "Ours.", "beta": ""},
    "extension": {"minio": ("1.0", "http://minio:9000")},
    "workflow": {"train": "shell:1"},
    "assignment": {"train code://demo/code": True, "train code://alpha/*": True},
}
NOTHING: dict[str, dict[str, Any]] = {kind: {} for kind in STATE}


@pytest.fixture
def api(sqlite_store: database.Database, tmp_path: Path) -> Sourced:
    sourced = Sourced(sqlite_store, tmp_path)
    sourced.furnish()
    return sourced


@pytest.fixture
def team(api: Sourced) -> Sourced:
    """With a source of `FILES`, and no events so far."""
    api.commit(FILES)
    assert api.add()["state"] == "synced"
    api.published.clear()
    return api


def changed(**files: str | None) -> dict[str, str]:
    """`FILES` with other contents for `registry/minio.yaml` (`minio`) and so on; None removes a file."""
    paths = {Path(path).stem if "assignments" not in path else "assigned": path for path in FILES}
    merged = {**FILES, **{paths.get(name, f"fuseml/{name.replace('__', '/')}.yaml"): text for name, text in files.items()}}
    return {path: text for path, text in merged.items() if text is not None}


def effects(answer: Any) -> list[tuple[str, str, str]]:
    return [(change["effect"], change["kind"], change["name"]) for change in answer["changes"]]


def explained(api: Sourced, event: events.Event) -> tuple[str, str]:
    """The outcome of the event, and the answer, as `why` shows them."""
    with api.store.read() as session:
        [decision] = decisions.of_event(session, event.source, event.id)
    outcome = timeline.decision_outcome(decision, None)
    return outcome.state, timeline.sentence("It", [timeline.Timeline(chain=[], outcomes=[outcome])])


# Synchronisation


def test_a_new_source_makes_everything_that_its_files_declare(api: Sourced) -> None:
    commit = api.commit(FILES)
    answer = api.add()
    assert api.state() == STATE
    assert (answer["state"], answer["commit"], answer["seen"], answer["by"]) == ("synced", commit, commit, "ada")
    assert [(item["kind"], item["name"], item["file"], item["drifted"]) for item in answer["contents"]] == [
        ("assignment", "train code://alpha/*", "fuseml/assignments/train.yaml", False),
        ("assignment", "train code://demo/code", "fuseml/assignments/train.yaml", False),
        ("extension", "minio", "fuseml/registry/minio.yaml", False),
        ("project", "alpha", "fuseml/projects/all.yaml", False),
        ("project", "beta", "fuseml/projects/all.yaml", False),
        ("workflow", "train", "fuseml/workflows/train.yaml", False),
    ]
    assert sorted(api.types()) == [
        "extension.registered",
        "source.synced",
        "workflow.assigned",
        "workflow.assigned",
        "workflow.updated",
    ]
    assert api.published[-1].data == {"name": "team", "commit": commit, "created": 6, "updated": 0, "deleted": 0}


def test_both_databases_apply_all_or_nothing(store: database.Database, tmp_path: Path) -> None:
    system = Sourced(store, tmp_path)
    system.furnish()
    system.commit(FILES)
    assert system.add()["state"] == "synced"
    system.commit(
        changed(minio=record("minio", "2.0"), registry__new=record("new"), assignments__bad="workflow: gone\ncodeset: demo/code\n")
    )
    assert (system.sync()["state"], system.state()) == ("refused", STATE)
    assert len(system.diff()["refusals"]) == 1
    system.commit({})
    assert len(system.diff()["changes"]) == 6
    assert system.state() == STATE
    assert (system.sync()["state"], system.state()) == ("synced", NOTHING)


def test_the_same_files_again_change_nothing(team: Sourced) -> None:
    assert team.add() == {**team.call("GET", "/sources/team")}
    assert team.sync()["state"] == "synced"
    team.tick()
    team.deliver(team.pushed("c" * 40))
    assert team.types() == []
    assert team.diff() == {"commit": team.call("GET", "/sources/team")["commit"], "changes": [], "refusals": []}


def test_a_push_is_reconciled_at_once_and_its_result_is_a_decision(team: Sourced) -> None:
    commit = team.commit(changed(minio=record("minio", "2.0"), registry__s3=record("s3"), assigned="workflow: train\ncodeset: demo/code\n"))
    event = team.pushed(commit)
    team.deliver(event)
    assert team.state()["extension"] == {"minio": ("2.0", "http://minio:9000"), "s3": ("1.0", "http://minio:9000")}
    assert team.state()["assignment"] == {"train code://demo/code": True}
    assert team.reasons(event) == [f"the source team is at {commit[:12]}"]
    assert explained(team, event) == ("applied", f"It was applied: the source team is at {commit[:12]}.")
    answer = team.call("GET", "/sources/team")
    assert effects(answer) == [
        ("updated", "extension", "minio"),
        ("created", "extension", "s3"),
        ("deleted", "assignment", "train code://alpha/*"),
    ]
    assert answer["changes"][0]["fields"] == ["version"]
    team.deliver(event)
    assert sorted(team.types()) == ["extension.registered", "extension.updated", "source.synced"]


def test_a_late_push_brings_the_newest_commit_and_a_lost_one_is_found_by_the_tick(team: Sourced) -> None:
    first = team.commit(changed(minio=record("minio", "2.0")))
    team.commit(changed(minio=record("minio", "3.0")))
    team.deliver(team.pushed(first))
    assert team.state()["extension"]["minio"][0] == "3.0"
    last = team.commit(changed(minio=record("minio", "4.0")))
    team.tick()
    assert team.state()["extension"]["minio"][0] == "4.0"
    team.deliver(team.pushed(last))
    assert team.types().count("extension.updated") == 2


def test_a_slow_look_at_an_older_commit_never_replaces_a_newer_one(team: Sourced) -> None:
    def overtake(version: str) -> None:
        team.commit(changed(minio=record("minio", version)))
        assert team.sync()["state"] == "synced"

    team.commit(changed(minio=record("minio", "2.0")))
    team.git.meanwhile = lambda: overtake("3.0")
    assert team.sync()["state"] == "synced"
    assert team.state()["extension"]["minio"][0] == "3.0"
    event = team.pushed(team.commit(changed(minio=record("minio", "4.0"))))
    team.git.meanwhile = lambda: overtake("5.0")
    team.deliver(event, status=503)
    team.deliver(event)
    assert team.state()["extension"]["minio"][0] == "5.0"
    assert team.types().count("extension.updated") == 2


def test_only_the_branch_of_the_source_counts(team: Sourced) -> None:
    other = team.commit({"fuseml/registry/other.yaml": record("other")}, branch="next")
    event = team.pushed(other, "refs/heads/next")
    team.deliver(event)
    assert team.reasons(event) == []
    assert team.state() == STATE
    assert team.add("next", branch="next")["state"] == "synced"
    assert set(team.state()["extension"]) == {"minio", "other"}
    assert "does not have the branch" in team.add("third", branch="third", status=404)["message"]


def test_a_source_before_its_first_push_waits(api: Sourced) -> None:
    assert (api.add()["state"], api.state()) == ("waiting", NOTHING)
    assert api.diff() == {"commit": "", "changes": [], "refusals": []}
    api.deliver(api.pushed(api.commit(FILES)))
    assert api.state() == STATE


def test_a_codeset_that_is_registered_again_is_another_one(team: Sourced) -> None:
    with team.store.write() as session:
        codesets.delete_codeset(session, "demo", "config")
    assert "there is no codeset demo/config" in team.sync()["message"]
    team.commit({"README.md": "of someone else"})
    with team.store.write() as session:
        row = type(codesets.codeset(session, "demo", "code"))
        codesets.add_codeset(session, row(project="demo", name="config", url="http://x", webhook_secret="x", created=clock.now()))
    team.deliver(team.pushed("c" * 40))
    team.tick()
    assert "remove the source, and add it again" in team.call("GET", "/sources/team")["message"]
    assert team.state() == STATE
    team.call("DELETE", "/sources/team", status=204)
    assert team.add()["state"] == "synced"


def test_a_host_that_is_away_delays_the_push_and_is_shown(team: Sourced) -> None:
    commit = team.commit(changed(minio=record("minio", "2.0")))
    team.git.away = True
    event = team.pushed(commit)
    team.deliver(event, status=503)
    assert (team.sync()["state"], team.sync()["message"]) == ("unreadable", "the git host is away")
    assert team.call("GET", "/sources/team/diff", status=503)["temporary"]
    assert team.add("second", status=503)["message"] == "the git host is away"
    assert [source["name"] for source in team.call("GET", "/sources")] == ["team"]
    team.git.away = False
    team.deliver(event)
    assert team.state()["extension"]["minio"][0] == "2.0"


def test_events_wait_for_a_broker_that_is_away(team: Sourced) -> None:
    team.away = True
    team.commit(changed(minio=record("minio", "2.0")))
    assert team.sync()["state"] == "synced"
    with team.store.read() as session:
        waiting = [entry.event.type for entry in outbox.pending(session, 0, 10)]
    assert waiting == [events.ExtensionUpdated.TYPE, events.SourceSynced.TYPE]


# Faults of files


@pytest.mark.parametrize(
    ("files", "file", "line", "message"),
    [
        ({"registry__bad": "id: bad\nversoin: 1\n"}, "fuseml/registry/bad.yaml", 2, "did you mean 'version'?"),
        ({"registry__bad": "id: ok\n---\nproduct: x\n"}, "fuseml/registry/bad.yaml", 3, "id: is required"),
        ({"registry__bad": "id: fuseml\n"}, "fuseml/registry/bad.yaml", 1, "the server's own record"),
        ({"registry__bad": "id: bad\nservices: [{resource: s3}]\n"}, "fuseml/registry/bad.yaml", 2, "services[0].id"),
        ({"registry__again": record("minio")}, "fuseml/registry/minio.yaml", 1, "declared in fuseml/registry/again.yaml"),
        ({"registry__bad": "id: [\n"}, "fuseml/registry/bad.yaml", 2, ""),
        ({"workflows__bad": "name: bad\nsteps:\n  - name: a\n    image: '{{ inputs.x }}'\n"}, "fuseml/workflows/bad.yaml", 4, "x"),
        ({"assignments__bad": "workflow: train\n"}, "fuseml/assignments/bad.yaml", 1, "either a codeset"),
        ({"assignments__bad": "workflow: train\ncodeset: demo/gone\n"}, "fuseml/assignments/bad.yaml", 1, "no codeset demo/gone"),
        ({"assignments__bad": "workflow: train\npattern: code://demo/gone\n"}, "fuseml/assignments/bad.yaml", 1, "no codeset demo/gone"),
        ({"assignments__bad": "workflow: gone\ncodeset: demo/code\n"}, "fuseml/assignments/bad.yaml", 1, "no workflow named 'gone'"),
        ({"projects__bad": "name: a b\n"}, "fuseml/projects/bad.yaml", 1, "'a b' is not a valid name"),
        ({"registry__bad": record("bad", secret="the-token")}, "fuseml/registry/bad.yaml", 1, "an API token of this server"),
        ({"registry__bad": "id: bad\nconfiguration: {A: <step token>}\n"}, "fuseml/registry/bad.yaml", 1, "only FuseML's own record"),
    ],
)
def test_a_fault_is_named_with_its_place_and_nothing_is_changed(
    team: Sourced, files: dict[str, str], file: str, line: int, message: str
) -> None:
    commit = team.commit(changed(minio=record("minio", "2.0"), **files))
    event = team.pushed(commit)
    team.deliver(event)
    answer = team.call("GET", "/sources/team")
    assert (answer["state"], answer["seen"]) == ("refused", commit)
    assert answer["commit"] != commit
    [refusal] = answer["refusals"]
    assert (refusal["file"], refusal["line"]) == (file, line)
    assert message in refusal["message"]
    assert team.state() == STATE
    assert team.types() == ["source.refused"]
    [reason] = team.reasons(event)
    assert reason.startswith(f"the source team was not applied: {file}")
    assert explained(team, event) == ("refused", f"It started nothing: {reason}.")
    assert [item["message"] for item in team.diff()["refusals"]] == [refusal["message"]]
    # The same fault again is no news; the next commit is.
    team.tick()
    assert team.types() == ["source.refused"]
    team.commit(FILES)
    team.tick()
    assert team.call("GET", "/sources/team")["state"] == "synced"


def test_files_that_are_no_text_or_too_many_are_refused(team: Sourced) -> None:
    team.commit({**FILES, "fuseml/registry/bad.yaml": b"\xff\xfe"})
    assert team.sync()["refusals"][0]["message"] == "is not text in UTF-8"
    team.commit({"fuseml/projects/all.yaml": "\n---\n".join(f"name: p{number}" for number in range(1001))})
    assert "more than 1000 items" in team.sync()["message"]
    assert team.state() == STATE


def test_the_files_of_a_codeset_are_read_within_bounds(team: Sourced) -> None:
    with team.store.read() as session:
        row = sources.get(session, "team")
    look = reading.look(team.deps, row, seconds=0)
    assert (look.temporary, look.problem) == (True, "the 4 files of the source could not be read within 0 seconds")
    team.commit({f"fuseml/projects/{number}.yaml": f"# {number}\n" + "#" * 1_000_000 for number in range(9)})
    answer = team.sync()
    assert (answer["state"], answer["message"]) == (
        "unreadable",
        "the files of the source take more than 8.0 MiB; divide it into several sources",
    )
    team.commit({"fuseml/projects/a.yaml": "#" * (1 << 20) + "\n"})
    assert "'fuseml/projects/a.yaml' has 1048577 bytes, more than 1048576" in team.sync()["message"]


@pytest.mark.parametrize(
    "file",
    [
        {"fuseml/projects/\udcff.yaml": "name: gamma\n"},
        {"fuseml/projects/bad.yaml": 'name: gamma\ndescription: "\\0"\n'},
        {"fuseml/assignments/bad.yaml": 'workflow: "train\\0"\npattern: model://*\n'},
    ],
)
def test_text_that_no_database_holds_is_refused_and_other_sources_go_on(team: Sourced, file: dict[str, str]) -> None:
    team.commit({"fuseml/projects/b.yaml": "name: of-next\n"}, branch="next")
    team.add("zone", branch="next")
    team.commit({**FILES, **file})
    team.commit({"fuseml/projects/b.yaml": "name: of-next-too\n"}, branch="next")
    team.tick()
    assert team.call("GET", "/sources/team")["state"] == "refused"
    assert "of-next-too" in team.state()["project"]


def test_one_source_with_a_fault_of_the_server_leaves_the_others(team: Sourced, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a fault of the server")

    branches = ("main", "next")
    team.commit({"fuseml/projects/b.yaml": "name: gamma\n"}, branch="next")
    team.add("zone", branch="next")
    heads = [team.commit({"fuseml/projects/a.yaml": f"name: of-{branch}\n"}, branch=branch) for branch in branches]
    team.git.meanwhile = fail
    team.tick()
    assert "RuntimeError: a fault of the server" in caplog.text
    assert sum(source["commit"] in heads for source in team.call("GET", "/sources")) == 1
    team.tick()
    assert set(team.state()["project"]) == {"of-main", "of-next"}


def test_refused_files_are_read_again_after_a_push_only(team: Sourced) -> None:
    team.commit(changed(registry__bad="id: bad\nversoin: 1\n"))
    team.tick()
    read, checked = team.git.listed, team.call("GET", "/sources/team")["checked"]
    team.tick()
    assert team.git.listed == read
    assert team.call("GET", "/sources/team")["checked"] > checked
    team.sync()
    assert team.git.listed == read + 1
    # What other things speak against is tried again.
    team.commit(changed(assignments__bad="workflow: train\ncodeset: demo/gone\n"))
    team.tick()
    team.tick()
    assert team.git.listed == read + 3


def test_a_synced_source_that_cannot_be_read_any_more_says_so(team: Sourced, caplog: pytest.LogCaptureFixture) -> None:
    before = team.call("GET", "/sources/team")
    team.git.away = True
    team.tick()
    answer = team.call("GET", "/sources/team")
    assert (answer["state"], answer["message"], answer["checked"] > before["checked"]) == ("unreadable", "the git host is away", True)
    team.git.away = False
    team.tick()
    assert team.call("GET", "/sources/team")["state"] == "synced"
    assert "the source team: works again" in caplog.text
    caplog.clear()
    with team.store.write() as session:
        codesets.delete_codeset(session, "demo", "config")
    team.tick()
    team.tick()
    answer = team.call("GET", "/sources/team")
    assert (answer["state"], "there is no codeset demo/config" in answer["message"]) == ("unreadable", True)
    assert "works again" not in caplog.text
    assert len([entry for entry in caplog.records if entry.levelname == "WARNING" and "no codeset" in entry.message]) == 1


def test_what_could_not_be_applied_is_applied_once_it_can_be(team: Sourced) -> None:
    team.commit(changed(assignments__more="workflow: train\ncodeset: alpha/code\n"))
    assert team.sync()["state"] == "refused"
    with team.store.write() as session:
        row = codesets.codeset(session, "demo", "code")
        more = type(row)(**{**row.model_dump(), "project": "alpha"})
        codesets.add_codeset(session, more)
    team.tick()
    assert team.call("GET", "/sources/team")["state"] == "synced"
    assert "train code://alpha/code" in team.state()["assignment"]


# Secrets


@pytest.mark.parametrize("reference", ["${env:HOME}", "${file:/etc/passwd}", "a-${env:FUSEML_SECRET_KEYS}-b"])
def test_a_reference_to_the_server_is_refused_and_never_resolved(team: Sourced, reference: str) -> None:
    team.commit(changed(minio=record("minio", secret=reference)))
    answer = team.sync()
    assert "a source reads no variable and no file of the server" in answer["message"]
    assert "fuseml extension credentials update minio s3 account" in answer["message"]
    assert team.state() == STATE


def test_a_hidden_value_is_given_by_hand_once_and_stays(team: Sourced) -> None:
    place = "/extensions/minio/services/s3/credentials/account"
    team.call("PUT", place, {"configuration": {"KEY": "canary"}})
    assert team.call("GET", "/sources/team")["drifted"] == 0
    assert team.diff()["changes"] == []
    team.commit(changed(minio=record("minio", "2.0")))
    assert team.sync()["state"] == "synced"
    with team.store.read() as session:
        [credentials] = extensions.get(session, "minio").services[0].credentials
    assert KEYRING.unseal(credentials.configuration["KEY"]) == "canary"
    # Nor does it go to another address.
    team.commit(changed(minio=record("minio", "2.0", url="http://evil:9000")))
    assert "the stored secret was not given for the new address" in team.sync()["message"]


def test_a_value_in_a_file_is_sealed_and_shown_nowhere(team: Sourced) -> None:
    team.commit(changed(minio=record("minio", secret="canary-1")))
    shown = [team.diff(), team.sync(), team.call("GET", "/sources/team"), [event.data for event in team.published]]
    with team.store.read() as session:
        stored = extensions.get(session, "minio")
    assert "canary" not in str(shown) + str(stored.model_dump())
    assert KEYRING.unseal(stored.services[0].credentials[0].configuration["KEY"]) == "canary-1"
    assert effects(team.call("GET", "/sources/team")) == [("updated", "extension", "minio")]


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
