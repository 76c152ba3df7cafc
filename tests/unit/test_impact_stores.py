"""Impact of registry changes on the artifact stores of steps: which service takes, holds and hands out each artifact before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml import artifactstores
from fuseml.domain.registry import extension, registry
from fuseml.domain.registry.selector import Selector
from fuseml.domain.workflows import impact, loading, store_needs
from tests.unit.impact_examples import NEW_ID, NOW

ADDRESS = "dataset://demo/raw/1"
WORKFLOW = """
name: train
inputs: [{name: data, default: "dataset://demo/raw/1"}, {name: other}]
steps:
  - name: fit
    image: fit:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}"}}
      - {name: other, artifact: {address: "{{ inputs.other }}"}}
    outputs:
      - {name: model, artifact: {kind: model, path: out}}
  - name: serve
    image: serve:1
    inputs:
      - {name: model, artifact: {address: "{{ steps.fit.outputs.model }}", access: reference, store: {service_resource: s3}}}
    outputs:
      - {name: report, artifact: {kind: dataset, path: out, store: {extension_id: disk}}}
"""


def record(id: str, resource: str, **more: Any) -> extension.Extension:
    url = f"file:///srv/{id}" if resource == "folder" else f"http://{id}:9000"
    bucket = {"FUSEML_ARTIFACTS_BUCKET": "artifacts"} if resource == "s3" else {}
    service = {
        "id": "store",
        "resource": resource,
        "category": "artifact-store",
        "endpoints": [{"url": url}],
        "configuration": bucket,
        **more,
    }
    account = {"id": "a", "configuration": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "canary"}}
    if resource == "s3":
        service["credentials"] = [account]
    return registry.create(extension.Extension.model_validate({"id": id, "product": id, "services": [service]}), NOW, NEW_ID)


OWN, DISK, BUCKET, OTHER = record("fuseml", "folder"), record("disk", "folder"), record("minio", "s3"), record("aminio", "s3")
MLFLOW = record("mlflow", "mlflow-tracking")


def assess(
    before: extension.Extension | None,
    after: extension.Extension | None,
    *others: extension.Extension,
    held: Mapping[str, Selector | None] | None = None,
    document: str = WORKFLOW,
) -> dict[str, impact.Effect]:
    known = {ADDRESS: Selector(extension_id="disk", service_id="store")} if held is None else held
    use = impact.Use(loading.load(document), project="demo", held=known)
    result = impact.assess(before, after, others, [use], facts=artifactstores.facts)
    return {f"{effect.step} {effect.selector}": effect for effect in result.effects}


def kinds(effects: Mapping[str, impact.Effect]) -> dict[str, str]:
    return {name: effect.effect for name, effect in effects.items() if effect.effect != "unchanged"}


def test_every_artifact_whose_store_is_known_has_an_effect() -> None:
    effects = assess(None, MLFLOW, OWN, DISK)
    assert list(effects) == ["fit input data", "fit output model", "serve input model", "serve output report"]
    assert kinds(effects) == {}


def test_a_better_store_takes_the_new_artifacts_and_no_existing_one() -> None:
    effects = assess(None, OTHER, OWN, DISK)
    assert kinds(effects) == {"fit output model": "rebinds", "serve input model": "resolves"}
    assert effects["fit output model"].sentence == (
        "train/fit 'output model' in project demo re-binds from disk/store at file:///srv/disk to aminio/store at http://aminio:9000 as a"
    )


def test_the_store_of_the_server_is_used_only_without_another_one() -> None:
    assert kinds(assess(DISK, None, OWN))["fit output model"] == "rebinds"
    effects = assess(OWN, None)
    assert effects["fit output model"].effect == "breaks"
    assert "no artifact store of the project holds a model" in effects["fit output model"].reason


def test_a_removal_names_the_inputs_that_lose_their_store() -> None:
    effects = assess(DISK, None, OWN)
    assert effects["fit input data"].effect == effects["serve output report"].effect == "breaks"
    assert effects["fit input data"].before is not None
    assert effects["fit input data"].before.extension_id == "disk"


def test_a_step_that_reads_from_buckets_only_loses_the_last_one() -> None:
    effects = assess(OTHER, None, OWN, DISK)
    assert kinds(effects) == {"fit output model": "rebinds", "serve input model": "breaks"}
    # With another bucket, the copy goes there.
    assert kinds(assess(OTHER, None, OWN, BUCKET))["serve input model"] == "rebinds"


def test_another_bucket_of_the_same_service_is_another_place() -> None:
    moved = record("minio", "s3", configuration={"FUSEML_ARTIFACTS_BUCKET": "elsewhere"})
    effects = assess(BUCKET, moved, OWN)
    assert kinds(effects) == {"fit output model": "changes", "serve input model": "changes"}
    assert [(change.key, change.before, change.after) for change in effects["fit output model"].environment] == [
        ("FUSEML_ARTIFACTS_BUCKET", "artifacts", "elsewhere")
    ]


def test_secrets_of_stores_stay_hidden() -> None:
    effects = assess(None, BUCKET, OWN)
    assert "canary" not in "".join(effect.model_dump_json() for effect in effects.values())


def test_a_store_that_cannot_take_the_artifact_is_none() -> None:
    document = WORKFLOW.replace("store: {extension_id: disk}", "store: {extension_id: mlflow}")
    effects = assess(MLFLOW, None, OWN, document=document)
    assert effects["serve output report"].effect == "unchanged", "it has never been one"


def test_without_a_record_the_store_of_an_address_is_the_best_that_reads() -> None:
    assert kinds(assess(None, OTHER, DISK, held={ADDRESS: None}))["fit input data"] == "rebinds"
    assert "fit input data" not in assess(None, OTHER, DISK, held={})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ('"{{ inputs.data }}"', [ADDRESS]),
        ('"dataset://demo/raw@latest"', ["dataset://demo/raw@latest"]),
        ('"{{ inputs.other }}"', []),
        ('"dataset://demo/{{ inputs.data }}/1"', []),
    ],
)
def test_the_addresses_that_a_workflow_names_itself(address: str, expected: Sequence[str]) -> None:
    assert store_needs.addresses(loading.load(WORKFLOW.replace('"{{ inputs.data }}"', address))) == expected


RECORDS = st.lists(st.sampled_from([OWN, DISK, BUCKET, OTHER, MLFLOW]), unique_by=lambda record: record.id, max_size=4)


@given(RECORDS, st.sampled_from([OWN, DISK, BUCKET, OTHER, MLFLOW]))
def test_a_registration_and_its_removal_are_opposite(others: list[extension.Extension], changed: extension.Extension) -> None:
    rest = [record for record in others if record.id != changed.id]
    there, back = assess(None, changed, *rest), assess(changed, None, *rest)
    assert list(there) == list(back)
    opposite = {"resolves": "breaks", "breaks": "resolves"}
    for name, effect in there.items():
        assert (back[name].before, back[name].after) == (effect.after, effect.before)
        assert back[name].effect == opposite.get(effect.effect, effect.effect)
