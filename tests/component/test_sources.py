"""Sources: the files of a repository become records, workflows, assignments and projects, all or none; faults of files, and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from functions.events import timeline
from functions.sources import reading
from fuseml.domain import events
from fuseml.runtime import clock
from fuseml.store import codesets, database, decisions, extensions, outbox, sources
from tests.component.githost import clone, server
from tests.component.sourced import FILES, KEYRING, NOTHING, STATE, Sourced, api, changed, effects, record, team

__all__ = ["api", "clone", "server", "team"]


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
