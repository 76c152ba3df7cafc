"""The contract of the hosts of origins: rights of a token, webhooks with our secret, commit statuses, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.domain import commit_statuses, errors
from fuseml.githosts.origins import connect, webhook_setup
from fuseml.webhooks import origins as webhooks
from tests.component.githost import Clone
from tests.contract import origin_hosts
from tests.waiting import wait_until

SECRET, OTHER = "the-secret", "another-secret"


@pytest.fixture(scope="module", params=origin_hosts.HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[origin_hosts.UnderTest]:
    with origin_hosts.HOSTS[request.param](tmp_path_factory.mktemp("host")) as under_test:
        yield under_test


@pytest.fixture(scope="module")
def commit(host: origin_hosts.UnderTest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A commit of the repository."""
    clone = Clone.fresh(host.push_url(), tmp_path_factory.mktemp("work") / "clone")
    made = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    return made


def test_access_states_the_rights_of_a_token(host: origin_hosts.UnderTest) -> None:
    rights = {name: origin_hosts.client(host, name).access() for name in ("admin", "writer", "reader")}
    assert {name: (found.account, found.read, found.webhooks, found.statuses) for name, found in rights.items()} == {
        "admin": (True, True, True, True),
        "writer": (True, True, False, True),
        "reader": (True, True, False, False),
    }


def test_a_private_repository_does_not_exist_for_others(host: origin_hosts.UnderTest) -> None:
    with pytest.raises(errors.NotFoundError):
        origin_hosts.client(host, "none").access()
    with pytest.raises(errors.PermanentError, match="rejects the token"):
        origin_hosts.client(host, "wrong").access()


def test_a_webhook_is_set_up_once_for_each_secret(host: origin_hosts.UnderTest) -> None:
    admin, address = origin_hosts.client(host, "admin"), host.receiver
    assert webhook_setup.look(admin, address, SECRET).state == "missing"
    for _ in range(2):
        webhook_setup.ensure(admin, address, SECRET)
        assert [item.url for item in admin.webhooks()] == [webhook_setup.target(address, SECRET)]
    assert webhook_setup.look(admin, address, SECRET).state == "set"
    assert webhook_setup.look(admin, address, OTHER).state == "stale"

    webhook_setup.ensure(admin, address, OTHER)
    assert [item.url for item in admin.webhooks()] == [webhook_setup.target(address, OTHER)]
    assert webhook_setup.look(admin, address, OTHER).state == "set"

    webhook_setup.remove(admin, address)
    webhook_setup.remove(admin, address)
    assert admin.webhooks() == []


def test_webhooks_of_others_stay(host: origin_hosts.UnderTest) -> None:
    admin = origin_hosts.client(host, "admin")
    other = "http://127.0.0.1:1/somebody/else"
    admin.add_webhook(other, "unknown")
    webhook_setup.ensure(admin, host.receiver, SECRET)
    webhook_setup.remove(admin, host.receiver)
    assert [item.url for item in admin.webhooks()] == [other]
    for item in admin.webhooks():
        admin.remove_webhook(item.id)
        admin.remove_webhook(item.id)


def test_a_host_decides_no_number_of_requests(tmp_path: Path) -> None:
    with origin_hosts.contract_server(tmp_path, "github") as server:
        admin = origin_hosts.client(server, "admin")
        for _ in range(webhook_setup.MOST + 1):
            admin.add_webhook(server.receiver, SECRET)
        for change in (
            lambda: webhook_setup.ensure(admin, server.receiver, SECRET),
            lambda: webhook_setup.remove(admin, server.receiver),
            lambda: webhook_setup.look(admin, server.receiver, SECRET),
        ):
            with pytest.raises(errors.PermanentError, match="delete all but one"):
                change()
        assert "DELETE" not in {method for method, _, _ in server.requests}


def test_a_token_without_the_right_manages_no_webhook(host: origin_hosts.UnderTest) -> None:
    with pytest.raises((errors.NotFoundError, errors.PermanentError)):
        webhook_setup.ensure(origin_hosts.client(host, "writer"), host.receiver, SECRET)
    assert origin_hosts.client(host, "admin").webhooks() == []


def test_the_last_status_of_each_context_is_shown(host: origin_hosts.UnderTest, commit: str) -> None:
    writer = origin_hosts.client(host, "writer")
    link = "https://fuseml.example.com/runs/train-1"
    failed = "failed" if host.origin.host == "gitlab" else "failure"
    pending = commit_statuses.Status("fuseml/demo/train", "pending", "train-1 is running", link)
    # A status may be delivered again.
    for _ in range(2):
        writer.set_status(commit, pending)
    writer.set_status(commit, commit_statuses.Status("fuseml/demo/serve", "success", "serve-1 succeeded"))
    assert host.shown(commit) == {
        "fuseml/demo/train": ("pending", "train-1 is running", link),
        "fuseml/demo/serve": ("success", "serve-1 succeeded", ""),
    }
    for _ in range(2):
        writer.set_status(commit, commit_statuses.Status("fuseml/demo/train", "failure", "train-1 failed: exit code 1", link))
    assert host.shown(commit)["fuseml/demo/train"] == (failed, "train-1 failed: exit code 1", link)
    # The next run on the same commit.
    writer.set_status(commit, commit_statuses.Status("fuseml/demo/train", "pending", "train-2 is queued", link))
    assert host.shown(commit)["fuseml/demo/train"][0] == "pending"


def test_each_state_and_the_longest_description_is_accepted(host: origin_hosts.UnderTest, commit: str) -> None:
    writer = origin_hosts.client(host, "writer")
    for state in ("pending", "success", "failure", "error"):
        found = commit_statuses.of_run("demo", f"in-{state}", "run-1", "failed", "€" * 500, "")
        writer.set_status(commit, commit_statuses.Status(found.context, state, found.description))
    shown = host.shown(commit)
    assert all(f"fuseml/demo/in-{state}" in shown for state in ("pending", "success", "failure", "error"))


def test_a_status_that_the_host_refuses_is_an_error(host: origin_hosts.UnderTest, commit: str) -> None:
    status = commit_statuses.Status("fuseml/demo/train", "success", "train-1 succeeded")
    with pytest.raises((errors.PermanentError, errors.NotFoundError)):
        origin_hosts.client(host, "reader").set_status(commit, status)
    # The real Gitea answers 500, so that a few more attempts are made.
    with pytest.raises((errors.InvalidError, errors.NotFoundError, errors.TemporaryError)):
        origin_hosts.client(host, "writer").set_status("f" * 40, status)


def test_no_representation_shows_the_token(host: origin_hosts.UnderTest) -> None:
    made = origin_hosts.client(host, "admin")
    assert host.tokens["admin"] not in repr(made)
    assert not any(host.tokens["admin"] in repr(value) for value in vars(made).values())


def test_the_deliveries_of_a_webhook_prove_themselves(host: origin_hosts.UnderTest, commit: str, tmp_path: Path) -> None:
    admin = origin_hosts.client(host, "admin")
    webhook_setup.ensure(admin, host.receiver, SECRET)
    if isinstance(host, origin_hosts.ContractServer):
        kind, body = host.origin.host, b'{"ref": "refs/heads/main"}'
        delivered = [(origin_hosts.signed(kind, SECRET, body), body)]
    else:
        clone = Clone.of(host.push_url(), tmp_path / "clone")
        clone.commit("second", {"train.py": "print(2)\n"})
        clone.git("push", "--quiet", "origin", "main")
        wait_until(host.delivered, "a delivery")
        kind, delivered = "gitea", [(dict(headers), body) for headers, body in host.delivered()]
    for headers, body in delivered:
        webhooks.verify(kind, SECRET, headers, (body,), 0)
        assert webhooks.read(kind, headers).change in ("push", "new ref")
        assert webhooks.read(kind, headers).delivery
        with pytest.raises(errors.UnauthenticatedError):
            webhooks.verify(kind, OTHER, headers, (body,), 0)
    webhook_setup.remove(admin, host.receiver)


@pytest.mark.parametrize("kind", ["gitea", "forgejo", "github", "gitlab"])
def test_a_host_that_is_away_limited_or_odd_is_said_so(kind: str, tmp_path: Path) -> None:
    with origin_hosts.contract_server(tmp_path, kind) as server:  # type: ignore[arg-type]  # a parameter
        admin = origin_hosts.client(server, "admin")
        for status, headers, expected in (
            (500, {}, errors.TemporaryError),
            (429, {}, errors.TemporaryError),
            (403, {"x-ratelimit-remaining": "0"}, errors.TemporaryError),
            (403, {"retry-after": "60"}, errors.TemporaryError),
            (403, {}, errors.PermanentError),
            (301, {"location": f"{server.url}/elsewhere"}, errors.PermanentError),
            (418, {}, errors.PermanentError),
        ):
            server.broken, server.broken_headers = status, headers
            with pytest.raises(expected) as raised:
                admin.access()
            assert server.tokens["admin"] not in raised.value.message
        # The redirect was not followed: the token goes nowhere else.
        assert not any("elsewhere" in path for _, path, _ in server.requests)
        server.broken_headers = {}
        for body in (b"<html>", b"[]", b"[" * 100_000, b"\xff\xfe"):
            server.broken, server.body = 200, body
            with pytest.raises(errors.PermanentError, match="not that of"):
                admin.access()
        for shape in (b'{"permissions": []}', b'{"permissions": [1]}', b'{"permissions": "all"}'):
            server.body = shape
            if shape != b'{"permissions": []}':
                with pytest.raises(errors.PermanentError, match="not that of"):
                    admin.access()
        for shape in (b"[1]", b"[{}]", b'[{"id": 1, "config": 5, "url": 5, "last_response": {"code": "x"}}]'):
            server.body = shape
            if kind != "gitlab" or b"config" not in shape:
                with pytest.raises(errors.PermanentError, match="not that of"):
                    admin.webhooks()
        server.body = b" " * (5 << 20)
        with pytest.raises(errors.PermanentError, match="more than"):
            admin.access()
    with pytest.raises(errors.TemporaryError, match="does not answer"):
        admin.access()


def test_a_host_without_an_api_has_no_client() -> None:
    from fuseml.domain import origins

    assert connect(origins.read("https://git.example.com/acme/churn.git"), "") is None


def test_gitlab_signs_deliveries_with_the_key_that_it_was_given(tmp_path: Path) -> None:
    with origin_hosts.contract_server(tmp_path, "gitlab") as server:
        webhook_setup.ensure(origin_hosts.client(server, "admin"), server.receiver, SECRET)
        body = b"{}"
        headers = origin_hosts.signed("gitlab", SECRET, body, signed_at=1_795_225_217)
        webhooks.verify("gitlab", SECRET, headers, (body,), 1_795_225_217 + 299)
        for late in (1_795_225_217 + 301, 1_795_225_217 - 301):
            with pytest.raises(errors.UnauthenticatedError, match="fresh"):
                webhooks.verify("gitlab", SECRET, headers, (body,), late)
        with pytest.raises(errors.UnauthenticatedError, match="does not fit"):
            webhooks.verify("gitlab", SECRET, headers, (b"{ }",), 1_795_225_217)
        # A token beside the signature must be right, too.
        with pytest.raises(errors.UnauthenticatedError):
            webhooks.verify("gitlab", SECRET, {**headers, "X-Gitlab-Token": OTHER}, (body,), 1_795_225_217)
