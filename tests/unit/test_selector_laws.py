"""Resolution against a second, slow implementation: its five steps, one after the other; and laws that any answer obeys."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import constraint, extension, resolution, selector, versions
from tests.unit import registries

Item = TypeVar("Item")
Candidate = tuple[extension.Extension, extension.Service, extension.Endpoint, extension.Credentials | None]


def reference(
    wanted: selector.Selector, records: Sequence[extension.Extension], context: selector.Context, home: str
) -> Sequence[Candidate]:
    """Every candidate that steps 1 to 4 leave, in the order of step 5."""
    ours = context.zone if context.zone else home
    left: list[Candidate] = []
    for record in records:
        theirs = record.zone if record.zone else home
        # 1. Keep extensions whose id, product, zone equal the selector's where given, and whose version satisfies the constraint.
        if wanted.extension_id and record.id != wanted.extension_id:
            continue
        if wanted.product and record.product != wanted.product:
            continue
        if wanted.zone and theirs != wanted.zone:
            continue
        if wanted.version and not constraint.satisfies(record.version, wanted.version):
            continue
        for service in record.services:
            # 2. Keep services whose id, resource, category equal the selector's where given.
            if wanted.service_id and service.id != wanted.service_id:
                continue
            if wanted.service_resource and service.resource != wanted.service_resource:
                continue
            if wanted.service_category and service.category != wanted.service_category:
                continue
            # 4. Credentials: global always; project scope if the project is listed; user scope if the user is listed and the project
            # list is empty or holds the project.
            usable = []
            for credentials in service.credentials:
                if extension.HIDDEN in credentials.configuration.values() or (wanted.healthy and _sick(credentials.status.health)):
                    continue
                fits = {
                    "global": True,
                    "project": context.project in credentials.projects,
                    "user": context.user in credentials.users and (not credentials.projects or context.project in credentials.projects),
                }
                if fits[credentials.scope]:
                    usable.append(credentials)
            # Among those that fit: user before project before global, then `default: true`, then id.
            usable.sort(key=lambda found: found.id)
            usable.sort(key=lambda found: 0 if found.default else 1)
            usable.sort(key=lambda found: ["user", "project", "global"].index(found.scope))
            # `auth_required` without any: reject.
            if service.auth_required and not usable:
                continue
            for endpoint in service.endpoints:
                # 3. Endpoints: internal ones only if the extension's zone is the consumer's zone.
                if endpoint.type == "internal" and theirs != ours:
                    continue
                if wanted.healthy and _sick(endpoint.status.health):
                    continue
                left.append((record, service, endpoint, usable[0] if usable else None))

    # 5. Order: same zone as the consumer first, then internal before external, then higher version, then id.
    def before(one: Candidate, other: Candidate) -> int:
        return _compare(one, other, ours, home) or _by_id(one, other)

    return sorted(left, key=functools.cmp_to_key(before))


def _sick(health: extension.Health | None) -> bool:
    return health is not None and health.state == "unhealthy"


def _compare(one: Candidate, other: Candidate, ours: str, home: str) -> int:
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
    # What is no semantic version: the greater text first, and no version last.
    texts = one[0].version, other[0].version
    return -1 if texts[0] > texts[1] else 1 if texts[0] < texts[1] else 0


def _by_id(one: Candidate, other: Candidate) -> int:
    ids = [(candidate[0].id, candidate[1].id, candidate[2].url) for candidate in (one, other)]
    return -1 if ids[0] < ids[1] else 1 if ids[0] > ids[1] else 0


@given(registries.registries, registries.selectors, registries.contexts, registries.homes)
def test_it_answers_as_the_design_says(
    records: list[extension.Extension], wanted: selector.Selector, context: selector.Context, home: str
) -> None:
    expected = reference(wanted, records, context, home)
    found = resolution.attempt([wanted], records, context, home=home, explain=True)
    # Ties that only the id broke are reported as ambiguous, and refused where the selector says so.
    ties = [other for other in expected if _compare(other, expected[0], context.zone or home, home) == 0]
    rivals = list(dict.fromkeys(f"{other[0].id}/{other[1].id}" for other in ties))[1:]
    if not expected or (rivals and wanted.ambiguity == "error"):
        assert (found.bindings, found.unresolved) == ([], ["wanted"])
    else:
        record, service, endpoint, credentials = expected[0]
        (binding,) = found.bindings
        assert (binding.extension_id, binding.service_id, binding.url) == (record.id, service.id, endpoint.url)
        assert binding.credentials_id == (credentials.id if credentials else "")
        assert binding.ambiguous_with == rivals
        # 6. Environment = extension < service < endpoint < credentials configuration.
        clear = {**record.configuration, **service.configuration, **endpoint.configuration}
        secret = credentials.configuration if credentials else {}
        assert binding.environment() == {**clear, **dict.fromkeys(secret, extension.HIDDEN)}
    kept = [candidate for candidate in found.explanations[0].candidates if candidate.verdict != "rejected"]
    assert [(item.extension_id, item.service_id, item.url) for item in kept] == [(c[0].id, c[1].id, c[2].url) for c in expected]


@given(registries.registries, registries.selectors, registries.contexts, registries.homes, st.randoms(use_true_random=False))
def test_the_order_of_the_records_means_nothing(
    records: list[extension.Extension], wanted: selector.Selector, context: selector.Context, home: str, source: random.Random
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
    one, other = (resolution.attempt([wanted], items, context, home=home) for items in (records, shuffled))
    assert (one.bindings, one.unresolved) == (other.bindings, other.unresolved)


def _shuffled(items: Sequence[Item], source: random.Random) -> list[Item]:
    return source.sample(items, len(items))


@given(registries.registries, registries.records, registries.selectors, registries.contexts, registries.homes)
def test_records_that_do_not_match_mean_nothing(
    records: list[extension.Extension], more: extension.Extension, wanted: selector.Selector, context: selector.Context, home: str
) -> None:
    others = [record for record in records if record.id != more.id]
    if not reference(wanted, [more], context, home):
        one, other = (resolution.attempt([wanted], items, context, home=home) for items in (others, [*others, more]))
        assert (one.bindings, one.unresolved) == (other.bindings, other.unresolved)


@given(registries.registries, st.lists(registries.selectors, min_size=1, max_size=3), registries.contexts, registries.homes)
def test_selectors_do_not_disturb_one_another(
    records: list[extension.Extension], wanted: list[selector.Selector], context: selector.Context, home: str
) -> None:
    together = resolution.attempt(wanted, records, context, home=home)
    alone = [resolution.attempt([one], records, context, home=home) for one in wanted]
    assert together.bindings == [binding for found in alone for binding in found.bindings]
    assert together.explanations == [explanation for found in alone for explanation in found.explanations]


@given(registries.registries, registries.selectors, registries.contexts, registries.homes)
def test_no_answer_holds_a_secret(
    records: list[extension.Extension], wanted: selector.Selector, context: selector.Context, home: str
) -> None:
    found = resolution.attempt([wanted], records, context, home=home, explain=True)
    told = " ".join([*(binding.model_dump_json() for binding in found.bindings), *(item.model_dump_json() for item in found.explanations)])
    assert '"secret"' not in told
