"""The impact of any change agrees with what a run would resolve before and after it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import extension, registry, resolution, selector
from fuseml.domain.workflows import impact
from tests.unit.impact_examples import NEW_ID, NOW, steps

# Small worlds, so that records meet selectors often.
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
    lambda wanted, project: impact.Use(steps(*({**one, "name": f"s{index}"} for index, one in enumerate(wanted))), project=project),
    st.lists(_selectors, min_size=1, max_size=3),
    st.sampled_from(["", "a"]),
)


@given(_records("one"), _records("two"), _uses)
def test_no_change_has_no_effect(one: extension.Extension, two: extension.Extension, use: impact.Use) -> None:
    found = impact.assess(one, one, [two], [use])
    assert (found.change, found.changes) == ("none", [])
    assert {effect.effect for effect in found.effects} == {"unchanged"}


def outcome(records: list[extension.Extension], use: impact.Use) -> list[tuple[str, impact.Bound | None]]:
    """What each selector is bound to, by the rules of a run."""
    context = selector.Context(project=use.project)
    found = {item.name: item for item in resolution.attempt(use.workflow.steps[0].extensions, records, context).bindings}
    return [
        (
            wanted.name,
            impact.Bound(**found[wanted.name].model_dump(include={"extension_id", "service_id", "url", "credentials_id"}))
            if wanted.name in found
            else None,
        )
        for wanted in use.workflow.steps[0].extensions
    ]


@given(st.none() | _records("one"), st.none() | _records("one"), _records("two"), _uses)
def test_effects_are_what_resolving_before_and_after_shows(
    before: extension.Extension | None, after: extension.Extension | None, two: extension.Extension, use: impact.Use
) -> None:
    found = impact.assess(before, after, [two], [use])
    worlds = [outcome([two, *([one] if one else [])], use) for one in (before, after)]
    for effect, (name, was), (_, now) in zip(found.effects, *worlds, strict=True):
        assert effect.selector == name
        if effect.effect == "unchanged":
            assert was == now
        else:
            assert (effect.before, effect.after) == (was, now)
        assert (effect.effect == "breaks") == (was is not None and now is None) == bool(effect.reason)


@given(_records("one"), _records("one"), _records("one"), _records("two"), _uses)
def test_a_change_and_then_another_is_consistent_with_both_at_once(
    first: extension.Extension, second: extension.Extension, third: extension.Extension, two: extension.Extension, use: impact.Use
) -> None:
    steps_taken = [impact.assess(first, second, [two], [use]), impact.assess(second, third, [two], [use])]
    at_once = impact.assess(first, third, [two], [use])
    for one, other, both in zip(*(found.effects for found in steps_taken), at_once.effects, strict=True):
        moves = [effect for effect in (one, other) if effect.effect != "unchanged"]
        if not moves:
            assert both.effect == "unchanged"
        elif both.effect == "unchanged":
            assert moves[0].before == moves[-1].after
        else:
            assert (both.before, both.after) == (moves[0].before, moves[-1].after)
    changes = [{change.key: change for effect in found.effects for change in effect.environment} for found in (*steps_taken, at_once)]
    for key, change in changes[2].items():
        moves = [taken[key] for taken in changes[:2] if key in taken]
        assert (change.before, change.after) == (moves[0].before, moves[-1].after)
    back = impact.assess(third, first, [two], [use])
    assert impact_of(back) == impact_of(at_once)


def impact_of(found: impact.Impact) -> bool:
    return any(effect.effect != "unchanged" for effect in found.effects)
