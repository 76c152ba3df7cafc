"""Changes of a record: registration, updates and removals at every level, and their errors."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import extension, registry
from tests.unit import registry_examples

NOON, LATER = "2026-01-01T12:00:00.000000Z", "2026-01-01T13:00:00.000000Z"
NEW_ID = registry.id_source(random.Random(1))
S3 = ("services", "mlflow-store")
ENDPOINT = (*S3, "endpoints", "http://mlflow-minio.mlflow:9000")
ACCOUNT = (*S3, "credentials", "default-s3-account")


def created(data: Mapping[str, Any]) -> extension.Extension:
    return registry.create(extension.Extension.model_validate(data), NOON, NEW_ID)


def mlflow() -> extension.Extension:
    return registry.create(registry_examples.load(registry_examples.MLFLOW), NOON, NEW_ID)


def updated(stored: extension.Extension, patch: Mapping[str, Any]) -> extension.Extension:
    return registry.update(stored, extension.Extension.model_validate(patch), LATER, NEW_ID)


def changed(stored: extension.Extension, path: Sequence[str], patch: Mapping[str, Any]) -> extension.Extension:
    model = extension.MODELS[path[-2]]
    data = patch if model is not extension.Endpoint else {"url": path[-1], **patch}
    return registry.change(stored, path, model.model_validate(data), LATER, NEW_ID)[0]


def service(record: extension.Extension, id: str = "mlflow-store") -> extension.Service:
    part = registry.find(record, ("services", id))
    assert isinstance(part, extension.Service)
    return part


def bare(record: extension.Extension) -> dict[str, Any]:
    """The record without the fields that the registry sets."""
    return record.model_dump(exclude={"revision": True, "status": True})


# Registration


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_every_example_is_registered_unchanged(text: str) -> None:
    written = registry_examples.load(text)
    record = registry.create(written, NOON, NEW_ID)
    below = {"__all__": {"extension_id": True, "service_id": True, "status": True}}
    parts = {"services": {"__all__": {"extension_id": True, "status": True, "endpoints": below, "credentials": below}}}
    outer: Any = {**parts, "status": True, "revision": True}
    assert record.model_dump(exclude=outer) == written.model_dump(exclude=outer)
    assert record.revision == 1


def test_every_part_has_the_ids_of_its_owners_and_timestamps() -> None:
    record = mlflow()
    endpoint, account = registry.find(record, ENDPOINT), registry.find(record, ACCOUNT)
    assert not isinstance(endpoint, extension.Service)
    assert (endpoint.extension_id, endpoint.service_id) == ("mlflow-0001", "mlflow-store")
    assert service(record).extension_id == "mlflow-0001"
    assert record.status == service(record).status == extension.Status(registered=NOON, updated=NOON)
    assert endpoint.status == extension.EndpointStatus(registered=NOON, updated=NOON)
    assert account.status == extension.CredentialsStatus(created=NOON, updated=NOON)


def test_read_only_fields_of_a_request_are_dropped() -> None:
    record = created(
        {"id": "e", "revision": 7, "status": {"registered": "1999-01-01T00:00:00Z"}, "services": [{"id": "s", "extension_id": "x"}]}
    )
    assert (record.revision, record.status.registered, record.services[0].extension_id) == (1, NOON, "e")


@pytest.mark.parametrize(
    ("data", "part", "prefix"),
    [
        ({"product": "mlflow"}, (), "mlflow-"),
        ({}, (), ""),
        ({"product": "my tool/2"}, (), "my-tool-2-"),
        ({"product": "p" * 100}, (), "p" * 91 + "-"),
        ({"id": "e", "services": [{"resource": "s3"}]}, ("services",), "s3-"),
        ({"id": "e", "services": [{"resource": "git+https"}]}, ("services",), "git-https-"),
        ({"id": "e", "product": "minio", "services": [{}]}, ("services",), "minio-service-"),
        ({"id": "e", "services": [{}]}, ("services",), ""),
        ({"id": "e", "services": [{"id": "s", "resource": "s3", "credentials": [{}]}]}, ("services", "credentials"), "s3-"),
        ({"id": "e", "services": [{"id": "s", "credentials": [{}]}]}, ("services", "credentials"), "creds-"),
    ],
)
def test_missing_ids_are_generated_as_in_the_original(data: Mapping[str, Any], part: Sequence[str], prefix: str) -> None:
    node: Any = created(data)
    for name in part:
        (node,) = getattr(node, name)
    assert node.id.startswith(prefix)
    suffix = node.id.removeprefix(prefix)
    assert len(suffix) == 8 and set(suffix) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert document.IDENTIFIER.fullmatch(node.id) and len(node.id) <= 100


def test_generated_ids_differ() -> None:
    record = created({"services": [{"resource": "s3", "credentials": [{}, {}]}, {"resource": "s3"}]})
    ids = [record.id, *(part.id for part in record.services), *(part.id for part in record.services[0].credentials)]
    assert len(set(ids)) == 5


def test_all_repeated_ids_are_reported_at_once() -> None:
    parts = {"endpoints": [{"url": "http://x"}, {"url": "http://x"}], "credentials": [{"id": "c"}, {"id": "c"}]}
    with pytest.raises(errors.ConflictError) as caught:
        created({"id": "e", "services": [{"id": "s", **parts}, {"id": "s"}]})
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    assert {problem["path"]: problem["message"] for problem in problems} == {
        "services[0].endpoints[1].url": "an endpoint with the same URL already exists under the 'e/s' extension service: http://x",
        "services[0].credentials[1].id": "a set of credentials with the same ID already exists under the 'e/s' extension service: c",
        "services[1].id": "a service with the same ID already exists under the 'e' extension: s",
    }


# Updates


def test_absent_fields_of_a_patch_keep_their_values() -> None:
    before = mlflow()
    after = updated(before, {"description": "new"})
    assert bare(after) == {**bare(before), "description": "new"}
    assert (after.revision, after.status.registered, after.status.updated) == (2, NOON, LATER)
    assert service(after).status == service(before).status


def test_explicit_empty_values_overwrite() -> None:
    before = created({"id": "e", "zone": "z", "services": [{"id": "s", "category": "c", "resource": "r", "auth_required": True}]})
    after = updated(before, {"zone": "", "services": [{"id": "s", "auth_required": False, "resource": None}]})
    # The original set the category to the resource here.
    assert (after.zone, service(after, "s").auth_required, service(after, "s").resource, service(after, "s").category) == (
        "",
        False,
        "",
        "c",
    )


@pytest.mark.parametrize("nothing", [None, []])
@pytest.mark.parametrize(
    ("patch", "left"),
    [
        (lambda nothing: {"services": nothing}, {"services": 0}),
        (lambda nothing: {"services": [{"id": "mlflow-store", "endpoints": nothing}]}, {"services": 2, "endpoints": 0, "credentials": 1}),
        (lambda nothing: {"services": [{"id": "mlflow-store", "credentials": nothing}]}, {"services": 2, "endpoints": 2, "credentials": 0}),
    ],
)
def test_null_and_an_empty_list_remove_parts(nothing: object, patch: Any, left: Mapping[str, int]) -> None:
    after = updated(mlflow(), patch(nothing))
    assert len(after.services) == left["services"]
    for name in left.keys() - {"services"}:
        assert len(getattr(service(after), name)) == left[name]


def test_named_parts_are_updated_and_new_ones_are_added() -> None:
    before = mlflow()
    patch = {
        "services": [
            {"id": "mlflow-store", "endpoints": [{"url": ENDPOINT[-1], "type": "external"}, {"url": "https://new"}]},
            {"id": "ui", "resource": "ui"},
        ]
    }
    after = updated(before, patch)
    assert [part.id for part in after.services] == ["mlflow-tracking", "mlflow-store", "ui"]
    first, second, third = service(after).endpoints
    assert (first.type, first.configuration) == ("external", {"MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000"})
    assert second == service(before).endpoints[1]
    assert (third.url, third.extension_id, third.service_id, third.status.registered) == (
        "https://new",
        "mlflow-0001",
        "mlflow-store",
        LATER,
    )
    assert service(after, "ui").status.registered == LATER
    assert (service(after).status.registered, service(after).status.updated) == (NOON, LATER)
    assert service(after, "mlflow-tracking") == service(before, "mlflow-tracking")


def test_a_list_of_parts_can_replace_the_stored_one() -> None:
    before = mlflow()
    patch = extension.Extension.model_validate(
        {"services": [{"id": "mlflow-store", "endpoints": [{"url": ENDPOINT[-1], "type": "external"}, {"url": "https://new"}]}]}
    )
    after = registry.update(before, patch, LATER, NEW_ID, replace_lists=True)
    assert [part.id for part in after.services] == ["mlflow-store"]
    first, second = service(after).endpoints
    assert (first.type, first.configuration) == ("external", {"MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000"})
    assert (second.url, service(after).credentials) == ("https://new", service(before).credentials)
    part = extension.Service.model_validate({"endpoints": [{"url": "https://new"}]})
    changed_part, _ = registry.change(before, S3, part, LATER, NEW_ID, replace_lists=True)
    assert [item.id for item in changed_part.services] == ["mlflow-tracking", "mlflow-store"]
    assert [endpoint.url for endpoint in service(changed_part).endpoints] == ["https://new"]


def test_configuration_and_lists_of_names_are_replaced_as_a_whole() -> None:
    before = registry.create(registry_examples.load(registry_examples.SELDON), NOON, NEW_ID)
    after = updated(
        before,
        {
            "services": [
                {"id": "API", "configuration": {"namespace": "other"}, "credentials": [{"id": "user-alainturing", "projects": ["gamma"]}]}
            ]
        },
    )
    assert service(after, "API").configuration == {"namespace": "other"}
    project, user = service(after, "API").credentials
    assert (project.projects, user.projects, user.users) == (("alpha",), ("gamma",), ("alainturing",))


def test_hidden_keeps_the_stored_value_and_other_values_are_replaced() -> None:
    after = changed(
        mlflow(), ACCOUNT, {"configuration": {"AWS_ACCESS_KEY_ID": extension.HIDDEN, "AWS_SESSION_TOKEN": "new", "NEVER": extension.HIDDEN}}
    )
    assert service(after).credentials[0].configuration == {
        "AWS_ACCESS_KEY_ID": "24oT0SfbJPEu6kUbUKsH",
        "AWS_SESSION_TOKEN": "new",
        "NEVER": extension.HIDDEN,
    }


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_a_shown_record_can_be_sent_back_without_a_change(text: str) -> None:
    stored = registry.create(registry_examples.load(text), NOON, NEW_ID)
    shown = extension.Extension.model_validate(extension.hidden(stored).model_dump(mode="json"))
    assert registry.update(stored, shown, LATER, NEW_ID) is stored


@pytest.mark.parametrize(
    ("path", "patch"), [((), {"id": "other"}), (S3, {"id": "other"}), (ENDPOINT, {"url": "http://other"}), (ACCOUNT, {"id": "other"})]
)
def test_renames_are_refused(path: Sequence[str], patch: Mapping[str, Any]) -> None:
    with pytest.raises(errors.InvalidError, match=r"cannot be renamed to '.*other'; register a new one and delete the old one"):
        changed(mlflow(), path, patch) if path else updated(mlflow(), patch)


def test_updates_respect_the_limits() -> None:
    record = created({"id": "e", "services": [{"id": f"s{index}"} for index in range(100)]})
    with pytest.raises(errors.InvalidError, match="there would be 101 services; the limit is 100"):
        registry.add(record, ("services",), extension.Service(id="one-more"), LATER, NEW_ID)


# Parts


def test_a_part_is_added_with_a_generated_id() -> None:
    after, part = registry.add(mlflow(), (*S3, "credentials"), extension.Credentials(scope="user"), LATER, NEW_ID)
    assert isinstance(part, extension.Credentials)
    assert part.id.startswith("s3-") and part in service(after).credentials
    assert (after.revision, after.status.updated, service(after).status.updated) == (2, LATER, LATER)


@pytest.mark.parametrize(
    ("collection", "part", "message"),
    [
        (
            ("services",),
            extension.Service(id="mlflow-store"),
            "a service with the same ID already exists under the 'mlflow-0001' extension: mlflow-store",
        ),
        (
            (*S3, "endpoints"),
            extension.Endpoint(url=ENDPOINT[-1]),
            "an endpoint with the same URL already exists under the 'mlflow-0001/mlflow-store' extension service: http://mlflow-minio.mlflow:9000",
        ),
        (
            (*S3, "credentials"),
            extension.Credentials(id="default-s3-account"),
            "a set of credentials with the same ID already exists under the 'mlflow-0001/mlflow-store' extension service: default-s3-account",
        ),
    ],
)
def test_an_existing_part_cannot_be_added(collection: Sequence[str], part: extension.Part, message: str) -> None:
    with pytest.raises(errors.ConflictError) as caught:
        registry.add(mlflow(), collection, part, LATER, NEW_ID)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("services", "x"), "a service with the given ID could not be found under the 'mlflow-0001' extension: x"),
        (
            (*S3, "endpoints", "http://x"),
            "an endpoint with the given URL could not be found under the 'mlflow-0001/mlflow-store' extension service: http://x",
        ),
        (
            (*S3, "credentials", "x"),
            "a set of credentials with the given ID could not be found under the 'mlflow-0001/mlflow-store' extension service: x",
        ),
        (("services", "x", "credentials", "c"), "a service with the given ID could not be found under the 'mlflow-0001' extension: x"),
    ],
)
def test_a_missing_part_is_named(path: Sequence[str], message: str) -> None:
    for attempt in (
        lambda: registry.find(mlflow(), path),
        lambda: changed(mlflow(), path, {}),
        lambda: registry.remove(mlflow(), path, LATER),
    ):
        with pytest.raises(errors.NotFoundError) as caught:
            attempt()
        assert caught.value.message == message


@pytest.mark.parametrize("path", [S3, ENDPOINT, ACCOUNT])
def test_the_removal_of_a_part_keeps_the_others(path: Sequence[str]) -> None:
    before = mlflow()
    after = registry.remove(before, path, LATER)
    with pytest.raises(errors.NotFoundError):
        registry.find(after, path)
    assert (after.revision, after.status.updated) == (2, LATER)
    assert service(after, "mlflow-tracking") == service(before, "mlflow-tracking")
    *above, name, _ = path
    left = getattr(registry.find(after, above) if above else after, name)
    assert len(left) == len(getattr(registry.find(before, above) if above else before, name)) - 1


def test_a_stale_revision_is_refused() -> None:
    registry.expect_revision(mlflow(), 1)
    with pytest.raises(errors.StaleError, match="extension mlflow-0001 is at revision 1, not 3; get it again and repeat the change"):
        registry.expect_revision(mlflow(), 3)


def test_a_health_result_does_not_change_the_revision() -> None:
    unhealthy = registry.observe(mlflow(), ENDPOINT, healthy=False, now=LATER, cause="connection refused")
    assert (unhealthy.revision, unhealthy.status) == (1, mlflow().status)
    still = registry.observe(unhealthy, ENDPOINT, healthy=False, now="2026-01-01T14:00:00.000000Z", cause="timeout")
    endpoint = registry.find(still, ENDPOINT)
    assert isinstance(endpoint, extension.Endpoint)
    assert endpoint.status.health == extension.Health(state="unhealthy", since=LATER, seen="2026-01-01T14:00:00.000000Z", cause="timeout")
    with pytest.raises(errors.InvalidError):
        registry.observe(mlflow(), S3, healthy=True, now=LATER)


# Properties

_ids = st.sampled_from(["a", "b", "c"])
_texts = st.sampled_from(["", "x", "y"])
_configurations = st.dictionaries(st.sampled_from(["K", "L"]), _texts, max_size=2)


def _parts(part: st.SearchStrategy[dict[str, Any]], key: str) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.lists(part, max_size=3, unique_by=lambda data: data[key]))


def _some(required: Mapping[str, Any], optional: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(required), optional=dict(optional))


_endpoints = _some(
    {"url": st.sampled_from(["http://a", "http://b"])},
    {"type": st.sampled_from(["internal", "external"]), "configuration": _configurations},
)
_credentials = _some({"id": _ids}, {"users": st.lists(_ids, max_size=2), "default": st.booleans(), "configuration": _configurations})
_services = _some(
    {"id": _ids},
    {
        "resource": _texts,
        "configuration": _configurations,
        "endpoints": _parts(_endpoints, "url"),
        "credentials": _parts(_credentials, "id"),
    },
)
_patches = _some(
    {}, {"product": _texts, "zone": st.one_of(_texts, st.none()), "configuration": _configurations, "services": _parts(_services, "id")}
)


def _reference(stored: dict[str, Any], patch: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A second implementation of PUT: on plain data, without timestamps."""
    after = dict(stored)
    for name, value in patch.items():
        if name in ("services", "endpoints", "credentials"):
            parts = {} if not value else {part[_KEYS[name]]: part for part in stored[name]}
            for part in value or ():
                address = part[_KEYS[name]]
                parts[address] = _reference(parts.get(address, _DEFAULTS[name]), part, _KEYS[name])
            after[name] = list(parts.values())
        else:
            after[name] = _DEFAULTS[key][name] if value is None else value
    return after


_KEYS = {"services": "id", "endpoints": "url", "credentials": "id"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "services": {"resource": "", "configuration": {}, "endpoints": [], "credentials": []},
    "endpoints": {"type": "external", "configuration": {}},
    "credentials": {"users": [], "default": False, "configuration": {}},
    "": {"product": "", "zone": "", "configuration": {}, "services": []},
}


def _plain(record: extension.Extension) -> dict[str, Any]:
    data = record.model_dump(mode="json")

    def pick(node: Mapping[str, Any], kind: str) -> dict[str, Any]:
        named = {name: node[name] for name in ({_KEYS[kind]} if kind else set()) | _DEFAULTS[kind].keys()}
        return {name: [pick(part, name) for part in value] if name in _KEYS else value for name, value in named.items()}

    return pick(data, "")


@given(_patches, _patches)
def test_an_update_agrees_with_the_reference(first: dict[str, Any], second: dict[str, Any]) -> None:
    stored = created({"id": "e", **first})
    after = updated(stored, second)
    assert _plain(after) == _reference(_plain(stored), second, "")
    assert (after is stored) == (_plain(after) == _plain(stored))


@given(_patches, _patches)
def test_a_repeated_update_changes_nothing(first: dict[str, Any], second: dict[str, Any]) -> None:
    after = updated(created({"id": "e", **first}), second)
    assert updated(after, second) is after


def _unordered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _unordered(value) for key, value in node.items()}
    return sorted((_unordered(part) for part in node), key=repr) if isinstance(node, list) else node


@given(_patches, _patches)
def test_a_replacement_stores_the_whole_record(first: dict[str, Any], second: dict[str, Any]) -> None:
    desired = extension.Extension.model_validate({"id": "e", **second})
    stored = created({"id": "e", **first})
    after = registry.replace(stored, desired, LATER, NEW_ID)
    # The order of parts has no meaning.
    assert _unordered(_plain(after)) == _unordered(_plain(desired))
    assert after.revision == (1 if after is stored else 2)
