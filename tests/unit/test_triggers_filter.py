"""Trigger files: their filters and their delivery rules."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml

from fuseml.domain import errors, events
from fuseml.embedded import redelivery, triggers
from fuseml.runtime import catalog

EVENT = events.Event(
    "org.fuseml.run.finished.v1", "/runs/w-1", "run:1", "w-1", "2026-11-21T12:00:00.000000Z", {"state": "failed"}, {"region": "eu"}
)


def wants(*filters: dict[str, Any], event: events.Event = EVENT) -> bool:
    return triggers.Trigger("t", "s", filters).matches(event)


@pytest.mark.parametrize(
    ("dialect", "wanted"),
    [
        ({"exact": {"type": "org.fuseml.run.finished.v1"}}, True),
        ({"exact": {"type": "org.fuseml.run.finished"}}, False),
        ({"exact": {"type": "org.fuseml.run.finished.v1", "source": "/runs/w-2"}}, False),
        ({"exact": {"region": "eu"}}, True),
        ({"exact": {"specversion": "1.0"}}, True),
        ({"exact": {"state": "failed"}}, False),
        ({"exact": {"missing": "x"}}, False),
        ({"prefix": {"type": "org.fuseml.run.", "subject": "w-"}}, True),
        ({"prefix": {"type": "fuseml"}}, False),
        ({"prefix": {"missing": "x"}}, False),
        ({"suffix": {"type": ".v1"}}, True),
        ({"suffix": {"type": ".v2"}}, False),
        ({"suffix": {"missing": "x"}}, False),
        ({"not": {"exact": {"region": "eu"}}}, False),
        ({"not": {"exact": {"region": "us"}}}, True),
        ({"not": {"exact": {"missing": "x"}}}, True),
        ({"all": [{"exact": {"region": "eu"}}, {"suffix": {"type": ".v1"}}]}, True),
        ({"all": [{"exact": {"region": "eu"}}, {"suffix": {"type": ".v2"}}]}, False),
        ({"any": [{"exact": {"region": "us"}}, {"suffix": {"type": ".v1"}}]}, True),
        ({"any": [{"exact": {"region": "us"}}, {"not": {"all": [{"exact": {"region": "eu"}}]}}]}, False),
    ],
)
def test_a_filter_sees_attributes_and_never_data(dialect: dict[str, Any], wanted: bool) -> None:
    assert wants(dialect) is wanted


def test_all_filters_must_match_and_none_lets_everything_through() -> None:
    assert wants()
    assert wants({"exact": {"region": "eu"}}, {"suffix": {"type": ".v1"}})
    assert not wants({"exact": {"region": "eu"}}, {"suffix": {"type": ".v2"}})


def test_an_extension_cannot_override_an_attribute() -> None:
    posing = events.Event("a", "/a", "1", None, EVENT.time, {}, {"type": "b"})
    assert wants({"exact": {"type": "a"}}, event=posing)
    assert not wants({"exact": {"subject": "x"}}, event=posing)


TRIGGER: dict[str, Any] = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "dispatcher"},
    "spec": {"broker": "fuseml", "subscriber": {"ref": {"kind": "Service", "name": "dispatcher"}, "uri": catalog.EVENTS}},
}


def load(folder: pathlib.Path, default: redelivery.Rules = redelivery.CLUSTER, **spec: Any) -> triggers.Trigger:
    document = {**TRIGGER, "spec": {**TRIGGER["spec"], **spec}}
    (folder / "dispatcher.yaml").write_text("---\n---\nkind: Broker\n---\n" + yaml.safe_dump(document))
    (found,) = triggers.load(folder, default)
    return found


def test_a_trigger_without_a_spec_has_the_defaults_of_the_cluster(tmp_path: pathlib.Path) -> None:
    found = load(tmp_path)
    assert (found.name, found.subscriber, found.filters) == ("dispatcher", "dispatcher", ())
    assert found.delivery == redelivery.Rules(10, "exponential", 0.2, 30.0)
    assert [round(found.delivery.backoff(attempt), 3) for attempt in (1, 2, 3, 10)] == [0.2, 0.4, 0.8, 102.4]


def test_a_trigger_has_its_own_delivery_rules(tmp_path: pathlib.Path) -> None:
    spec = {"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT1M0.5S", "timeout": "PT1H", "deadLetterSink": {"uri": "http://sink"}}
    found = load(tmp_path, delivery=spec).delivery
    assert (found.retry, found.delay, found.timeout) == (3, 60.5, 3600.0)
    assert [found.backoff(attempt) for attempt in (1, 2, 3)] == [0, 60.5, 121]


def test_retries_without_a_delay_are_immediate(tmp_path: pathlib.Path) -> None:
    assert [load(tmp_path, delivery={"retry": 3}).delivery.backoff(attempt) for attempt in (1, 2, 3)] == [0, 0, 0]
    assert load(tmp_path, delivery={"retry": 3, "backoffDelay": "PT1S"}).delivery.backoff(2) == 0


def test_a_trigger_has_its_broker_s_delivery_rules_or_its_own_and_never_a_mixture(tmp_path: pathlib.Path) -> None:
    broker = tmp_path / "broker.yaml"
    broker.write_text("kind: Broker\nspec: {delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT5S}}\n")
    default = redelivery.of_broker(broker)
    assert default == redelivery.Rules(2, "linear", 1.0, 5.0)
    (tmp_path / "triggers").mkdir()
    assert load(tmp_path / "triggers", default).delivery == default
    assert load(tmp_path / "triggers", default, delivery={"timeout": "PT1S"}).delivery == redelivery.Rules(0, "exponential", 0.0, 1.0)


def test_a_broker_without_a_spec_has_the_defaults_of_the_cluster(tmp_path: pathlib.Path) -> None:
    (tmp_path / "broker.yaml").write_text("kind: Broker\nspec: {}\n")
    assert redelivery.of_broker(tmp_path / "broker.yaml") == redelivery.CLUSTER


def test_an_unsupported_broker_is_refused_with_the_name_of_the_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "broker.yaml").write_text("kind: Broker\nspec: {delivery: {retries: 3}}\n")
    with pytest.raises(errors.PermanentError, match=r"^broker\.yaml: retries: unsupported in a delivery spec"):
        redelivery.of_broker(tmp_path / "broker.yaml")


def test_the_old_form_of_filters_is_read_if_the_new_one_is_missing(tmp_path: pathlib.Path) -> None:
    old = {"attributes": {"type": "a"}}
    assert load(tmp_path, filter=old).filters == ({"exact": {"type": "a"}},)
    assert load(tmp_path, filter=old, filters=[{"prefix": {"type": "b"}}]).filters == ({"prefix": {"type": "b"}},)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"filters": [{"cesql": "type = 'a'"}]}, "the filter dialect 'cesql' is not supported here; use exact, prefix"),
        ({"filters": [{"any": [{"not": {"cesql": "x"}}]}]}, "'cesql' is not supported"),
        ({"filters": [{"exact": {"type": "a"}, "prefix": {"type": "a"}}]}, "each filter has exactly one dialect"),
        ({"filters": [{"exact": {"Type": "a"}}]}, "the filter exact Type: 'a' compares no attribute"),
        ({"filters": [{"exact": {"type": 1}}]}, "the filter exact type: 1 compares no attribute"),
        ({"filters": [{"exact": {"type": ""}}]}, "the filter exact type: '' compares no attribute"),
        ({"delivery": {"retries": 3}}, "retries: unsupported in a delivery spec"),
        ({"delivery": {"backoffPolicy": "random"}}, "'random' is neither linear nor exponential"),
        ({"delivery": {"retry": -1}}, "retry must not be negative"),
        ({"delivery": {"timeout": "PT0S"}}, "timeout must be longer than nothing"),
        ({"delivery": {"backoffPolicy": "linear", "backoffDelay": "1s"}}, "'1s' is not a duration like PT0.5S"),
        ({"subscriber": {"ref": {"name": "a"}, "uri": "/events"}}, f"the uri of a subscriber must be {catalog.EVENTS}"),
        ({"subscriber": {"ref": {"name": "a"}}}, f"the uri of a subscriber must be {catalog.EVENTS}"),
        ({"subscriber": {"ref": {"name": "a"}, "audience": "x"}}, "audience: unsupported in a subscriber"),
        ({"subscriber": {}}, "'ref'"),
    ],
)
def test_an_unsupported_trigger_is_refused_with_the_name_of_the_file(tmp_path: pathlib.Path, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.PermanentError) as caught:
        load(tmp_path, **spec)
    assert caught.value.message.startswith("dispatcher.yaml: ")
    assert message in caught.value.message


@pytest.mark.parametrize(("text", "seconds"), [("PT0.2S", 0.2), ("PT30S", 30), ("PT2M", 120), ("PT1H1M1S", 3661), ("PT0S", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert redelivery.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "P1D", "0.2S", "PT-1S", "PT1S\n"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        redelivery.seconds(text)
