"""Signatures of webhooks: every right and wrong form, for each sender, through HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.platform import Knative
from fuseml.runtime import settings
from fuseml.store import webhooks
from fuseml.store.tables import outbox_rows
from tests.component import endpoint
from tests.component.ingress import NOW, SIGNATURES, Delivery, Ingress, delivery, recorded

RECORDED = {"gitea": "push.branch.http", "github": "push.branch.http", "mlflow": "model_version.created.register_model_runs_uri.http"}


def body(host: str) -> bytes:
    return recorded("mlflow" if host == "mlflow" else "gitea", RECORDED[host]).body


def all_signatures(sent: Delivery, change: Callable[[str], str]) -> Delivery:
    return replace(sent, headers={name: change(value) if name in SIGNATURES[sent.host] else value for name, value in sent.headers.items()})


def renamed(sent: Delivery, change: Callable[[str], str]) -> Delivery:
    return replace(sent, headers={change(name): value for name, value in sent.headers.items()})


def flipped(sent: Delivery) -> Delivery:
    middle = len(sent.body) // 2
    return replace(sent, body=sent.body[:middle] + bytes([sent.body[middle] ^ 1]) + sent.body[middle + 1 :])


def moved(sent: Delivery, seconds: int) -> Delivery:
    """Only the header says so: the signature was made for another time."""
    return sent.having(X_MLflow_Timestamp=str(NOW + seconds))


# The case, how it is made of a right delivery, the hosts that it is about, and the answer with its reason.
Make = Callable[[Ingress, Delivery], Delivery]
GIT, ALL = ("gitea", "github"), ("gitea", "github", "mlflow")
TABLE: list[tuple[str, Make, tuple[str, ...], int, str]] = [
    ("right", lambda _, sent: sent, ALL, 202, ""),
    ("header names in lower case", lambda _, sent: renamed(sent, str.lower), ALL, 202, ""),
    ("header names in upper case", lambda _, sent: renamed(sent, str.upper), ALL, 202, ""),
    ("only GitHub's header", lambda _, sent: sent.without("X-Gitea-Signature", "X-Gogs-Signature"), ("gitea",), 202, ""),
    ("wrong", lambda _, sent: all_signatures(sent, lambda right: right[:-8] + "AAAAAAA="), ALL, 401, "does not fit the body"),
    ("cut off", lambda _, sent: all_signatures(sent, lambda right: right[:-1]), ALL, 401, "does not fit the body"),
    ("upper case digits", lambda _, sent: all_signatures(sent, str.upper), ("gitea", "github"), 202, ""),
    ("upper case of base64", lambda _, sent: all_signatures(sent, str.upper), ("mlflow",), 401, "does not fit the body"),
    ("no scheme", lambda _, sent: all_signatures(sent, lambda right: right[7:]), ("github",), 401, "does not fit the body"),
    ("no version", lambda _, sent: all_signatures(sent, lambda right: right[3:]), ("mlflow",), 401, "does not fit the body"),
    ("missing", lambda _, sent: sent.without(*SIGNATURES[sent.host]), ALL, 401, "is not signed"),
    ("empty", lambda _, sent: all_signatures(sent, lambda _: ""), ALL, 401, "is not signed"),
    ("only SHA-1", lambda _, sent: sent.without("X-Gitea-Signature", "X-Gogs-Signature", "X-Hub-Signature-256"), GIT, 401, "is not signed"),
    ("other secret", lambda _, sent: delivery(sent.host, sent.body, "another"), ALL, 401, "does not fit the body"),
    ("empty secret", lambda _, sent: delivery(sent.host, sent.body, ""), ALL, 401, "does not fit the body"),
    ("one of two wrong", lambda _, sent: sent.having(X_Gitea_Signature="0" * 64), ("gitea",), 401, "does not fit the body"),
    ("one bit of the body changed", lambda _, sent: flipped(sent), ALL, 401, ""),
    ("one byte more", lambda _, sent: replace(sent, body=sent.body + b" "), ALL, 401, "does not fit the body"),
    ("oldest fresh", lambda ingress, sent: delivery("mlflow", sent.body, ingress.secret("mlflow"), at=NOW - 300), ("mlflow",), 202, ""),
    ("clock ahead", lambda ingress, sent: delivery("mlflow", sent.body, ingress.secret("mlflow"), at=NOW + 300), ("mlflow",), 202, ""),
    ("old", lambda ingress, sent: delivery("mlflow", sent.body, ingress.secret("mlflow"), at=NOW - 301), ("mlflow",), 401, "is not fresh"),
    ("from the future", lambda ingress, sent: delivery("mlflow", sent.body, ingress.secret("mlflow"), at=NOW + 301), ("mlflow",), 401, "is not fresh"),
    ("time made fresh", lambda ingress, sent: delivery("mlflow", sent.body, ingress.secret("mlflow"), at=NOW - 999).having(X_MLflow_Timestamp=str(NOW)), ("mlflow",), 401, "does not fit the body"),
    ("time changed", lambda _, sent: moved(sent, 1), ("mlflow",), 401, "does not fit the body"),
    ("another delivery's id", lambda _, sent: sent.having(X_MLflow_Delivery_Id="d2"), ("mlflow",), 401, "does not fit the body"),
    ("no time", lambda _, sent: sent.without("X-MLflow-Timestamp"), ("mlflow",), 401, "missing or malformed"),
    ("no delivery id", lambda _, sent: sent.without("X-MLflow-Delivery-Id"), ("mlflow",), 401, "missing or malformed"),
]  # fmt: skip
ROWS = [pytest.param(make, host, status, message, id=f"{host}: {case}") for case, make, hosts, status, message in TABLE for host in hosts]


@pytest.mark.parametrize(("make", "host", "status", "message"), ROWS)
def test_a_webhook_is_accepted_if_its_signature_is_right(ingress: Ingress, make: Make, host: str, status: int, message: str) -> None:
    answer = ingress.take(make(ingress, delivery(host, body(host), ingress.secret(host))))
    assert answer.status_code == status, answer.text
    assert len(ingress.publisher.events) == (1 if status == 202 else 0)
    if status == 202:
        assert answer.json["event"] == ingress.publisher.events[0].id
        return
    assert answer.json["name"] == "unauthenticated"
    assert message in answer.json["message"]
    assert ingress.secret(host) not in answer.text
    assert endpoint.count(ingress.store, outbox_rows.Outbox) == 0


def test_a_recorded_delivery_of_gitea_is_accepted(ingress: Ingress) -> None:
    answer = ingress.take(recorded("gitea", "push.branch.http"))
    assert answer.status_code == 202, answer.text


def test_a_replay_outside_of_the_window_is_refused(ingress: Ingress) -> None:
    sent = delivery("mlflow", body("mlflow"), ingress.secret("mlflow"))
    assert ingress.take(sent).status_code == 202
    ingress.now = NOW + 300
    assert ingress.take(sent).status_code == 202, "a retry"
    ingress.now = NOW + 301
    assert ingress.take(sent).status_code == 401
    assert len({event.id for event in ingress.publisher.events}) == 1, "and the retry was the same event"


@pytest.mark.parametrize("host", GIT)
def test_a_replay_of_a_push_is_the_same_event_whenever_it_comes(ingress: Ingress, host: str) -> None:
    # Git hosts sign no time: a replay looks like a retry, and must change nothing.
    sent = delivery(host, body(host), ingress.secret(host))
    answers = [ingress.take(sent).json["event"] for _ in range(3)]
    assert len(set(answers)) == 1
    assert {event.id for event in ingress.publisher.events} == set(answers)


@pytest.mark.parametrize("host", GIT)
def test_a_codeset_with_an_empty_secret_accepts_no_delivery(ingress: Ingress, host: str) -> None:
    ingress.register("open", "")
    push = json.loads(body(host))
    push["repository"]["name"] = "open"
    answer = ingress.take(delivery(host, push, ""))
    assert (answer.status_code, ingress.publisher.events) == (401, [])


@pytest.mark.parametrize("keys", ["", " ", ",", "short"])
def test_without_keys_no_secret_can_be_read(keys: str) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_SECRET_KEYS"):
        _ = Knative(settings.Settings(secret_keys=keys)).keyring


def test_every_tracking_server_has_a_secret_of_its_own(ingress: Ingress) -> None:
    with ingress.store.write() as session:
        webhooks.replace_of_tracker(session, "other", ingress.keyring.seal("of the other"), endpoint.NOON)
    answer = ingress.take(delivery("mlflow", body("mlflow"), "of the other"))
    assert answer.status_code == 401


def test_a_tracking_server_without_a_secret_is_refused_with_the_command_to_run(ingress: Ingress) -> None:
    with ingress.store.write() as session:
        webhooks.forget_tracker(session, "mlflow")
    answer = ingress.take(delivery("mlflow", body("mlflow"), ""))
    assert answer.status_code == 401
    assert "`fuseml extension webhook mlflow`" in answer.json["message"]


def test_a_stranger_cannot_find_out_registered_codesets(ingress: Ingress) -> None:
    push: dict[str, Any] = json.loads(body("gitea"))
    push["repository"]["name"] = "unheard-of"
    answer = ingress.take(delivery("gitea", push, "guess"))
    assert (answer.status_code, answer.json["name"]) == (401, "unauthenticated")
