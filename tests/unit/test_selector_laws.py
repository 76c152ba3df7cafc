"""Resolution compared with a second, slow implementation of its rules; and invariants of every result."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import constraint, extension, resolution, versions
from fuseml.domain.registry.selector import Context, Selector
from tests.unit import registries

Item = TypeVar("Item")
Candidate = tuple[extension.Extension, extension.Service, extension.Endpoint, extension.Credentials | None]


def reference(selector: Selector, records: Sequence[extension.Extension], context: Context, home: str) -> Sequence[Candidate]:
    """The candidates that pass steps 1 to 4, in the order of step 5."""
    ours = context.zone if context.zone else home
    candidates: list[Candidate] = []
    for record in records:
        theirs = record.zone if record.zone else home
        # 1. Keep extensions whose id, product, zone equal the selector's where given, and whose version satisfies the constraint.
        if selector.extension_id and record.id != selector.extension_id:
            continue
        if selector.product and record.product != selector.product:
            continue
        if selector.zone and theirs != selector.zone:
            continue
        if selector.version and not constraint.satisfies(record.version, selector.version):
            continue
        for service in record.services:
            # 2. Keep services whose id, resource, category equal the selector's where given.
            if selector.service_id and service.id != selector.service_id:
                continue
            if selector.service_resource and service.resource != selector.service_resource:
                continue
            if selector.service_category and service.category != selector.service_category:
                continue
            # 4. Credentials: global always; project scope if the project is listed; user scope if the user is listed and the project
            # list is empty or holds the project.
            usable = []
            for credentials in service.credentials:
                if extension.HIDDEN in credentials.configuration.values() or (
                    selector.healthy and _is_unhealthy(credentials.status.health)
                ):
                    continue
                fits = {
                    "global": True,
                    "project": context.project in credentials.projects,
                    "user": context.user in credentials.users and (not credentials.projects or context.project in credentials.projects),
                }
                if fits[credentials.scope]:
                    usable.append(credentials)
            # Among those that fit: user before project before global, then `default: true`, then id.
            usable.sort(key=lambda item: item.id)
            usable.sort(key=lambda item: 0 if item.default else 1)
            usable.sort(key=lambda item: ["user", "project", "global"].index(item.scope))
            # `auth_required` without any: reject.
            if service.auth_required and not usable:
                continue
            for endpoint in service.endpoints:
                # 3. Endpoints: internal ones only if the extension's zone is the consumer's zone.
                if endpoint.type == "internal" and theirs != ours:
                    continue
                if selector.healthy and _is_unhealthy(endpoint.status.health):
                    continue
                candidates.append((record, service, endpoint, usable[0] if usable else None))

    # 5. Order: endpoints not known to be unhealthy first, unless the selector disregards health; then same zone as the consumer, then
    # internal before external, then higher version, then id.
    def before(one: Candidate, other: Candidate) -> int:
        return _compare(selector, one, other, ours, home) or _by_id(one, other)

    return sorted(candidates, key=functools.cmp_to_key(before))


def _is_unhealthy(health: extension.Health | None) -> bool:
    return health is not None and health.state == "unhealthy"


def _compare(selector: Selector, one: Candidate, other: Candidate, ours: str, home: str) -> int:
    unhealthy = [_is_unhealthy(candidate[2].status.health) for candidate in (one, other)]
    if selector.healthy is None and unhealthy[0] != unhealthy[1]:
        return 1 if unhealthy[0] else -1
    same = [(candidate[0].zone or home) == ours for candidate in (one, other)]
    if same[0] != same[1]:
        return -1 if same[0] else 1
    internal = [candidate[2].type == "internal" for candidate in (one, other)]
    if internal[0] != internal[1]:
        return -1 if internal[0] else 1
    first, second = (versions.parse(candidate[0].version) for candidate in (one, other))
    if first and second:
        return -1 if first > second else 1 if first < second else 0
    if first or second:
        return -1 if first else 1
    # Other versions: the greater text first, the empty one last.
    texts = one[0].version, other[0].version
    return -1 if texts[0] > texts[1] else 1 if texts[0] < texts[1] else 0


def _by_id(one: Candidate, other: Candidate) -> int:
    ids = [(candidate[0].id, candidate[1].id, candidate[2].url) for candidate in (one, other)]
    return -1 if ids[0] < ids[1] else 1 if ids[0] > ids[1] else 0


@given(registries.registries, registries.selectors, registries.contexts, registries.homes)
def test_resolution_agrees_with_the_reference(records: list[extension.Extension], selector: Selector, context: Context, home: str) -> None:
    expected = reference(selector, records, context, home)
    result = resolution.attempt([selector], records, context, home=home, explain=True)
    # Ties that only the id broke are reported as ambiguous, and refused where the selector says so.
    ties = [other for other in expected if _compare(selector, other, expected[0], context.zone or home, home) == 0]
    others = list(dict.fromkeys(f"{other[0].id}/{other[1].id}" for other in ties))[1:]
    if not expected or (others and selector.ambiguity == "error"):
        assert (result.bindings, result.unresolved) == ([], ["wanted"])
    else:
        record, service, endpoint, credentials = expected[0]
        (binding,) = result.bindings
        assert (binding.extension_id, binding.service_id, binding.url) == (record.id, service.id, endpoint.url)
        assert binding.credentials_id == (credentials.id if credentials else "")
        assert binding.ambiguous_with == others
        # 6. Environment = extension < service < endpoint < credentials configuration.
        clear = {**record.configuration, **service.configuration, **endpoint.configuration}
        secret = credentials.configuration if credentials else {}
        assert binding.environment() == {**clear, **dict.fromkeys(secret, extension.HIDDEN)}
    kept = [candidate for candidate in result.explanations[0].candidates if candidate.verdict != "rejected"]
    assert [(item.extension_id, item.service_id, item.url) for item in kept] == [(c[0].id, c[1].id, c[2].url) for c in expected]


@given(registries.registries, registries.selectors, registries.contexts, registries.homes, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(
    records: list[extension.Extension], selector: Selector, context: Context, home: str, source: random.Random
) -> None:
    shuffled = [
        record.model_copy(
            update={
                "services": tuple(
                    service.model_copy(
                        update={
                            "endpoints": tuple(_shuffled(service.endpoints, source)),
                            "credentials": tuple(_shuffled(service.credentials, source)),
                        }
                    )
                    for service in _shuffled(record.services, source)
                )
            }
        )
        for record in _shuffled(records, source)
    ]
    one, other = (resolution.attempt([selector], items, context, home=home) for items in (records, shuffled))
    assert (one.bindings, one.unresolved) == (other.bindings, other.unresolved)


def _shuffled(items: Sequence[Item], source: random.Random) -> list[Item]:
    return source.sample(items, len(items))


@given(registries.registries, registries.records, registries.selectors, registries.contexts, registries.homes)
def test_records_that_do_not_match_do_not_matter(
    records: list[extension.Extension], more: extension.Extension, selector: Selector, context: Context, home: str
) -> None:
    others = [record for record in records if record.id != more.id]
    if not reference(selector, [more], context, home):
        one, other = (resolution.attempt([selector], items, context, home=home) for items in (others, [*others, more]))
        assert (one.bindings, one.unresolved) == (other.bindings, other.unresolved)


@given(registries.registries, st.lists(registries.selectors, min_size=1, max_size=3), registries.contexts, registries.homes)
def test_selectors_resolve_independently(
    records: list[extension.Extension], selectors: list[Selector], context: Context, home: str
) -> None:
    together = resolution.attempt(selectors, records, context, home=home)
    alone = [resolution.attempt([selector], records, context, home=home) for selector in selectors]
    assert together.bindings == [binding for result in alone for binding in result.bindings]
    assert together.explanations == [explanation for result in alone for explanation in result.explanations]


@given(registries.registries, registries.selectors, registries.contexts, registries.homes)
def test_no_result_holds_a_secret(records: list[extension.Extension], selector: Selector, context: Context, home: str) -> None:
    result = resolution.attempt([selector], records, context, home=home, explain=True)
    text = " ".join(
        [*(binding.model_dump_json() for binding in result.bindings), *(item.model_dump_json() for item in result.explanations)]
    )
    assert '"secret"' not in text
