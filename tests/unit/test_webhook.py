"""Webhooks: who may speak, and what was said. The deliveries are those of tests/events."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.domain import errors, webhook
from tests import deliveries

SECRET = "s3cret"
BODY = b'{"ref": "refs/heads/main"}'
NOW = 1_795_225_217
OLD, NEW, ZERO = "a" * 40, "b" * 40, "0" * 40


def digest(secret: str = SECRET, body: bytes = BODY) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def mlflow_headers(secret: str = SECRET, body: bytes = BODY, timestamp: int | str = NOW) -> dict[str, str]:
    mac = hmac.new(secret.encode(), f"d1.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-MLflow-Delivery-Id": "d1",
        "X-MLflow-Timestamp": str(timestamp),
        "X-MLflow-Signature": "v1," + base64.b64encode(mac).decode(),
    }


# --- signatures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Gitea-Signature": digest()},
        {"x-gitea-signature": digest()},
        {"X-GITEA-SIGNATURE": digest()},
        {"X-Gogs-Signature": digest()},
        {"X-Hub-Signature-256": "sha256=" + digest()},
        {"X-Gitea-Signature": digest(), "X-Gogs-Signature": "", "X-Hub-Signature-256": "sha256=" + digest()},
    ],
    ids=["right", "lower case header", "upper case header", "gogs", "github", "several"],
)
def test_a_right_git_signature_is_accepted(headers: dict[str, str]) -> None:
    webhook.verify_gitea(SECRET, headers, BODY)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "is not signed"),
        ({"X-Gitea-Signature": ""}, "is not signed"),
        ({"X-Hub-Signature": "sha1=" + "0" * 40}, "is not signed"),
        ({"X-Gitea-Signature": "0" * 64}, "x-gitea-signature header does not fit"),
        ({"X-Gitea-Signature": digest("another")}, "does not fit"),
        ({"X-Gitea-Signature": digest(body=BODY + b" ")}, "does not fit"),
        ({"X-Gitea-Signature": digest()[:-1]}, "does not fit"),
        ({"X-Gitea-Signature": "é" * 64}, "does not fit"),
        ({"X-Hub-Signature-256": digest()}, "x-hub-signature-256 header does not fit"),
        ({"X-Hub-Signature-256": "sha1=" + digest()}, "does not fit"),
        ({"X-Gitea-Signature": digest(), "X-Hub-Signature-256": "sha256=" + digest("another")}, "does not fit"),
    ],
    ids=[
        "missing",
        "empty",
        "only sha1",
        "wrong",
        "another secret",
        "changed body",
        "cut off",
        "not ascii",
        "no prefix",
        "wrong prefix",
        "one of two wrong",
    ],
)
def test_a_wrong_git_signature_is_refused_with_its_reason(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(errors.UnauthenticatedError, match=reason) as refusal:
        webhook.verify_gitea(SECRET, headers, BODY)
    assert digest() not in str(refusal.value)
    assert SECRET not in str(refusal.value)


@given(body=st.binary(min_size=1), position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_changed_bit_of_the_body_breaks_every_signature(body: bytes, position: int, bit: int) -> None:
    changed = bytearray(body)
    changed[position % len(body)] ^= 1 << bit
    with pytest.raises(errors.UnauthenticatedError):
        webhook.verify_gitea(SECRET, {"X-Gitea-Signature": digest(body=body)}, bytes(changed))
    with pytest.raises(errors.UnauthenticatedError):
        webhook.verify_mlflow(SECRET, mlflow_headers(body=body), bytes(changed), NOW)


@pytest.mark.parametrize("now", [NOW, NOW - 300, NOW + 300], ids=["now", "oldest", "clock behind"])
def test_a_right_mlflow_signature_is_accepted(now: float) -> None:
    webhook.verify_mlflow(SECRET, mlflow_headers(), BODY, now)
    webhook.verify_mlflow(SECRET, {name.upper(): value for name, value in mlflow_headers().items()}, BODY, now)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "is not signed"),
        ({**mlflow_headers(), "X-MLflow-Signature": ""}, "is not signed"),
        ({**mlflow_headers(), "X-MLflow-Signature": "v1,AAAA"}, "does not fit"),
        ({**mlflow_headers(), "X-MLflow-Signature": mlflow_headers()["X-MLflow-Signature"].removeprefix("v1,")}, "does not fit"),
        (mlflow_headers(secret="another"), "does not fit"),
        (mlflow_headers(body=BODY + b" "), "does not fit"),
        ({**mlflow_headers(), "X-MLflow-Delivery-Id": "d2"}, "does not fit"),
        ({**mlflow_headers(), "X-MLflow-Timestamp": str(NOW + 1)}, "does not fit"),
        ({**mlflow_headers(), "X-MLflow-Delivery-Id": ""}, "missing or malformed"),
        (mlflow_headers(timestamp="soon"), "missing or malformed"),
        (mlflow_headers(timestamp="-1"), "missing or malformed"),
        (mlflow_headers(timestamp="9" * 5000), "missing or malformed"),
        (mlflow_headers(timestamp=NOW - 301), "is not fresh"),
        (mlflow_headers(timestamp=NOW + 301), "is not fresh"),
    ],
    ids=[
        "missing", "empty", "wrong", "no version", "another secret", "changed body", "another delivery", "another timestamp",
        "no delivery", "no number", "negative", "huge", "old", "from the future",
    ],
)  # fmt: skip
def test_a_wrong_mlflow_signature_is_refused_with_its_reason(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(errors.UnauthenticatedError, match=reason) as refusal:
        webhook.verify_mlflow(SECRET, headers, BODY, NOW)
    assert SECRET not in str(refusal.value)


def test_an_empty_secret_is_an_error_of_the_configuration() -> None:
    with pytest.raises(errors.PermanentError, match="no webhook secret is configured") as refusal:
        webhook.verify_gitea("", {"X-Gitea-Signature": digest("")}, BODY)
    assert not isinstance(refusal.value, errors.UnauthenticatedError)
    with pytest.raises(errors.PermanentError, match="no webhook secret is configured"):
        webhook.verify_mlflow("", mlflow_headers(secret=""), BODY, NOW)


# --- recorded deliveries -----------------------------------------------------------------------------------------------------


REFUSED_BY = {
    "create.branch.http": "the push that is delivered next to it",
    "create.tag.http": "the push that is delivered next to it",
    "delete.branch.http": "was deleted",
    "release.published.http": "the push of its tag",
    "repository.created.http": "its pushes start",
    "repository.deleted.http": "its codeset stays registered",
}


@pytest.mark.parametrize("name", REFUSED_BY)
def test_recorded_events_that_start_nothing_say_why(name: str) -> None:
    headers, body = deliveries.read("gitea", name)
    webhook.verify_gitea(SECRET, headers, body)
    ignored = webhook.parse_push(headers, body)
    assert isinstance(ignored, webhook.Ignored)
    assert REFUSED_BY[name] in ignored.reason


PUSHES = {
    "push.branch.http": ("refs/heads/main", OLD, NEW, ("data.csv", "train.py")),
    "push.new-branch.http": ("refs/heads/feature", None, NEW, None),
    "push.tag.http": ("refs/tags/v1.0.0", None, NEW, None),
    "push.truncated-12-commits.http": ("refs/heads/main", OLD, NEW, None),
}


@pytest.mark.parametrize("name", PUSHES)
def test_recorded_pushes_are_understood(name: str) -> None:
    headers, body = deliveries.read("gitea", name)
    webhook.verify_gitea(SECRET, headers, body)
    push = webhook.parse_push(headers, body)
    assert isinstance(push, webhook.Push)
    assert (push.project, push.codeset, push.pusher) == ("workspace", "mnist", "dev")
    assert (push.ref, push.before, push.commit, push.paths) == PUSHES[name]
    assert push.delivery_id == headers["X-Gitea-Delivery"]


def test_every_delivery_of_gitea_is_in_a_table() -> None:
    assert deliveries.names("gitea") == sorted([*REFUSED_BY, *PUSHES])


def test_every_recorded_delivery_of_mlflow_is_genuine_and_understood() -> None:
    kinds = set()
    for name in deliveries.names("mlflow"):
        headers, body = deliveries.read("mlflow", name)
        webhook.verify_mlflow(SECRET, headers, body, now=int(headers["X-MLflow-Timestamp"]) + 1)
        event = webhook.parse_registry_event(headers, body)
        if name.startswith("budget_policy"):
            assert isinstance(event, webhook.Ignored)
            continue
        assert isinstance(event, webhook.RegistryEvent)
        assert name.startswith(event.kind)
        assert event.delivery_id == headers["X-MLflow-Delivery-Id"]
        assert event.test == name.endswith(".test.http")
        kinds.add(event.kind)
    assert len(kinds) == 14


def test_a_registered_version_is_read_with_its_source_run_and_tags() -> None:
    event = webhook.parse_registry_event(*deliveries.read("mlflow", "model_version.created.register_model_runs_uri.http"))
    assert isinstance(event, webhook.RegistryEvent)
    assert (event.kind, event.name, event.version, event.tags) == ("model_version.created", "rm2", "1", {"a": "b"})
    assert event.source is not None
    assert event.source.startswith("models:/m-")
    assert event.run_id == "1b5827e43e474547a59f4d7ac8aa6e44"


# --- pushes, field by field --------------------------------------------------------------------------------------------------

GITEA = {"X-Gitea-Event": "push", "X-Gitea-Delivery": "d1"}
GITHUB = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d2", "Content-Type": "application/json"}


def commit(id: str = NEW, **files: list[str] | None) -> dict[str, object]:
    return {"id": id, "message": "a change", **files}


def push_body(**fields: object) -> dict[str, object]:
    return {
        "ref": "refs/heads/main",
        "before": OLD,
        "after": NEW,
        "commits": [commit(added=["b"], removed=["c"], modified=["a"])],
        "total_commits": 1,
        "head_commit": commit(),
        "repository": {"name": "mnist", "owner": {"login": "workspace", "username": "workspace"}},
        "pusher": {"login": "dev"},
        **fields,
    }


def parse(headers: Mapping[str, str], body: object) -> webhook.Push | webhook.Ignored:
    return webhook.parse_push(headers, json.dumps(body).encode())


def test_a_github_push_is_understood() -> None:
    body = push_body(
        repository={"name": "mnist", "full_name": "workspace/mnist", "owner": {"name": "workspace", "email": "w@example.com"}},
        pusher={"name": "octocat", "email": "o@example.com"},
        created=False,
        forced=False,
    )
    del body["total_commits"]
    assert parse(GITHUB, body) == webhook.Push(
        "workspace", "mnist", "refs/heads/main", OLD, NEW, ("a", "b", "c"), "a change", "octocat", "d2"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"forced": True},
        {"before": ZERO},
        {"total_commits": 2},
        {"commits": []},
        {"commits": None},
        {"ref": "refs/tags/v1"},
        {"commits": [commit()] * webhook.GITHUB_COMMITS, "total_commits": None},
    ],
    ids=["forced", "new branch", "truncated", "reset", "no list", "tag", "GitHub's limit"],
)
def test_paths_are_unknown_where_the_body_cannot_tell_them_all(fields: dict[str, object]) -> None:
    push = parse(GITHUB, push_body(**fields))
    assert isinstance(push, webhook.Push)
    assert push.paths is None


def test_an_empty_list_of_files_may_be_null() -> None:
    push = parse(GITEA, push_body(commits=[commit(added=None, removed=None, modified=["a"])]))
    assert isinstance(push, webhook.Push)
    assert push.paths == ("a",)


def test_an_annotated_tag_stands_for_its_commit() -> None:
    push = parse(GITEA, push_body(ref="refs/tags/v1", after="c" * 40, before=ZERO))
    assert isinstance(push, webhook.Push)
    assert push.commit == NEW


def test_a_tag_without_a_head_commit_is_taken_as_it_is() -> None:
    # Older versions of Gitea send null: go-gitea/gitea#18112.
    push = parse(GITEA, push_body(ref="refs/tags/v1", head_commit=None))
    assert isinstance(push, webhook.Push)
    assert push.commit == NEW


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"after": ZERO}, "refs/heads/main was deleted"), ({"ref": "refs/notes/commits"}, "neither a branch nor a tag")],
)
def test_pushes_without_work_say_why(fields: dict[str, object], reason: str) -> None:
    ignored = parse(GITEA, push_body(**fields))
    assert isinstance(ignored, webhook.Ignored)
    assert reason in ignored.reason


def test_a_ping_asks_for_nothing() -> None:
    assert isinstance(parse({**GITHUB, "X-GitHub-Event": "ping"}, {"zen": "Keep it logically awesome."}), webhook.Ignored)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"after": "main"}, "after"),
        ({"after": NEW + "\n"}, "after"),
        ({"ref": 7}, "ref"),
        ({"repository": None}, "repository"),
        ({"repository": {"name": "a/b", "owner": {"login": "workspace"}}}, "repository.name"),
        ({"repository": {"name": "mnist", "owner": {}}}, "repository.owner.login"),
        ({"repository": {"name": "mnist", "owner": {"login": "../x"}}}, "repository.owner.login"),
        ({"commits": [commit(id="short")]}, "commits[0].id"),
    ],
)
def test_a_malformed_push_is_refused_with_the_place(fields: dict[str, object], place: str) -> None:
    with pytest.raises(errors.InvalidError, match="the push is not valid") as refusal:
        parse(GITEA, push_body(**fields))
    assert [problem.path for problem in refusal.value.problems] == [place]


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b"{}", "not the webhook of a git host"),
        ({"X-Gitea-Event": "push"}, b"{}", "not the webhook of a git host"),
        (GITEA, b"", "is not JSON"),
        (GITEA, b"\xff\xfe\xfd", "is not JSON"),
        (GITEA, b"[" * 100_000, "nested too deeply"),
        (GITEA, b'{"ref": ' + b"9" * 5000 + b"}", "is not JSON"),
        ({**GITEA, "Content-Type": "application/x-www-form-urlencoded"}, b"payload=%7B%7D", "set its content type to application/json"),
    ],
    ids=["no headers", "no delivery", "empty", "not text", "deep", "huge number", "a form"],
)
def test_what_is_no_webhook_is_refused(headers: dict[str, str], body: bytes, reason: str) -> None:
    with pytest.raises(errors.InvalidError, match=reason):
        webhook.parse_push(headers, body)


# --- MLflow, field by field --------------------------------------------------------------------------------------------------

MLFLOW = {"X-MLflow-Delivery-Id": "d1"}


def registry(kind: str, **data: object) -> bytes:
    entity, action = kind.split(".")
    return json.dumps({"entity": entity, "action": action, "timestamp": "2026-11-21T01:40:17+00:00", "data": data}).encode()


def test_a_registry_event_without_what_it_is_about_is_refused() -> None:
    with pytest.raises(errors.InvalidError, match=r"model_version\.created is not complete") as refusal:
        webhook.parse_registry_event(MLFLOW, registry("model_version.created", name="m"))
    assert [problem.path for problem in refusal.value.problems] == ["data.version", "data.source"]


def test_null_tags_and_descriptions_are_no_problem() -> None:
    event = webhook.parse_registry_event(MLFLOW, registry("registered_model.created", name="m", tags=None, description=None))
    assert isinstance(event, webhook.RegistryEvent)
    assert event.tags == {}


def test_an_unknown_event_of_mlflow_is_ignored_with_its_name() -> None:
    ignored = webhook.parse_registry_event(MLFLOW, registry("experiment.created", name="e"))
    assert isinstance(ignored, webhook.Ignored)
    assert "experiment.created" in ignored.reason


def test_a_foreign_delivery_is_no_mlflow_webhook() -> None:
    with pytest.raises(errors.InvalidError, match="not a webhook of MLflow"):
        webhook.parse_registry_event({}, registry("registered_model.created", name="m"))


# --- properties --------------------------------------------------------------------------------------------------------------

KEYS = [
    *push_body(),
    *commit(),
    "added",
    "owner",
    "login",
    "name",
    "forced",
    "entity",
    "action",
    "timestamp",
    "data",
    "version",
    "source",
    "tags",
]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([OLD, NEW, ZERO, "refs/heads/main"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=6),
    max_leaves=25,
)


@given(fields=st.dictionaries(st.sampled_from(list(push_body())), JSON, max_size=4))
@example(fields={"head_commit": {"id": NEW, "message": "\ud800"}})
def test_a_push_with_any_json_in_it_is_understood_ignored_or_invalid(fields: dict[str, object]) -> None:
    try:
        found = parse(GITEA, push_body(**fields))
    except errors.InvalidError:
        return
    assert isinstance(found, webhook.Push | webhook.Ignored)


@given(
    body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(),
    event=st.sampled_from(["push", "create", "delete", "release", "\u00fc"]),
)
def test_any_body_is_understood_ignored_or_invalid(body: bytes, event: str) -> None:
    for read, headers in (
        (webhook.parse_push, {"X-GitHub-Event": event, "X-GitHub-Delivery": "d"}),
        (webhook.parse_registry_event, MLFLOW),
    ):
        with contextlib.suppress(errors.InvalidError):
            read(headers, body)


@given(data=st.dictionaries(st.sampled_from(["name", "version", "source", "run_id", "tags", "alias", "key", "value"]), JSON))
def test_a_registry_event_with_any_data_is_understood_or_invalid(data: dict[str, object]) -> None:
    try:
        event = webhook.parse_registry_event(MLFLOW, registry("model_version.created", **data))
    except errors.InvalidError:
        return
    assert isinstance(event, webhook.RegistryEvent)
    assert event.version
