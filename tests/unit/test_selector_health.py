"""Resolution and health: endpoints and credentials that the last probe found unhealthy."""

from __future__ import annotations

from typing import Any

from fuseml.domain.registry import extension, resolution
from fuseml.domain.registry.selector import Context
from tests.unit.selecting import S3, reasons, refusal, resolved, store

UNHEALTHY = {"health": {"state": "unhealthy", "since": "2026-01-01T12:00:00Z", "cause": "connection refused"}}


def _unhealthy(id: str, **fields: Any) -> extension.Extension:
    return store(id, service={"endpoints": [{"url": f"https://{id}", "type": "internal", "status": UNHEALTHY}]}, **fields)


def test_an_unhealthy_endpoint_loses_against_every_other_one() -> None:
    better = _unhealthy("a", zone="here", version="9.0")
    (explanation,) = resolution.resolve([S3], [better, store("b", zone="there")], Context(zone="here"), explain=True).explanations
    assert [(candidate.extension_id, candidate.verdict, candidate.rule) for candidate in explanation.candidates] == [
        ("b", "chosen", "first"),
        ("a", "eligible", "health"),
    ]
    assert explanation.candidates[1].sentence == (
        "it matches, but b/s3 is not known to be unhealthy; it is unhealthy since 2026-01-01T12:00:00Z: connection refused"
    )
    assert resolved(_unhealthy("a")).extension_id == "a"


def test_a_selector_can_require_and_disregard_health() -> None:
    unhealthy, required, disregarded = _unhealthy("a"), S3.model_copy(update={"healthy": True}), S3.model_copy(update={"healthy": False})
    assert resolved(unhealthy, store("b")).extension_id == "b"
    assert resolved(unhealthy, store("b"), selector=disregarded).extension_id == "a"
    assert resolved(unhealthy, store("b"), selector=required).extension_id == "b"
    assert reasons(refusal(unhealthy, selector=required)) == [
        ("a/s3/https://a", "healthy", "it is unhealthy since 2026-01-01T12:00:00Z: connection refused")
    ]


def test_the_explanation_of_an_unhealthy_choice_says_so() -> None:
    record = store("a", service={"endpoints": [{"url": "https://a", "status": UNHEALTHY}]})
    (explanation,) = resolution.resolve([S3], [record], Context(), explain=True).explanations
    assert explanation.candidates[0].sentence.endswith("; it is unhealthy since 2026-01-01T12:00:00Z: connection refused")


def test_unhealthy_credentials_are_rejected_if_health_is_required() -> None:
    accounts = [{"id": "a", "status": UNHEALTHY}, {"id": "b"}]
    record = store(service={"auth_required": True, "credentials": accounts})
    assert resolved(record).credentials_id == "a"
    assert resolved(record, selector=S3.model_copy(update={"healthy": True})).credentials_id == "b"
