"""Codesets that follow a repository elsewhere: registration, webhooks, synchronisation, status, commit statuses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuseml.domain import events
from fuseml.runtime import clock
from fuseml.store import database
from tests.component import copied
from tests.component.githost import Clone, git
from tests.contract import origin_hosts

KINDS = ["gitea", "forgejo", "github", "gitlab"]


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, sqlite_store: database.Database, tmp_path: Path) -> Iterator[copied.Copied]:
    with copied.copied(sqlite_store, tmp_path, request.param) as made:
        yield made


@pytest.fixture
def one(sqlite_store: database.Database, tmp_path: Path) -> Iterator[copied.Copied]:
    with copied.copied(sqlite_store, tmp_path, "gitlab") as made:
        yield made


def pushed(made: copied.Copied, folder: Path) -> tuple[Clone, str]:
    """A working copy of the origin, and the commit that was pushed from it."""
    clone = Clone.fresh(made.origin.push_url(), folder)
    commit = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    return clone, commit


def test_a_registered_repository_is_followed(each: copied.Copied, tmp_path: Path) -> None:
    clone, first = pushed(each, tmp_path / "work")
    each.register_host(origin_hosts.ADMIN)
    registered = each.register()
    assert registered["webhook"]["state"] == "set" and registered["webhook"]["secret"] == ""
    assert len(each.origin.hooks) == 1
    each.follow()
    assert each.pushes() == [("refs/heads/main", first)]

    # The host delivers; a repeated delivery is one event, and another synchronisation changes nothing.
    second = clone.commit("second", {"train.py": "print(2)\n"})
    clone.git("push", "--quiet", "origin", "main", "HEAD:refs/heads/extra")
    assert [each.origin.deliver(b"{}", delivery="d-1") for _ in range(2)] == [202, 202]
    each.follow()
    assert sorted(each.pushes()[1:]) == [("refs/heads/extra", second), ("refs/heads/main", second)]
    assert each.origin.deliver(b"{}", event="Issue Hook" if each.origin.kind == "gitlab" else "issues") == 202
    assert not [event for event in each.published if event.type == events.CodesetReported.TYPE]

    shown = each.status()
    assert shown["missing"] == []
    assert shown["access"] == {"read": True, "webhooks": True, "statuses": True, "problem": ""}
    assert shown["webhook"]["state"] == "set"
    assert (shown["origin"]["host"], shown["origin"]["vcs"]) == (each.origin.kind, "forge/git")
    assert shown["origin"]["synced"] and shown["origin"]["delivered"]
    each.call("codesets", "DELETE", "/codesets/demo/churn", 204)
    assert each.origin.hooks == []
    each.call("codesets", "GET", "/codesets/demo/churn/status", 404)


def test_a_token_that_may_not_set_webhooks_leaves_a_form_for_people(each: copied.Copied, tmp_path: Path) -> None:
    _, first = pushed(each, tmp_path / "work")
    each.register_host(origin_hosts.WRITER)
    webhook = each.register()["webhook"]
    assert webhook["state"] == "manual" and webhook["secret"] and webhook["problem"]
    assert webhook["content_type"] == "application/json" and webhook["events"]
    assert webhook["secret_field"] == ("Secret token" if each.origin.kind == "gitlab" else "Secret")
    missing = " ".join(each.status()["missing"])
    assert "webhook" in missing or "deliver" in missing
    assert webhook["secret"] not in str(each.status())

    # A person enters what the answer says.
    hook = {"url": webhook["url"], "token": webhook["secret"], "config": {"url": webhook["url"], "secret": webhook["secret"]}}
    each.origin.hooks.append({"id": 1, "active": True, **hook})
    each.published.clear()
    assert each.origin.deliver(b"{}") == 202
    each.follow()
    assert each.pushes() == [("refs/heads/main", first)]
    assert "deliver" not in " ".join(each.status()["missing"])


def test_a_delivery_without_a_valid_proof_is_refused(each: copied.Copied) -> None:
    each.register_host(origin_hosts.ADMIN)
    each.register()
    each.published.clear()
    wrong = origin_hosts.signed(each.origin.kind, "another secret", b"{}")
    right = origin_hosts.signed(each.origin.kind, each.keyring.unseal(each.row().secret), b"{}")
    ingress = each.functions["ingress"].test_client()
    answers = [
        ingress.post("/webhooks/git/demo/churn", data=b"{}", headers=wrong),
        ingress.post("/webhooks/git/demo/unknown", data=b"{}", headers=right),
        ingress.post("/webhooks/git/demo/churn", data=b"{}"),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    # A stranger does not find out which codesets there are.
    assert answers[0].json is not None and answers[1].json is not None
    assert answers[0].json["message"] == answers[1].json["message"]
    assert not each.published
    assert any("refused" in item for item in each.status()["missing"])
    assert ingress.post("/webhooks/git/demo/churn", data=b"{}", headers=right).status_code == 202
    assert not any("refused" in item for item in each.status()["missing"])


def test_a_rotated_secret_replaces_the_webhook_and_the_former_stays_valid(each: copied.Copied) -> None:
    each.register_host(origin_hosts.ADMIN)
    each.register()
    former = each.keyring.unseal(each.row().secret)
    secret = each.call("codesets", "POST", "/codesets/demo/churn/webhook")["secret"]
    assert secret == each.keyring.unseal(each.row().secret) != former
    assert len(each.origin.hooks) == 1 and each.status()["webhook"]["state"] == "set"
    ingress = each.functions["ingress"].test_client()

    def answered(secret: str) -> int:
        headers = origin_hosts.signed(each.origin.kind, secret, b"{}")
        return ingress.post("/webhooks/git/demo/churn", data=b"{}", headers=headers).status_code

    assert [answered(each_secret) for each_secret in (former, secret)] == [202, 202]
    each.call("codesets", "POST", "/codesets/demo/churn/webhook", query_string={"revoke": "true"})
    assert [answered(each_secret) for each_secret in (former, secret)] == [401, 401]


def test_a_run_is_shown_at_its_commit(each: copied.Copied, tmp_path: Path) -> None:
    _, commit = pushed(each, tmp_path / "work")
    each.register_host(origin_hosts.WRITER)
    each.register()
    each.follow()
    link = f"http://127.0.0.1:{each.port}/api/runs/train-1"
    failed = "failed" if each.origin.kind == "gitlab" else "failure"
    each.deliver(each.run(1, commit, "queued"))
    each.deliver(each.run(1, commit, "running"))
    assert each.origin.shown(commit) == {"fuseml/demo/train": ("pending", each.origin.shown(commit)["fuseml/demo/train"][1], link)}
    finished = each.run(1, commit, "failed", "fit: exit code 1\x1b[2J\nTraceback")
    for _ in range(3):
        each.deliver(finished)
    state, description, target = each.origin.shown(commit)["fuseml/demo/train"]
    assert (state, target) == (failed, link)
    assert description.startswith("train-1 failed: fit: exit code 1") and "\x1b" not in description and "\n" not in description
    sent = len(each.origin.statuses)
    # Late, repeated, out of order: nothing goes back.
    created = events.event(
        events.RunCreated(run="train-1", workflow="train", revision=1, project="demo", codeset="churn", commit=commit), clock.now()
    )
    each.deliver(created)
    assert len(each.origin.statuses) == sent
    each.deliver(each.run(2, commit, "succeeded"))
    assert each.origin.shown(commit)["fuseml/demo/train"][0] == "success"
    each.deliver(finished)
    each.tick()
    assert each.origin.shown(commit)["fuseml/demo/train"][:2] == ("success", "train-2 succeeded")
    assert [row.sent for row in each.statuses()] == [True]


def test_a_host_that_is_away_gets_the_last_status_later(one: copied.Copied, tmp_path: Path) -> None:
    _, commit = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.WRITER)
    one.register()
    one.follow()
    one.origin.broken = 503
    one.deliver(one.run(1, commit, "queued"))
    one.deliver(one.run(1, commit, "succeeded"))
    assert one.origin.shown(commit) == {}
    [row] = one.statuses()
    assert not row.sent and row.attempts >= 1 and "503" in row.problem and row.due
    assert any("have not reached" in item for item in one.status()["missing"])
    one.origin.broken = 0
    with one.store.write() as session:
        row.due = clock.now()
        session.merge(row)
    one.tick()
    assert one.origin.shown(commit)["fuseml/demo/train"][0] == "success"

    # A host that refuses for good is left alone after some attempts, and says nothing about the run.
    one.origin.broken = 503
    one.deliver(one.run(2, commit, "succeeded"))
    for _ in range(10):
        [row] = one.statuses()
        if row.due is None:
            break
        with one.store.write() as session:
            row.due, row.claimed = clock.now(), ""
            session.merge(row)
        one.tick()
    [row] = one.statuses()
    assert row.due is None and row.attempts == 6
    requests = len(one.origin.requests)
    one.tick()
    assert len(one.origin.requests) == requests


def test_one_process_sends_a_status_at_a_time(one: copied.Copied, tmp_path: Path) -> None:
    _, commit = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.WRITER)
    one.register()
    one.follow()
    one.origin.broken = 503
    one.deliver(one.run(1, commit, "running"))
    one.origin.broken = 0
    # Another process sends, or was killed while it did.
    [row] = one.statuses()
    with one.store.write() as session:
        row.claimed, row.due = clock.ahead(60), clock.now()
        session.merge(row)
    one.deliver(one.run(1, commit, "succeeded"))
    one.tick()
    assert one.origin.shown(commit) == {}
    with one.store.write() as session:
        [row] = one.statuses()
        row.claimed = clock.ago(1)
        session.merge(row)
    one.tick()
    assert one.origin.shown(commit)["fuseml/demo/train"][0] == "success"


def test_an_origin_that_is_away_is_tried_again_and_said_so(one: copied.Copied, tmp_path: Path) -> None:
    one.register_host("no-token-of-this-host")
    one.register()
    one.follow()
    row = one.row()
    assert row.failures == 1 and "refuses the credentials" in row.problem and not row.synced
    assert clock.now() < row.due < clock.ahead(60)
    missing = " ".join(one.status()["missing"])
    assert "no synchronisation has succeeded yet" in missing and "rejects the token" in missing
    assert "no-token-of-this-host" not in missing
    account = {"id": "account", "scope": "global", "configuration": {"token": origin_hosts.ADMIN}}
    one.call("extensions", "PUT", "/extensions/forge/services/git/credentials/account", json=account)
    _, first = pushed(one, tmp_path / "work")
    one.register()
    one.follow()
    assert one.pushes() == [("refs/heads/main", first)]
    assert one.row().problem == "" and one.row().failures == 0


def test_the_sweep_finds_what_no_webhook_reported(one: copied.Copied, tmp_path: Path) -> None:
    clone, first = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.ADMIN)
    one.register()
    one.tick()
    assert one.pushes() == [("refs/heads/main", first)]
    second = clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    one.tick()
    assert len(one.pushes()) == 1, "the next look is due later"
    with one.store.write() as session:
        row = one.row()
        row.due = clock.now()
        session.merge(row)
    one.tick()
    assert one.pushes()[1:] == [("refs/heads/main", second)]


def test_a_copy_takes_pushes_of_its_origin_only(one: copied.Copied) -> None:
    one.register_host(origin_hosts.ADMIN)
    one.register()
    one.call("codesets", "POST", "/codesets", 409, query_string={"project": "demo", "name": "churn"})
    one.call("codesets", "POST", "/codesets/demo/churn/password", 409)
    one.register(409, url="https://git.example.com/another/one.git")
    one.call("codesets", "POST", "/codesets", 201, query_string={"project": "demo", "name": "own"})
    one.register(409, name="own")
    assert one.status("own")["origin"] is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://git.example.com/a/b",
        "file:///etc",
        "https://ada:secret@git.example.com/a/b",
        "https://git.example.com/",
        "https://git.example.com/a/../b",
        "https://git.example.com/a/b?x=1",
        "https://git.example.com/a b/c",
        "git@git.example.com:a/b.git",
        "https://github.com/only-an-owner",
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_is_stored(one: copied.Copied, url: str) -> None:
    answer = one.register(400, url=url)
    assert "secret" not in str(answer).replace("credentials", "")
    one.call("codesets", "GET", "/codesets/demo/churn/status", 404)
    one.call("codesets", "GET", "/projects/demo", 404)


def test_an_account_goes_only_to_the_address_that_it_was_given_for(one: copied.Copied, tmp_path: Path) -> None:
    pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.ADMIN)
    with origin_hosts.contract_server(tmp_path / "work", "gitea") as other:
        # Another host has no account, whatever the caller names.
        url = f"{other.url}/{origin_hosts.OWNER}/{origin_hosts.NAME}.git"
        one.register(400, url=url, vcs="forge")
        one.register(201, url=url, host="gitea")
        one.follow()
        assert one.row().extension == ""
        assert not any(origin_hosts.ADMIN in str(headers) for _, _, headers in other.requests)


@pytest.mark.parametrize("vcs", ["", "forge", "forge/git"])
def test_a_host_may_have_an_address_inside_of_the_zone_too(one: copied.Copied, tmp_path: Path, vcs: str) -> None:
    _, first = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.ADMIN, internal="http://gitlab.gitlab.svc")
    assert one.register(vcs=vcs)["webhook"]["state"] == "set"
    one.follow()
    assert one.pushes() == [("refs/heads/main", first)] and one.row().problem == ""


def test_a_name_of_a_git_host_that_none_has_is_refused(one: copied.Copied) -> None:
    one.register(400, vcs="a" * 150)
    one.register(422, vcs="a/b/c")


def test_a_codeset_that_is_deleted_during_its_registration_is_a_conflict(one: copied.Copied) -> None:
    one.register_host(origin_hosts.ADMIN)

    def delete(event: events.Event) -> None:
        if event.type == events.CodesetReported.TYPE:
            one.call("codesets", "DELETE", "/codesets/demo/churn", 204)

    one.on_publish = delete
    one.register(409)
    one.on_publish = lambda event: None
    one.register()


@pytest.mark.parametrize("number", range(4))
def test_of_two_registrations_at_once_one_makes_the_codeset(one: copied.Copied, number: int) -> None:
    one.register_host(origin_hosts.ADMIN)
    client = one.functions["codesets"].test_client
    headers = {"Authorization": "Bearer the-token"}
    url = f"{one.origin.url}/{origin_hosts.OWNER}/{origin_hosts.NAME}.git"
    calls = [
        lambda: client().post("/codesets/demo/churn/origin", query_string={"url": url}, headers=headers),
        lambda: client().post("/codesets", query_string={"project": "demo", "name": "churn"}, headers=headers),
    ]
    with ThreadPoolExecutor() as pool:
        answers = [future.result() for future in [pool.submit(call) for call in calls[:: 1 if number % 2 else -1]]]
    codes = [answer.status_code for answer in answers][:: 1 if number % 2 else -1]
    assert set(codes) <= {201, 409} and codes.count(201) <= 1, [answer.text for answer in answers]
    if 201 in codes:
        assert (one.status()["origin"] is not None) is (codes[0] == 201)


def test_a_report_during_a_synchronisation_leaves_it_due(one: copied.Copied, tmp_path: Path) -> None:
    pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.ADMIN)
    one.register()
    reported = list[str]()

    def report(address: str) -> None:
        if not reported and address.endswith("git-upload-pack"):
            assert one.origin.deliver(b"{}") == 202
            reported.append(clock.now())

    one.origin.before = report
    one.follow()
    # A server that is killed before it handles the second report follows the origin by its next sweep.
    assert one.row().synced and one.row().due <= reported[0]
    one.tick()
    assert one.row().due > clock.now()


def test_a_host_without_an_api_is_only_read(one: copied.Copied, tmp_path: Path) -> None:
    _, first = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.READER)
    assert one.register(host="git")["webhook"]["state"] == "none"
    one.follow()
    assert one.pushes() == [("refs/heads/main", first)]
    shown = one.status()
    assert shown["access"] is None and shown["webhook"]["state"] == "none" and "--host" in " ".join(shown["missing"])
    one.deliver(one.run(1, first, "succeeded"))
    assert one.statuses() == [] and one.origin.requests == []


def test_a_public_repository_needs_no_registered_host(one: copied.Copied) -> None:
    webhook = one.register(url="https://git.example.com/acme/churn.git", host="gitlab")["webhook"]
    assert webhook["state"] == "manual" and webhook["secret"] and webhook["secret_field"] == "Secret token"
    assert "no commit status is sent" in one.status()["missing"]


def test_an_account_of_a_project_is_for_that_project(one: copied.Copied) -> None:
    one.register_host(origin_hosts.ADMIN, project="another")
    webhook = one.register()["webhook"]
    assert webhook["state"] == "manual"
    one.follow()
    assert one.row().problem and not one.row().synced


def test_an_interrupted_registration_is_completed_by_the_next_one(one: copied.Copied, tmp_path: Path) -> None:
    _, first = pushed(one, tmp_path / "work")
    one.register_host(origin_hosts.ADMIN)
    one.register()
    # As after a kill before the codeset was stored.
    from fuseml.store import codesets

    with one.store.write() as session:
        codesets.delete_codeset(session, "demo", "churn")
    one.published.clear()
    one.tick()
    assert one.row().problem
    one.register()
    one.follow()
    assert one.pushes() == [("refs/heads/main", first)]
    assert len(one.origin.hooks) == 1
    assert git("ls-remote", f"{one.origin.push_url()}")
