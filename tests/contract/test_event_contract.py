"""The places of the event contract agree with one another.

Catalogue, schemas, payload models, samples, triggers, sources, the handlers of the functions and the definitions of the platform.
"""

from __future__ import annotations

import ast
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest

from fuseml.domain import events
from fuseml.embedded import triggers
from fuseml.runtime import catalog
from tests import crds, yaml_files

ROOT = pathlib.Path(__file__).parents[2]
EVENTING = ROOT / "eventing"
SAMPLE_TIME = "2026-11-21T02:41:41.000000Z"

CATALOGUE: dict[str, dict[str, Any]] = {entry["type"]: entry for entry in yaml_files.document(EVENTING / "catalog.yaml")["events"]}
TRIGGERS = triggers.load(EVENTING / "triggers")
FUNCTIONS = {function.name: function for function in catalog.FUNCTIONS}
TYPES = sorted(events.PAYLOADS)


def sample(type: str) -> events.Event:
    entry = CATALOGUE[type]
    return events.Event(type, entry["sample"]["source"], entry["sample"]["id"], entry["subject"], SAMPLE_TIME, entry["sample"]["data"])


def test_catalogue_schemas_and_models_name_the_same_types() -> None:
    assert list(CATALOGUE) == TYPES
    assert sorted(path.name for path in (EVENTING / "schemas").iterdir()) == [f"{type}.json" for type in TYPES]


@pytest.mark.parametrize("type", TYPES)
def test_an_entry_of_the_catalogue_is_complete(type: str) -> None:
    entry = CATALOGUE[type]
    assert list(entry) == ["type", "producers", "consumers", "subject", "schema", "sample"]
    assert entry["producers"]
    assert entry["schema"] == f"schemas/{type}.json"
    assert set(entry["producers"]) <= FUNCTIONS.keys()
    assert all(FUNCTIONS[name].events for name in entry["consumers"])


@pytest.mark.parametrize("type", TYPES)
def test_a_schema_equals_that_of_its_model(type: str) -> None:
    schema = json.loads((EVENTING / "schemas" / f"{type}.json").read_text())
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{type}.json"}
    assert schema == {**head, **events.PAYLOADS[type].model_json_schema()}
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema.get("additionalProperties", True) is True, "readers ignore unknown fields"


@pytest.mark.parametrize("type", TYPES)
def test_a_sample_is_an_event_of_its_type(type: str) -> None:
    payload = events.read(sample(type))
    assert events.event(payload, SAMPLE_TIME) == sample(type)
    jsonschema.validate(sample(type).data, json.loads((EVENTING / CATALOGUE[type]["schema"]).read_text()))


def consumers(trigger: triggers.Trigger, event: events.Event) -> Iterator[str]:
    if trigger.matches(event):
        yield from (name for name, function in FUNCTIONS.items() if function.service == trigger.subscriber)


@pytest.mark.parametrize("type", TYPES)
def test_triggers_deliver_an_event_to_its_consumers_only(type: str) -> None:
    assert sorted(name for trigger in TRIGGERS for name in consumers(trigger, sample(type))) == sorted(CATALOGUE[type]["consumers"])


def test_every_consumer_has_a_trigger_of_its_name() -> None:
    subscribers = {trigger["metadata"]["name"]: trigger["spec"]["subscriber"]["ref"]["name"] for trigger in of_kind("Trigger")}
    assert sorted(subscribers) == sorted(function.service for function in FUNCTIONS.values() if function.events)
    assert all(name == subscriber for name, subscriber in subscribers.items())
    assert {trigger["spec"]["subscriber"]["uri"] for trigger in of_kind("Trigger")} == {catalog.EVENTS}
    # The embedded broker writes the ledger itself.
    assert {trigger.name for trigger in TRIGGERS} == subscribers.keys() - {"events"}


def test_dead_letters_go_to_the_function_that_stores_them() -> None:
    sinks = [resource["spec"]["delivery"]["deadLetterSink"] for kind in ("Broker", "Trigger") for resource in of_kind(kind)]
    (sink,) = {json.dumps(sink) for sink in sinks}
    assert json.loads(sink)["ref"]["name"] == FUNCTIONS["events"].service
    assert json.loads(sink)["uri"] == catalog.DEAD_LETTERS


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
def test_a_trigger_filters_for_existing_types_only(trigger: triggers.Trigger) -> None:
    (filter_,) = trigger.filters
    for dialect in filter_["any"]:
        ((name, attributes),) = dialect.items()
        (type,) = attributes.values()
        assert (name, type) == ("exact", events.TICK) or (name == "exact" and type in CATALOGUE) or type.startswith(events.TEKTON_PREFIX)


@pytest.mark.parametrize("kind", ["pipelinerun", "taskrun"])
def test_the_events_of_the_engine_go_to_the_run_tracker(kind: str) -> None:
    event = events.Event(f"{events.TEKTON_PREFIX}{kind}.successful.v1", "/apis///namespaces/x//y", "1", "y", SAMPLE_TIME, {})
    assert [name for trigger in TRIGGERS for name in consumers(trigger, event)] == ["run_tracker"]


def test_the_tick_goes_to_those_that_sweep() -> None:
    tick = events.Event(events.TICK, "/apis/v1/namespaces/fuseml/pingsources/housekeeper", "1", None, SAMPLE_TIME, {})
    assert [name for trigger in TRIGGERS for name in consumers(trigger, tick)] == ["housekeeper", "sources"]


# The code of the functions


NAMES = {model.__name__: type for type, model in events.PAYLOADS.items()}


def payloads(tree: ast.AST) -> Iterator[tuple[ast.Attribute, str]]:
    """Every `events.X` in the code, with the event type of the class `X`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "events" and node.attr in NAMES:
            yield node, NAMES[node.attr]


USE_CASES = {
    module: {
        node.name: node
        for node in ast.parse((ROOT / "shared" / "fuseml" / "usecases" / f"{module}.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for module in ("lifecycle", "artifact_records", "assigning")
}


def enqueued_by(module: str, tree: ast.AST) -> set[str]:
    """The types of the events that the code enqueues by calls of a module of `fuseml.usecases`."""
    functions = USE_CASES[module]
    pending = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    ]
    reached = set[str]()
    while pending:
        name = pending.pop()
        if name in functions and name not in reached:
            reached.add(name)
            pending += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    return {type for name in reached for _, type in payloads(functions[name])}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_produces_and_consumes_the_types_of_the_catalogue(function: str) -> None:
    mentioned, enqueued, handled = set[str](), set[str](), set[str]()
    for path in (ROOT / "functions" / function).rglob("*.py"):
        tree = ast.parse(path.read_text())
        types = {node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "TYPE"}
        mentioned |= {type for node, type in payloads(tree) if node not in {attribute.value for attribute in types}}
        mentioned |= {type for module in USE_CASES for type in enqueued_by(module, tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "enqueue":
                enqueued |= {type for argument in node.args for _, type in payloads(argument)}
            if isinstance(node, ast.Dict):
                handled |= {type for key in node.keys if key in types for _, type in payloads(key)}
    produced = {type for type, entry in CATALOGUE.items() if function in entry["producers"]}
    assert enqueued <= produced <= mentioned
    assert handled == {type for type, entry in CATALOGUE.items() if function in entry["consumers"]}


# The platform


@functools.cache
def definition(kind: str) -> tuple[str, dict[str, Any]]:
    """(apiVersion, schema) of the stored version of a resource. Objects are closed unless the definition declares them open."""
    for path in sorted(crds.at().rglob("*.yaml")):
        # Megabytes of definitions: only files that name the kind are parsed.
        for document in yaml_files.documents(path) if kind in path.read_text() else ():
            if (
                isinstance(document, dict)
                and document.get("kind") == "CustomResourceDefinition"
                and document["spec"]["names"]["kind"] == kind
            ):
                version = next(version for version in document["spec"]["versions"] if version["storage"])
                return f"{document['spec']['group']}/{version['name']}", closed(version["schema"]["openAPIV3Schema"])
    raise AssertionError(f"no definition of {kind}")


def closed(schema: Mapping[str, Any], *, root: bool = True) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key != "properties"}
    properties = {name: closed(value, root=False) for name, value in schema.get("properties", {}).items()}
    if root:
        properties |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    if properties:
        result["properties"] = properties
        # The definition declares Trigger.spec open, although it has no extra keys: a cluster would accept a typing error there.
        if not schema.get("x-kubernetes-preserve-unknown-fields") or "broker" in properties:
            result["additionalProperties"] = False
    if isinstance(schema.get("items"), Mapping):
        result["items"] = closed(schema["items"], root=False)
    return result


RESOURCES = {
    f"{path.parent.name}/{path.name}#{index}": document
    for path in sorted(EVENTING.rglob("*.yaml"))
    if path.name not in ("catalog.yaml", "kustomization.yaml")
    for index, document in enumerate(yaml_files.documents(path))
}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [resource for resource in RESOURCES.values() if resource["kind"] == kind]


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=list(RESOURCES))
def test_a_cluster_would_accept_the_resource(resource: dict[str, Any]) -> None:
    api_version, schema = definition(resource["kind"])
    assert resource["apiVersion"] == api_version
    jsonschema.Draft202012Validator(schema).validate(resource)


def test_a_typing_error_in_a_resource_is_refused() -> None:
    _, schema = definition("Trigger")
    resource = next(resource for resource in RESOURCES.values() if resource["kind"] == "Trigger")
    for path in (("spec",), ("spec", "subscriber"), ("spec", "subscriber", "ref")):
        wrong = json.loads(json.dumps(resource))
        place = wrong
        for part in path:
            place = place[part]
        place["retries"] = 3
        with pytest.raises(jsonschema.ValidationError, match="'retries' was unexpected"):
            jsonschema.Draft202012Validator(schema).validate(wrong)


def test_all_resources_use_the_one_broker() -> None:
    brokers = [resource["metadata"] for resource in RESOURCES.values() if resource["kind"] == "Broker"]
    assert len(brokers) == 1
    for resource in RESOURCES.values():
        assert resource["metadata"]["namespace"] == brokers[0]["namespace"]
        match resource["kind"]:
            case "Trigger":
                assert resource["spec"]["broker"] == brokers[0]["name"]
            case "PingSource":
                assert resource["spec"]["sink"]["ref"] == {
                    "apiVersion": "eventing.knative.dev/v1",
                    "kind": "Broker",
                    "name": brokers[0]["name"],
                }
