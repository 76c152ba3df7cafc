"""Impact of registry changes on workflows: the difference between two snapshots, resolved by the rules of a run."""

from __future__ import annotations

from typing import Any

from fuseml.domain.registry import extension
from fuseml.domain.workflows import impact
from tests.unit.impact_examples import S3_KEYS, STORE, changed, record, steps

USE = impact.Use(steps(STORE))


def assess(
    before: extension.Extension | None, after: extension.Extension | None, *others: extension.Extension, **more: Any
) -> impact.Impact:
    return impact.assess(before, after, others, more.pop("uses", [USE]), **more)


def only(result: impact.Impact) -> impact.Effect:
    assert len(result.effects) == 1
    return result.effects[0]


def keys(effect: impact.Effect) -> dict[str, str]:
    return {change.key: change.effect for change in effect.environment}


def test_a_new_record_lets_a_selector_resolve_and_its_keys_appear() -> None:
    result = assess(None, record())
    effect = only(result)
    assert (result.extension_id, result.change, result.revision) == ("minio", "registers", 0)
    assert (effect.effect, effect.before) == ("resolves", None)
    assert effect.after == impact.BindingSummary(extension_id="minio", service_id="s3", url="http://minio:9000", credentials_id="admin")
    assert keys(effect) == {"AWS_ACCESS_KEY_ID": "appears", "AWS_SECRET_ACCESS_KEY": "appears", "S3_ENDPOINT_URL": "appears"}
    assert effect.sentence == "train/trainer 'store' resolves now, to minio/s3 at http://minio:9000 as admin"
    assert result.summary == "selectors of workflows: 1 resolves now"


def test_a_removal_breaks_selectors_with_a_reason() -> None:
    result = assess(record(), None, record("ceph", product="ceph"), uses=[impact.Use(steps({**STORE, "product": "minio"}))])
    effect = only(result)
    assert (result.change, effect.effect, effect.after) == ("removes", "breaks", None)
    assert effect.reason == "ceph: its product is ceph, not minio"
    assert effect.sentence == f"train/trainer 'store' no longer resolves: {effect.reason}"
    assert result.broken() == [effect]
    assert only(assess(record(), None)).reason == "the registry has no candidate for it"


def test_a_better_record_rebinds_a_selector() -> None:
    effect = only(assess(None, record("minio-2", version="5.0.0", url="http://two:9000"), record()))
    assert effect.effect == "rebinds"
    assert effect.sentence == (
        "train/trainer 'store' re-binds from minio/s3 at http://minio:9000 as admin to minio-2/s3 at http://two:9000 as admin"
    )
    assert keys(effect) == {"AWS_ACCESS_KEY_ID": "changes", "AWS_SECRET_ACCESS_KEY": "changes", "S3_ENDPOINT_URL": "changes"}


def test_a_new_url_rebinds_a_selector() -> None:
    before = record()
    patch = {"services": [{"id": "s3", "endpoints": [{"url": "http://new:9000", "type": "internal"}]}]}
    effect = only(assess(before, changed(before, patch)))
    assert (effect.effect, effect.before and effect.before.url, effect.after and effect.after.url) == (
        "rebinds",
        "http://minio:9000",
        "http://new:9000",
    )
    assert [(item.key, item.effect, item.before) for item in effect.environment] == [("S3_ENDPOINT_URL", "vanishes", "http://minio:9000")]


def test_a_rotated_secret_is_reported_without_its_value() -> None:
    before = record()
    account = {"id": "admin", "configuration": {**S3_KEYS, "AWS_SECRET_ACCESS_KEY": "canary-2", "AWS_SESSION_TOKEN": "canary-3"}}
    result = assess(before, changed(before, {"services": [{"id": "s3", "credentials": [account]}]}))
    effect = only(result)
    assert effect.effect == "changes"
    assert keys(effect) == {"AWS_SECRET_ACCESS_KEY": "changes", "AWS_SESSION_TOKEN": "appears"}
    assert all(item.secret and {item.before, item.after} <= {"", extension.HIDDEN} for item in effect.environment)
    assert "canary" not in result.model_dump_json()
    assert "canary" not in repr(result)


def test_a_change_of_attributes_is_an_effect() -> None:
    before = record()
    effect = only(assess(before, changed(before, {"version": "4.2.0"})))
    assert (effect.effect, effect.environment) == ("changes", [])
    assert effect.sentence == "train/trainer 'store' stays with minio/s3 at http://minio:9000 as admin, with another version"


def test_a_version_out_of_range_breaks_a_selector() -> None:
    before = record()
    uses = [impact.Use(steps({**STORE, "version": "<5"}))]
    effect = only(assess(before, changed(before, {"version": "5.0.0"}), uses=uses))
    assert effect.effect == "breaks"
    assert effect.reason == "minio: version 5.0.0 does not satisfy <5"


def test_overrides_within_the_step_are_taken_into_account() -> None:
    other = record(
        "other", configuration={"S3_ENDPOINT_URL": "http://fixed", "REGION": "a"}, services=[{"id": "x", "endpoints": [{"url": "u"}]}]
    )
    selectors = [STORE, {"name": "other", "extension_id": "other"}]
    before = record()
    after = changed(before, {"configuration": {"REGION": "b", "OWN": "1"}})
    # `other` comes later and sets S3_ENDPOINT_URL and REGION; `env` sets OWN.
    result = assess(before, after, other, uses=[impact.Use(steps(*selectors, env={"OWN": "2"}))])
    assert [(effect.selector, effect.effect) for effect in result.effects] == [("store", "unchanged"), ("other", "unchanged")]
    # Without `other`, the value of `store` shows; the change is listed with the selector that sets the key now.
    result = assess(other, None, before, uses=[impact.Use(steps(*selectors))])
    assert {effect.selector: (effect.effect, keys(effect)) for effect in result.effects} == {
        "store": ("changes", {"S3_ENDPOINT_URL": "changes"}),
        "other": ("breaks", {"REGION": "vanishes"}),
    }


def test_a_missing_key_that_the_step_reads_breaks_the_selector() -> None:
    uses = [impact.Use(steps(STORE, script="curl {{ extension.store.cfg.S3_ENDPOINT_URL }}"))]
    before = record()
    after = changed(before, {"services": [{"id": "s3", "endpoints": [{"url": "http://minio:9000", "configuration": None}]}]})
    effect = only(assess(before, after, uses=uses))
    assert (effect.effect, effect.reason) == ("breaks", "minio/s3 has no S3_ENDPOINT_URL, which the step reads")
    assert only(assess(before, after)).effect == "changes"


def test_each_project_has_its_own_effects() -> None:
    account = {"id": "alpha", "scope": "project", "projects": ["alpha"], "configuration": {"KEY": "canary"}}
    before = record()
    after = changed(before, {"services": [{"id": "s3", "credentials": [account]}]})
    uses = [impact.Use(USE.workflow, project=project) for project in ("beta", "alpha", "")]
    result = assess(before, after, uses=uses)
    assert {effect.project: effect.effect for effect in result.effects} == {"": "unchanged", "alpha": "rebinds", "beta": "unchanged"}
    assert "in project alpha re-binds" in result.effects[1].sentence


def test_effects_on_users_are_listed_only_if_they_differ_from_the_project() -> None:
    account = {"id": "ada", "scope": "user", "users": ["ada"], "configuration": {"KEY": "canary"}}
    before = record()
    after = changed(before, {"services": [{"id": "s3", "credentials": [account]}]})
    uses = [impact.Use(USE.workflow, project="demo", user=user) for user in ("", "ada", "bob")]
    result = assess(before, after, uses=uses)
    assert [(effect.user, effect.effect) for effect in result.effects] == [("", "unchanged"), ("ada", "rebinds")]
    assert "in project demo for ada re-binds" in result.effects[1].sentence


def test_an_unassigned_workflow_does_not_count_as_broken() -> None:
    result = assess(record(), None, uses=[impact.Use(USE.workflow, assigned=False)])
    assert only(result).sentence.endswith("(not assigned)")
    assert (only(result).effect, result.broken()) == ("breaks", [])


def test_internal_endpoints_depend_on_the_zone_of_runs() -> None:
    inside = record(zone="east", services=[{"id": "s3", "resource": "s3", "endpoints": [{"url": "http://in", "type": "internal"}]}])
    assert only(assess(None, inside, home="east")).effect == "resolves"
    assert only(assess(None, inside, home="west")).effect == "unchanged"


def test_steps_that_cannot_match_the_record_are_unchanged() -> None:
    before = record()
    uses = [impact.Use(steps({"name": "tracking", "service_resource": "mlflow-tracking"}, name="a")), impact.Use(steps(STORE, name="b"))]
    result = assess(before, changed(before, {"services": []}), uses=uses)
    assert [(effect.workflow, effect.effect) for effect in result.effects] == [("a", "unchanged"), ("b", "breaks")]
    assert [step.name for step in uses[0].affected(before)] == []
    assert result.summary == "selectors of workflows: 1 no longer resolves, 1 stays as it is"
