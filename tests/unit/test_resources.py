"""Compute resources of steps: quantities, and the rules of Kubernetes for requests and limits."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.workflows import loading, resources
from tests.unit import workflow_examples as examples

NAMES = st.sampled_from(["cpu", "memory", "hugepages-2Mi", "nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "kubernetes.io/x"])
AMOUNTS = st.dictionaries(NAMES, st.sampled_from(["0", "1", "2", "1.0", "1k", "500m", "2Gi", "1e1"]), max_size=3)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5Gi", str(1.5 * 2**30)),
        ("1e3", "1000"),
        ("1E", "1e18"),
        ("1Ei", str(2**60)),
        (".5k", "500"),
        ("+1", "1"),
    ],
)
def test_quantities_follow_kubernetes(text: str, number: str) -> None:
    assert resources.quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "many", "-1", "1 GB", "1gi", "1e", "0x10", "1\n", "٣"])
def test_an_invalid_quantity_is_rejected(text: str) -> None:
    with pytest.raises(errors.PermanentError, match="not a quantity"):
        resources.quantity(text)


@given(AMOUNTS, AMOUNTS)
def test_a_request_that_passes_is_one_that_kubernetes_accepts(requests: dict[str, str], limits: dict[str, str]) -> None:
    faulty = {place for place, _ in resources.faults(requests, limits)}
    for resource in {*requests, *limits}:
        amounts = [resources.quantity(amounts[resource]) for amounts in (requests, limits) if resource in amounts]
        countable = "/" in resource and "kubernetes.io/" not in resource
        exclusive = countable or resource.startswith("hugepages-")
        accepted = not (countable and any(amount % 1 for amount in amounts))
        if resource in requests and exclusive:
            accepted = accepted and len(amounts) == 2 and amounts[0] == amounts[1]
        if len(amounts) == 2:
            accepted = accepted and amounts[0] <= amounts[1]
        assert accepted == (not faulty & {("requests", resource), ("limits", resource)}), resource


@pytest.mark.parametrize("amount", ["9" * 40, "9e99", "1Ei"])
def test_an_immense_number_of_devices_is_counted(amount: str) -> None:
    assert list(resources.faults({}, {"nvidia.com/gpu": amount})) == []
    assert resources.devices({"nvidia.com/gpu": amount})["nvidia.com/gpu"] >= 2**60


def test_only_extended_resources_of_some_number_are_devices() -> None:
    limits = {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "2", "amd.com/gpu": "0", "gpu.intel.com/i915": "1"}
    assert resources.devices(limits) == {"nvidia.com/gpu": 2, "gpu.intel.com/i915": 1}


def test_a_number_of_devices_may_be_an_input_and_is_checked_when_the_run_is_planned() -> None:
    text = examples.step(
        "resources: {limits: {nvidia.com/gpu: '{{ inputs.gpus }}'}}",
        header="inputs: [{name: gpus, default: '0'}, {name: code, type: codeset}]",
    )

    def limits(**inputs: str) -> Mapping[str, str]:
        return examples.plan_of(loading.load(text), inputs=inputs).steps[0].resources.limits

    assert limits(gpus="2") == {"nvidia.com/gpu": "2"}
    assert resources.devices(limits()) == {}
    with pytest.raises(errors.InvalidError, match=r"steps\[0\]\.resources\.limits\.nvidia\.com/gpu: '0\.5' is not a whole number"):
        limits(gpus="0.5")
