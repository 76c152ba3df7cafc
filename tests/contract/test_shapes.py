"""The client's shapes have the keys, required keys and types of the documents that the server describes in OpenAPI."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import typer

from functions.artifacts import wire as artifacts_wire
from functions.runs import routes as runs_routes
from fuseml.cli import main
from fuseml.client import (
    application_shapes,
    codeset_shapes,
    event_shapes,
    identity_shapes,
    lineage_shapes,
    objects,
    pipeline_shapes,
    portability_shapes,
    registry_shapes,
    retention_shapes,
    runnable_shapes,
    shapes,
    source_shapes,
    store_shapes,
)
from infra import schema

RESPONSES: Mapping[str, Any] = {
    "GET /projects": list[shapes.Project],
    "GET /whoami": identity_shapes.Identity,
    "POST /projects": shapes.Project,
    "GET /projects/{name}": shapes.Project,
    "GET /codesets": list[shapes.Codeset],
    "POST /codesets": shapes.Registration,
    "GET /codesets/{project}/{name}": shapes.Codeset,
    "POST /codesets/{project}/{name}/origin": codeset_shapes.CopyRegistration,
    "GET /codesets/{project}/{name}/status": codeset_shapes.CodesetStatus,
    "POST /codesets/{project}/{name}/webhook": shapes.WebhookSecret,
    "POST /codesets/{project}/{name}/password": shapes.Registration,
    "GET /workflows": list[shapes.Workflow],
    "POST /workflows (200)": shapes.DryRun,
    "POST /workflows (201)": shapes.Workflow,
    "GET /workflows/{name}": shapes.Workflow,
    "PUT /workflows/{name}": shapes.Workflow | shapes.DryRun,
    "GET /workflows/{name}/revisions": list[shapes.Revision],
    "POST /workflows/{name}/portability": portability_shapes.Portability,
    "GET /workflows/assignments": list[shapes.Assignment],
    "GET /runs": list[shapes.Run],
    "GET /runs/{name}": shapes.Run,
    "POST /runs/{name}/cancel": shapes.Run,
    "POST /runs/{name}/approve": shapes.Run,
    "POST /runs/{name}/reject": shapes.Run,
    "GET /runs/{name}/diff/{other}": lineage_shapes.RunDiff,
    "GET /pipelines/results": list[lineage_shapes.RunResult],
    "GET /applications": list[application_shapes.Application],
    "POST /applications": application_shapes.Application,
    "GET /applications/{name}": application_shapes.Application,
    "PUT /applications/{name}/traffic": application_shapes.Application,
    "PUT /applications/{name}/visibility": application_shapes.Application,
    "POST /applications/{name}/rollback": application_shapes.Application,
    "GET /runnables": list[runnable_shapes.Runnable],
    "POST /runnables": runnable_shapes.Runnable,
    "GET /runnables/{id}": runnable_shapes.Runnable,
    "GET /runnables/{id}/versions": list[runnable_shapes.Runnable],
    "GET /runnables/{id}/matches": list[runnable_shapes.Match],
    "POST /pipelines": pipeline_shapes.Pipeline,
    "POST /pipelines/compose": pipeline_shapes.Composition,
    "GET /catalogs": list[pipeline_shapes.Catalog],
    "POST /catalogs": pipeline_shapes.CatalogContents,
    "GET /catalogs/{name}": pipeline_shapes.CatalogContents,
    "GET /sources": list[source_shapes.Source],
    "POST /sources": source_shapes.SourceDetails,
    "GET /sources/{name}": source_shapes.SourceDetails,
    "POST /sources/{name}/sync": source_shapes.SourceDetails,
    "GET /sources/{name}/diff": source_shapes.SourceDifference,
    "GET /artifacts": list[shapes.Artifact],
    "POST /artifacts": shapes.Artifact,
    "GET /artifacts/{kind}/{project}/{name}": shapes.Artifact,
    "GET /artifacts/{kind}/{project}/{name}/{version}": shapes.Artifact,
    "GET /artifacts/{kind}/{project}/{name}/{version}/history": shapes.ArtifactHistory,
    "GET /artifacts/{kind}/{project}/{name}/{version}/page": store_shapes.ArtifactPage,
    "POST /artifacts/places": store_shapes.StoreAccess,
    "POST /artifacts/locations": store_shapes.ArtifactLocation,
    "GET /artifacts/{kind}/{project}/{name}/{version}/provenance": lineage_shapes.Envelope,
    "GET /artifacts/{kind}/{project}/{name}/{version}/tags": list[shapes.ArtifactTag],
    **{
        f"{method} /artifacts/{{kind}}/{{project}}/{{name}}/{{version}}/{collection}": shapes.Artifact
        for method in ("PUT", "DELETE")
        for collection in ("tags/{tag}", "labels/{label}")
    },
    "GET /artifacts/retention": list[retention_shapes.RetentionPolicy],
    "GET /artifacts/retention/{project}/{kind}": retention_shapes.RetentionPolicy,
    "PUT /artifacts/retention/{project}/{kind}": retention_shapes.RetentionPolicy,
    "GET /artifacts/mirrors": list[store_shapes.Mirror],
    "GET /artifacts/mirrors/{project}/{kind}": store_shapes.Mirror,
    "PUT /artifacts/mirrors/{project}/{kind}": store_shapes.Mirror,
    "GET /artifacts/prune": list[retention_shapes.Fate],
    "POST /artifacts/prune": retention_shapes.Fates,
    "GET /lineage/{kind}/{project}/{name}/{version}": shapes.Lineage,
    "GET /lineage": list[shapes.Edge],
    "GET /events": list[event_shapes.EventSummary],
    "GET /events/dead-letters": list[event_shapes.EventSummary],
    "GET /events/{id}": event_shapes.Event,
    "POST /events": event_shapes.PublishedEvent,
    "POST /events/{id}/replay": event_shapes.Event,
    "DELETE /events/dead-letters/{id}": event_shapes.Event,
    "GET /why": event_shapes.Explanation,
    "GET /extensions": list[registry_shapes.Extension],
    "POST /extensions": registry_shapes.Extension,
    "GET /extensions/{id}": registry_shapes.Extension,
    "PUT /extensions/{id}": registry_shapes.Extension | registry_shapes.Impact,
    "DELETE /extensions/{id}": registry_shapes.Impact,
    "POST /extensions/plan": registry_shapes.Impact,
    "POST /extensions/{id}/webhook": registry_shapes.Webhook,
    "POST /extensions/secrets/rotate": registry_shapes.RotationResult,
    "POST /resolve": registry_shapes.Resolution,
    "GET /extensions/{extension_id}/services": list[registry_shapes.Service],
    "GET /extensions/{extension_id}/services/{service_id}/endpoints": list[registry_shapes.Endpoint],
    "GET /extensions/{extension_id}/services/{service_id}/credentials": list[registry_shapes.Credentials],
    **{
        f"{method} {path}": shape
        for collection, shape in (
            ("/extensions/{extension_id}/services", registry_shapes.Service),
            ("/extensions/{extension_id}/services/{service_id}/endpoints", registry_shapes.Endpoint),
            ("/extensions/{extension_id}/services/{service_id}/credentials", registry_shapes.Credentials),
        )
        for method, path in (("POST", collection), ("GET", f"{collection}/{{address}}"), ("PUT", f"{collection}/{{address}}"))
    },
}
NO_SHAPE = {
    "POST /workflows/{name}/plan": "the client passes plans on as they are",
    "GET /runs/{name}/plan": "the client passes plans on as they are",
    "GET /workflows/schema": "for editors",
    "GET /workflows/runs": "the original API's list; the client reads /runs",
    "POST /runs": "the client returns the request's id",
    "POST /runs/{name}/rerun": "the client returns the request's id",
    "POST /runs/{name}/resume": "the client returns the request's id",
    "POST /extensions/discover": "the client returns the proposals, compared below",
    "POST /webhooks/gitea": "for git hosts",
    "POST /webhooks/git/{project}/{codeset}": "for git hosts",
    "POST /webhooks/mlflow/{extension}": "for tracking servers",
}
OPEN = {shapes.Trigger: "the server documents a run's trigger as an open object"}
SCALARS = {"string": str, "integer": int, "number": float, "boolean": bool, "null": type(None)}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return schema.openapi(tmp_path_factory.mktemp("home"))


def response_schemas(api: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every operation that answers with a document, with its status if it has several documents, and the schema of each."""
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            documents = {
                status: response["content"]["application/json"]["schema"]
                for status, response in operation["responses"].items()
                if status != "default" and "application/json" in response.get("content", ())
            }
            for status, part in documents.items():
                yield f"{method.upper()} {path}{f' ({status})' if len(documents) > 1 else ''}", part


def body(api: Mapping[str, Any], method: str, path: str) -> Any:
    return resolved(api, api["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"])


def resolved(api: Mapping[str, Any], part: Any) -> Any:
    return api["components"]["schemas"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def differences(api: Mapping[str, Any], shape: Any, part: Any, where: str) -> list[str]:
    """Differences between a type and a JSON Schema."""
    arms, branches = list(alternatives_of_type(shape)), list(alternatives_of_schema(api, part))
    if len(arms) == len(branches) == 1:
        return list(differences_of_one(api, arms[0], branches[0], where))
    matches = {
        index: [arm for arm in arms if not list(differences_of_one(api, arm, branch, where))] for index, branch in enumerate(branches)
    }
    missing = [f"{where}: no alternative of {shape} is {branches[index]}" for index, found in matches.items() if not found]
    needless = [f"{where}: {arm} is no alternative of {part}" for arm in arms if not any(arm in found for found in matches.values())]
    return missing + needless


def alternatives_of_type(shape: Any) -> Iterator[Any]:
    if typing.get_origin(shape) in (typing.Union, types.UnionType):
        for arm in typing.get_args(shape):
            yield from alternatives_of_type(arm)
    else:
        yield shape


def alternatives_of_schema(api: Mapping[str, Any], part: Any) -> Iterator[Any]:
    part = resolved(api, part)
    for branch in part.get("anyOf") or part.get("oneOf") or ():
        yield from alternatives_of_schema(api, branch)
    if isinstance(part.get("type"), list):
        yield from ({**part, "type": kind} for kind in part["type"])
    elif "type" in part:
        yield part


def differences_of_one(api: Mapping[str, Any], shape: Any, part: Any, where: str) -> Iterator[str]:
    kind, origin = part["type"], typing.get_origin(shape)
    if kind in SCALARS:
        if shape is not SCALARS[kind]:
            yield f"{where}: {shape} is {kind} in the server's document"
    elif kind == "array":
        if origin is list:
            yield from differences(api, typing.get_args(shape)[0], part["items"], f"{where}[]")
        else:
            yield f"{where}: {shape} is an array in the server's document"
    elif typing.is_typeddict(shape):
        if shape not in OPEN:
            yield from differences_of_keys(api, shape, part, where)
        elif part.get("properties"):
            yield f"{where}: {shape} is no longer an open object in the server's document"
    elif origin is dict:
        values = typing.get_args(shape)[1]
        if values is not object:
            patterns = list(part.get("patternProperties", {}).values())
            yield from differences(api, values, part["additionalProperties"] if not patterns else patterns[0], f"{where}{{}}")
    else:
        yield f"{where}: {shape} is an object in the server's document"


def differences_of_keys(api: Mapping[str, Any], shape: Any, part: Any, where: str) -> Iterator[str]:
    keys, required = typed_keys(shape)
    properties = part.get("properties", {})
    yield from (f"{where}.{key}: missing in {shape.__name__}" for key in properties.keys() - keys)
    yield from (f"{where}.{key}: unknown to the server" for key in keys.keys() - properties.keys())
    yield from (
        f"{where}.{key}: required on one side only" for key in (required ^ {*part.get("required", ())}) & keys.keys() & properties.keys()
    )
    for key in keys.keys() & properties.keys():
        yield from differences(api, keys[key], properties[key], f"{where}.{key}")


def typed_keys(shape: Any) -> tuple[dict[str, Any], set[str]]:
    """The types of a TypedDict's keys, and the required keys.

    Python takes `Required` from annotations that are texts for a part of the type, so `__required_keys__` lacks those keys.
    """
    hints = typing.get_type_hints(shape, include_extras=True)
    required = {*shape.__required_keys__} | {key for key, hint in hints.items() if typing.get_origin(hint) is typing.Required}
    return typing.get_type_hints(shape), required


def test_shapes_are_equal_to_the_documents_of_the_api(api: Mapping[str, Any]) -> None:
    found = [
        line
        for operation, part in response_schemas(api)
        if operation in RESPONSES
        for line in differences(api, RESPONSES[operation], part, operation)
    ]
    assert found == []


def test_every_document_of_the_api_has_a_shape_or_a_reason(api: Mapping[str, Any]) -> None:
    assert {operation for operation, _ in response_schemas(api)} == {*RESPONSES, *NO_SHAPE}


def test_shapes_of_requests_are_equal_to_the_bodies_of_the_api(api: Mapping[str, Any]) -> None:
    start, resolve = body(api, "post", "/runs"), body(api, "post", "/resolve")
    # The client takes the workflow as an argument of its own.
    without_workflow = {
        "type": "object",
        "properties": {key: part for key, part in start["properties"].items() if key != "workflow"},
        "required": [key for key in start["required"] if key != "workflow"],
    }
    proposals = resolved(api, dict(response_schemas(api))["POST /extensions/discover"])["properties"]["proposals"]
    compared = [
        (shapes.RunRequest, without_workflow),
        (list[registry_shapes.Selector], resolve["properties"]["selectors"]),
        (registry_shapes.Consumer, resolve["properties"]["context"]),
        (application_shapes.ApplicationSpec, body(api, "post", "/applications")),
        (shapes.Descriptor, body(api, "post", "/artifacts")),
        (pipeline_shapes.CompositionRequest, body(api, "post", "/pipelines/compose")),
        (list[registry_shapes.Proposal], proposals),
    ]
    assert [line for shape, part in compared for line in differences(api, shape, part, str(shape))] == []


def test_a_difference_is_found(api: Mapping[str, Any]) -> None:
    class Revision(typing.TypedDict, total=False):
        revision: str
        author: str

    part = dict(response_schemas(api))["GET /workflows/{name}/revisions"]
    assert sorted(differences(api, list[Revision], part, "x")) == [
        "x[].author: unknown to the server",
        "x[].created: missing in Revision",
        "x[].revision: <class 'str'> is integer in the server's document",
        "x[].revision: required on one side only",
    ]


NOT_OFFERED = {
    "request": "`--wait` follows the run of a request",
    "caused_by": "`run watch` and `--wait` follow the runs that a run causes",
}


def test_the_filters_of_runs_are_the_same_in_api_client_and_command() -> None:
    filters = {*shapes.RunFilters.__annotations__}
    assert filters == runs_routes.RunQuery.model_fields.keys() - {"limit", "cursor"}
    command: Any = typer.main.get_command(main.app)
    options = {parameter.name for parameter in command.commands["run"].commands["list"].params}
    assert options - {"limit", "format", "metric", "sort", "reverse"} == filters - NOT_OFFERED.keys()


def test_the_filters_of_artifacts_are_the_same_in_api_client_and_command() -> None:
    filters = {*shapes.ArtifactFilters.__annotations__}
    assert filters == artifacts_wire.ArtifactQuery.model_fields.keys() - {"limit", "cursor"}
    command: Any = typer.main.get_command(main.app)
    options = {parameter.name for parameter in command.commands["artifact"].commands["search"].params}
    # `--format` chooses the form of the output.
    assert options - {"limit", "format"} == filters - {"type", "format"} | {"content_type", "content_format"}


OBJECTS: Mapping[Any, Any] = {
    objects.Run: shapes.Run,
    objects.Step: shapes.StepRun,
    objects.Binding: shapes.StepBinding,
    objects.Artifact: shapes.Artifact,
    objects.Lineage: shapes.Lineage,
    objects.Edge: shapes.Edge,
    objects.Event: event_shapes.EventSummary,
}
# Fields that no document has: derived ones.
DERIVED = {(objects.Run, "metrics"), (objects.Lineage, "document")}


def _read_only(hint: Any) -> Any:
    """The type of an object's field: a document's dictionary is a mapping there."""
    if typing.get_origin(hint) is dict:
        return collections.abc.Mapping[typing.get_args(hint)]  # type: ignore[misc]  # the arguments are those of a dictionary
    return hint


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_the_fields_of_a_typed_object_are_those_of_its_document(kind: Any) -> None:
    known, own = typing.get_type_hints(OBJECTS[kind]), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if (kind, field.name) in DERIVED:
            continue
        assert field.name in known, field.name
        if field.name not in objects.READERS:
            assert own[field.name] == _read_only(known[field.name]), field.name
