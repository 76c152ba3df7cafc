"""Trouble on purpose: what is asked for, as often as is asked, and the same again for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from werkzeug import test as wsgi_client
from werkzeug import wrappers

from fuseml.domain import errors, events
from fuseml.embedded import chaos
from tests.waiting import wait_until

EVENTS = [events.Event("t", "/s", str(number), None, "2026-11-21T12:00:00Z", {}) for number in range(1000)]


def test_each_kind_has_its_share_or_the_usual_one() -> None:
    found = chaos.parse("duplicate, reorder=1,drop=0.25,delay=0,seed=42")
    assert found == chaos.Chaos(seed=42, duplicate=0.5, reorder=1.0, drop=0.25, delay=0.0)
    assert str(found) == "duplicate=0.5,reorder=1,drop=0.25,seed=42"
    assert chaos.parse(str(found)) == found


def test_without_a_seed_one_is_chosen_and_told() -> None:
    found = chaos.parse("drop")
    assert str(found) == f"drop=0.1,seed={found.seed}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("crash", "--chaos knows no 'crash'; there are duplicate, reorder, drop, delay, each with a share such as drop=0.1, and seed=N"),
        ("", "--chaos knows no ''"),
        ("drop=", "--chaos drop=: a share from 0 to 1 is needed"),
        ("drop=much", "--chaos drop=much: a share from 0 to 1 is needed"),
        ("drop=1.5", "--chaos drop=1.5: a share is from 0 to 1, for example drop=0.1"),
        ("drop=nan", "--chaos drop=nan: a share is from 0 to 1"),
        ("seed", "--chaos seed=: a whole number is needed"),
        ("drop,seed=x", "--chaos seed=x: a whole number is needed"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(text: str, told: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        chaos.parse(text)
    assert told in caught.value.message


def test_without_trouble_everything_is_as_it_was() -> None:
    assert not any(chaos.NONE.postponed(event.id) or chaos.NONE.copies(event.id) or chaos.NONE.lost(event.id) for event in EVENTS)
    published: list[events.Event] = []
    assert chaos.NONE.source(published.append) == published.append


def test_a_share_is_what_it_says_and_the_seed_decides_whom_it_befalls() -> None:
    trouble = chaos.Chaos(seed=1, drop=0.1, duplicate=0.5, reorder=0.3)
    lost = [event.id for event in EVENTS if trouble.lost(event.id)]
    assert 70 < len(lost) < 130
    assert lost == [event.id for event in reversed(EVENTS) if trouble.lost(event.id)][::-1]
    assert lost != [event.id for event in EVENTS if chaos.Chaos(seed=2, drop=0.1).lost(event.id)]
    copies = Counter(trouble.copies(event.id) for event in EVENTS)
    assert set(copies) == {0, 1, 2, 3}
    assert 430 < copies[0] < 570
    postponed = [trouble.postponed(event.id) for event in EVENTS]
    assert 230 < sum(seconds > 0 for seconds in postponed) < 370
    assert max(postponed) < 0.3


def test_a_troubled_source_loses_events_and_repeats_them_under_new_ids() -> None:
    published: list[events.Event] = []
    publish = chaos.Chaos(seed=3, drop=0.2, duplicate=0.5).source(published.append)
    for event in EVENTS:
        publish(event)
    originals = [event for event in published if "/copy-" not in event.id]
    assert 700 < len(originals) < 900
    assert len(published) > len(originals)
    assert len({event.id for event in published}) == len(published)


def test_a_troubled_ingress_loses_webhooks_and_gets_them_again() -> None:
    taken: list[bytes] = []

    @wrappers.Request.application
    def ingress(request: wrappers.Request) -> wrappers.Response:
        taken.append(request.get_data())
        return wrappers.Response("taken", 202)

    def post(number: int) -> wrappers.Response:
        return wsgi_client.Client(application).post("/webhooks/gitea", data=f"push {number}".encode())

    application = chaos.Chaos(seed=4, drop=0.3, duplicate=0.5).webhooks(ingress)
    answers = [post(number) for number in range(200)]
    lost = [number for number, answer in enumerate(answers) if b"lost on purpose: this server runs with --chaos" in answer.get_data()]
    assert {answer.status_code for answer in answers} == {202}
    assert 30 < len(lost) < 90
    assert {int(body.removeprefix(b"push ")) for body in taken} == set(range(200)) - set(lost)
    assert max(Counter(taken).values()) == 4
    again = post(lost[0])
    assert again.status_code == 202
    assert wsgi_client.Client(application).get("/webhooks/gitea").status_code == 202


def test_late_webhooks_come_in_another_order_and_all_of_them() -> None:
    taken: list[bytes] = []

    @wrappers.Request.application
    def ingress(request: wrappers.Request) -> wrappers.Response:
        taken.append(request.get_data())
        return wrappers.Response("taken", 202)

    client = wsgi_client.Client(chaos.Chaos(seed=5, reorder=0.8).webhooks(ingress))
    sent = [str(number).encode() for number in range(40)]
    answers = [client.post("/webhooks/gitea", data=body).get_data() for body in sent]
    wait_until(lambda: len(taken) >= 40, "the late ones")
    assert sorted(taken) == sorted(sent)
    assert taken != sent
    assert {b"taken"} < set(answers)
    assert any(b"late on purpose" in answer for answer in answers)
