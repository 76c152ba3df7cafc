"""The impact of any change agrees with the resolution of a run before and after it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import extension, registry, resolution
from fuseml.domain.registry.selector import Context
from fuseml.domain.workflows import impact
from tests.unit.impact_examples import NEW_ID, NOW, steps

# Small registries, so that records match selectors often.
_versions = st.sampled_from(["1.0.0", "2.0.0", "x"])
_words = st.sampled_from(["a", "b"])
_values = st.dictionaries(st.sampled_from(["K", "L"]), st.sampled_from(["1", "2"]), max_size=2)
_credentials = st.fixed_dictionaries(
    {"scope": st.sampled_from(["global", "project"]), "projects": st.lists(_words, max_size=1), "configuration": _values}
)


@st.composite
def _records(draw: st.DrawFn, id: str) -> extension.Extension:
    services = [
        {
            "id": name,
            "resource": draw(_words),
            "auth_required": draw(st.booleans()),
            "configuration": draw(_values),
            "endpoints": [
                {"url": f"http://{id}/{url}", "type": draw(st.sampled_from(["internal", "external"]))}
                for url in draw(st.lists(_words, max_size=2, unique=True))
            ],
            "credentials": [{"id": key, **draw(_credentials)} for key in draw(st.lists(_words, max_size=2, unique=True))],
        }
        for name in draw(st.lists(_words, max_size=2, unique=True))
    ]
    document = {"id": id, "product": draw(_words), "version": draw(_versions), "services": services}
    return registry.create(extension.Extension.model_validate(document), NOW, NEW_ID)


_selectors = st.fixed_dictionaries(
    {},
    optional={
        "product": _words,
        "version": st.sampled_from([">=1.5", "1.x"]),
        "service_resource": _words,
        "ambiguity": st.sampled_from(["first", "error"]),
    },
)
_uses = st.builds(
    lambda selectors, project: impact.Use(steps(*({**one, "name": f"s{index}"} for index, one in enumerate(selectors))), project=project),
    st.lists(_selectors, min_size=1, max_size=3),
    st.sampled_from(["", "a"]),
)


@given(_records("one"), _records("two"), _uses)
def test_no_change_has_no_effect(one: extension.Extension, two: extension.Extension, use: impact.Use) -> None:
    result = impact.assess(one, one, [two], [use])
    assert (result.change, result.changes) == ("none", [])
    assert {effect.effect for effect in result.effects} == {"unchanged"}


def outcome(records: list[extension.Extension], use: impact.Use) -> list[tuple[str, impact.BindingSummary | None]]:
    """The binding of each selector, by the rules of a run."""
    context = Context(project=use.project)
    bindings = {item.name: item for item in resolution.attempt(use.workflow.steps[0].extensions, records, context).bindings}
    return [
        (
            selector.name,
            impact.BindingSummary(**bindings[selector.name].model_dump(include={"extension_id", "service_id", "url", "credentials_id"}))
            if selector.name in bindings
            else None,
        )
        for selector in use.workflow.steps[0].extensions
    ]


@given(st.none() | _records("one"), st.none() | _records("one"), _records("two"), _uses)
def test_effects_equal_the_difference_of_two_resolutions(
    before: extension.Extension | None, after: extension.Extension | None, two: extension.Extension, use: impact.Use
) -> None:
    result = impact.assess(before, after, [two], [use])
    outcomes = [outcome([two, *([one] if one else [])], use) for one in (before, after)]
    for effect, (name, was), (_, now) in zip(result.effects, *outcomes, strict=True):
        assert effect.selector == name
        if effect.effect == "unchanged":
            assert was == now
        else:
            assert (effect.before, effect.after) == (was, now)
        assert (effect.effect == "breaks") == (was is not None and now is None) == bool(effect.reason)


@given(_records("one"), _records("one"), _records("one"), _records("two"), _uses)
def test_two_changes_are_consistent_with_both_at_once(
    first: extension.Extension, second: extension.Extension, third: extension.Extension, two: extension.Extension, use: impact.Use
) -> None:
    successive = [impact.assess(first, second, [two], [use]), impact.assess(second, third, [two], [use])]
    at_once = impact.assess(first, third, [two], [use])
    for one, other, both in zip(*(result.effects for result in successive), at_once.effects, strict=True):
        moves = [effect for effect in (one, other) if effect.effect != "unchanged"]
        if not moves:
            # A changed key may be listed with another selector of the step; the keys are compared below.
            assert both.before == both.after
        elif both.effect == "unchanged":
            assert moves[0].before == moves[-1].after
        else:
            assert (both.before, both.after) == (moves[0].before, moves[-1].after)
    changes = [{change.key: change for effect in result.effects for change in effect.environment} for result in (*successive, at_once)]
    for key, change in changes[2].items():
        moves = [taken[key] for taken in changes[:2] if key in taken]
        assert (change.before, change.after) == (moves[0].before, moves[-1].after)
    back = impact.assess(third, first, [two], [use])
    assert has_effect(back) == has_effect(at_once)


def has_effect(result: impact.Impact) -> bool:
    return any(effect.effect != "unchanged" for effect in result.effects)
