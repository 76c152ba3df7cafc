"""Differences between two states of a record, and the replacement of a whole record."""

from __future__ import annotations

import pytest

from fuseml.domain import errors
from fuseml.domain.registry import difference, extension, registry
from tests.unit.impact_examples import LATER, NEW_ID, S3_KEYS, changed, record


def test_changed_fields_are_listed_with_their_paths() -> None:
    before = record()
    patch = {
        "version": "4.2",
        "description": "x",
        "services": [
            {"id": "s3", "auth_required": True, "endpoints": None, "credentials": [{"id": "admin", "configuration": {"NEW": "canary"}}]},
            {"id": "ui", "category": "UI"},
        ],
    }
    changes = difference.compare(before, changed(before, patch))
    assert {(item.effect, item.path, item.before, item.after) for item in changes} == {
        ("changes", "version", "4.1.3", "4.2"),
        ("appears", "description", "", "x"),
        ("changes", "services[s3].auth_required", "false", "true"),
        ("vanishes", "services[s3].endpoints[http://minio:9000]", "", ""),
        ("appears", "services[s3].credentials[admin].configuration.NEW", "", "<hidden>"),
        ("vanishes", "services[s3].credentials[admin].configuration.AWS_ACCESS_KEY_ID", "<hidden>", ""),
        ("vanishes", "services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY", "<hidden>", ""),
        ("appears", "services[ui]", "", ""),
        ("appears", "services[ui].category", "", "UI"),
    }
    assert difference.compare(before, before) == []
    assert {item.path for item in difference.compare(None, before)} >= {"product", "services[s3]", "services[s3].resource"}


def test_a_whole_record_replaces_the_stored_one() -> None:
    before = record(description="old", configuration={"A": "1"})
    file = {
        "id": "minio",
        "product": "minio",
        "services": [{"id": "s3", "resource": "s3", "credentials": [{"id": "admin", "configuration": dict.fromkeys(S3_KEYS, "<hidden>")}]}],
    }
    after = registry.replace(before, extension.Extension.model_validate(file), LATER, NEW_ID)
    assert (after.revision, after.description, after.version, after.configuration) == (2, "", "", {})
    assert (after.services[0].category, after.services[0].endpoints) == ("", ())
    assert after.services[0].credentials[0].configuration == S3_KEYS
    assert after.services[0].status.updated == LATER
    assert registry.replace(after, extension.Extension.model_validate(file), LATER, NEW_ID) is after
    assert registry.replace(before, before, LATER, NEW_ID) is before


def test_the_removal_of_a_part_is_a_change() -> None:
    before = record(services=[{"id": "a"}, {"id": "b"}])
    after = registry.replace(before, extension.Extension.model_validate({**before.model_dump(), "services": [{"id": "b"}]}), LATER, NEW_ID)
    assert ([service.id for service in after.services], after.revision, after.status.updated) == (["b"], 2, LATER)


def test_a_whole_record_must_name_its_parts() -> None:
    draft = extension.Extension.model_validate({"services": [{"credentials": [{}]}, {"id": "x"}]})
    with pytest.raises(errors.InvalidError) as caught:
        registry.replace(record(), draft, LATER, NEW_ID)
    assert [problem.path for problem in caught.value.problems] == ["services[0].id", "services[0].credentials[0].id"]
