"""The bindings of a workflow on two instances: equal, different in some respect, or missing."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from fuseml.domain.registry import extension
from fuseml.domain.workflows import Workflow, portability


def record(id: str, resource: str = "s3", *, version: str = "1.0", zone: str = "", **service: object) -> extension.Extension:
    endpoint = {"url": f"http://{id}", "type": "internal" if zone else "external", **dict(service.pop("endpoint", {}))}  # type: ignore[call-overload]
    services = [{"id": "api", "resource": resource, "endpoints": [endpoint], **service}]
    return extension.Extension.model_validate({"id": id, "product": resource, "version": version, "zone": zone, "services": services})


def workflow(*selectors: dict[str, str], value: str = "x") -> Workflow:
    step = {"name": "fit", "image": "shell:1", "inputs": [{"name": "it", "value": value}], "extensions": list(selectors)}
    return Workflow.model_validate({"name": "w", "steps": [step]})


S3 = {"name": "store", "service_resource": "s3"}
CREDENTIALS = [{"id": "a", "configuration": {"KEY": "sealed"}}]
HIDDEN = [{"id": "b", "configuration": {"KEY": "<hidden>"}}]


def compare(
    here: list[extension.Extension], there: list[extension.Extension], *selectors: dict[str, str], home: str = "", value: str = "x"
) -> portability.Portability:
    return portability.compare(
        workflow(*(selectors or (S3,)), value=value), portability.Instance(here), portability.Instance(there, home), project="demo"
    )


def test_an_equal_service_binds_whatever_its_address_and_its_secrets() -> None:
    found = compare([record("minio", credentials=CREDENTIALS)], [record("ceph", credentials=HIDDEN)])
    [item] = found.comparisons
    assert (found.portable, item.state, item.differences, item.reason) == (True, "binds", [], "")
    assert (item.here, item.there) == ("minio/api at http://minio", "ceph/api at http://ceph")


def test_another_version_or_environment_differs() -> None:
    there = record("minio", version="2.0", configuration={"REGION": "eu"}, credentials=CREDENTIALS)
    [item] = compare([record("minio", configuration={"ZONE": "a"}, credentials=CREDENTIALS)], [there]).comparisons
    assert item.state == "differs"
    assert [(part.what, part.here, part.there) for part in item.differences] == [
        ("version", "1.0", "2.0"),
        ("environment.REGION", "", "given"),
        ("environment.ZONE", "given", ""),
    ]


@pytest.mark.parametrize(
    ("there", "selector", "value", "reason"),
    [
        ([], S3, "x", "no candidate"),
        ([record("minio", "git")], S3, "x", "its resource is git, not s3"),
        ([record("minio", version="1.0")], {**S3, "version": ">=2"}, "x", ">=2"),
        ([record("minio", auth_required=True)], S3, "x", "it needs credentials"),
        ([record("minio", zone="eu")], S3, "x", "internal to zone eu"),
        ([record("minio")], S3, "{{ extension.store.cfg.KEY }}", "has no KEY, which the step reads"),
    ],
)
def test_a_selector_without_a_usable_service_is_missing_with_the_reason(
    there: list[extension.Extension], selector: dict[str, str], value: str, reason: str
) -> None:
    here = record("minio", version="2.0", credentials=CREDENTIALS)
    found = compare([here], there, selector, value=value)
    [item] = found.comparisons
    assert (found.portable, item.state, item.there) == (False, "missing", "")
    assert reason in item.reason


def test_the_zone_of_the_other_instance_decides_about_internal_endpoints() -> None:
    [item] = compare([record("minio")], [record("ceph", zone="eu")], home="eu").comparisons
    assert item.state == "binds"


def test_a_service_that_only_the_other_instance_has_is_a_difference() -> None:
    [item] = compare([], [record("minio")]).comparisons
    assert (item.state, item.here) == ("differs", "")
    assert item.reason.startswith("here it matches nothing: ")


RECORDS = strategies.lists(
    strategies.builds(
        record,
        strategies.sampled_from("abcd"),
        strategies.sampled_from(["s3", "git"]),
        version=strategies.sampled_from(["1.0", "2.0"]),
        credentials=strategies.sampled_from([CREDENTIALS, []]),
    ),
    unique_by=lambda item: item.id,
    max_size=4,
)


@hypothesis.given(RECORDS, RECORDS)
def test_a_workflow_is_portable_to_its_own_instance_and_differences_are_mutual(
    here: list[extension.Extension], there: list[extension.Extension]
) -> None:
    selectors = ({"name": "a", "service_resource": "s3"}, {"name": "b", "service_resource": "git", "version": ">=2"})
    same = compare(here, here, *selectors)
    assert all((item.state == "missing") == (item.here == "") and item.here == item.there for item in same.comparisons)
    forth, back = (compare(*pair, *selectors).comparisons for pair in ((here, there), (there, here)))
    for one, other in zip(forth, back, strict=True):
        assert (one.here, one.there) == (other.there, other.here)
        assert [(item.what, item.here, item.there) for item in one.differences] == [
            (item.what, item.there, item.here) for item in other.differences
        ]
