"""Workflows that records of the registry start: by `on.extensions`, once for each change, and never for a record that is gone."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import sqlmodel

from fuseml.domain import events
from fuseml.domain.registry import extension, registry
from fuseml.domain.workflows import lint
from fuseml.runtime import clock
from fuseml.store import codesets, extensions
from fuseml.store.tables import decision_rows
from tests.component import triggering

A = "a" * 40


def document(name: str, triggers: str, *, takes: str = "extension") -> str:
    item = "{name: code, type: codeset}" if takes == "codeset" else f"{{name: it, type: {takes}}}"
    use = "{codeset: {name: code}}" if takes == "codeset" else '{name: it, value: "{{ inputs.it }}"}'
    return f"""
name: {name}
inputs: [{item}]
on: {{extensions: {triggers}}}
steps:
  - name: step
    image: shell:1
    inputs: [{use}]
"""


class Registry(triggering.World):
    """With changes of records, whose events are in transit afterwards."""

    def put(self, id: str, resource: str = "s3", **fields: str) -> events.Event:
        draft = extension.Extension.model_validate(
            {"id": id, **fields, "services": [{"id": "api", "resource": resource, "endpoints": [{"url": "http://x"}]}]}
        )
        with self.store.write() as session:
            if extensions.is_known(session, id):
                record = registry.replace(extensions.get(session, id), draft, clock.now(), lambda prefix: prefix)
                extensions.replace(session, record, clock.now())
                payload: events.Payload = events.ExtensionUpdated(extension=id, revision=record.revision)
            else:
                record = registry.create(draft, clock.now(), lambda prefix: prefix)
                extensions.add(session, record, clock.now())
                payload = events.ExtensionRegistered(extension=id, revision=1)
        event = events.event(payload, clock.now())
        self.events.append(event)
        return event

    def reasons(self) -> list[str]:
        with self.store.read() as session:
            return [row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision))]


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[Registry]:
    system = Registry(tmp_path)
    yield system
    system.store.close()


def test_a_record_starts_a_workflow_at_its_registration_and_at_each_change(world: Registry) -> None:
    world.workflow(document("check", "[{resource: s3}]"))
    event = world.put("minio")
    world.settle()
    world.deliver(event)
    world.settle()
    assert list(world.states()) == ["check-1"]
    run = world.run("check-1")
    assert run["inputs"] == {"it": "minio"}
    assert (run["trigger"]["kind"], run["trigger"]["extension"]) == ("extension.registered", "minio")
    world.put("minio", version="2.0")
    world.settle()
    assert list(world.states()) == ["check-1", "check-2"]
    assert world.reasons()[-1] == "the extension minio (resource: s3) has changed"


def test_only_records_that_meet_every_criterion_of_one_trigger_start_it(world: Registry) -> None:
    world.workflow(document("check", '[{resource: s3, version: ">=2"}, {product: mlflow}]'))
    for id, resource, product, version in (
        ("old", "s3", "minio", "1.9"),
        ("other", "git", "gitea", "3.0"),
        ("new", "s3", "minio", "2.1"),
        ("tracker", "mlflow-tracking", "mlflow", ""),
    ):
        world.put(id, resource, product=product, version=version)
    world.settle()
    assert [world.run(name)["inputs"]["it"] for name in world.states()] == ["new", "tracker"]
    assert "the extension old does not match its on.extensions" in world.reasons()


def test_a_workflow_on_code_runs_on_each_of_its_codesets_and_a_push_starts_nothing(world: Registry) -> None:
    world.codeset("second")
    world.codeset("empty")
    world.workflow(document("train", "[{resource: s3}]", takes="codeset"))
    world.assign("train", "code://p/*")
    world.push(A)
    world.push("b" * 40, codeset="second")
    world.settle()
    assert world.states() == {}
    world.put("minio")
    world.settle()
    assert [(run["codeset"], run["commit"]) for run in map(world.run, world.states())] == [("code", A), ("second", "b" * 40)]
    assert "nothing was pushed to the default branch of p/empty yet" in world.reasons()


def test_a_record_that_is_gone_when_its_event_arrives_starts_nothing(world: Registry) -> None:
    world.workflow(document("check", "[{resource: s3}]"))
    world.put("minio")
    with world.store.write() as session:
        extensions.remove(session, "minio")
    world.settle()
    assert world.states() == {}
    assert world.reasons() == ["the extension minio was removed"]
    with world.store.read() as session:
        assert codesets.project_names(session) == ["p"]


@pytest.mark.parametrize(
    ("trigger", "problem"),
    [("{}", "needs a criterion"), ('{version: ">>1"}', "version"), ("{resources: s3}", "did you mean 'resource'")],
)
def test_a_trigger_that_cannot_be_meant_is_refused_with_its_place(trigger: str, problem: str) -> None:
    findings = lint.lint_text(document("check", f"[{trigger}]"))
    assert [finding for finding in findings if finding.level == "error" and problem in str(finding) and finding.line], findings


def test_an_input_that_a_record_cannot_give_is_a_warning() -> None:
    assert not lint.lint_text(document("check", "[{resource: s3}]"))
    [finding] = lint.lint_text(document("check", "[{resource: s3}]", takes="string"))
    assert "a record of the registry provides no value" in finding.message
