"""Output of plans: images, environments, conditions and approvals of the steps, and the bindings of their selectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseml.cli import approvals, bindings, matrices, output, terminal
from fuseml.client.plan_texts import value

_PLAN = (
    output.column("Workflow"),
    output.column("Revision"),
    output.column("Project"),
    output.column("Inputs"),
    output.Column("Outputs", lambda plan: {name: value(parts) for name, parts in _mapping(plan.get("outputs")).items()}),
)
_STEPS = (
    output.column("Name"),
    output.Column("Values", matrices.values, cut=True),
    output.Column("Image", lambda step: value(step["image"])),
    output.column("Needs"),
    output.Column(
        "Code", lambda step: [f"{item['project']}/{item['codeset']} {item['commit'][:8]}" for item in _items(step["checkouts"])], minor=True
    ),
    output.Column("Resources", lambda step: _resources(_mapping(step.get("resources"))), cut=True),
    output.Column("When", lambda step: [_condition(item) for item in _items(step.get("when"))], cut=True),
    output.Column("Asks", lambda step: _question(_mapping(step.get("approval"))), cut=True),
    output.Column("Not reused because", lambda step: _mapping(step.get("cache")).get("not_reused"), cut=True),
)
_ARTIFACTS = (
    output.column("Step"),
    output.column("Artifact"),
    output.column("Address", cut=True),
    output.column("Path"),
    output.column("Store"),
)
_REUSED = (output.column("Name"), output.column("Run"), output.column("Outputs", cut=True))
_EVERY = "(all)"
_ENVIRONMENT = (output.column("Step"), output.column("Variable"), output.column("Value", cut=True))


def show(format: output.Format, plan: Mapping[str, object]) -> None:
    """Print the plan: tables for people, the API's object for programs."""
    if format is not output.Format.TABLE:
        output.dump(format, plan)
        return
    output.print_fields(plan, _PLAN)
    steps = _items(plan.get("steps"))
    for title, rows, columns in (
        ("Reused", _items(plan.get("reused")), _REUSED),
        ("Steps", steps, _STEPS),
        ("Artifacts", list(_artifacts(steps)), _ARTIFACTS),
        ("Environment", list(_environment(steps)), _ENVIRONMENT),
        ("Bindings", _bindings(plan, {step["name"]: matrices.name(step) for step in steps}), bindings.COLUMNS),
    ):
        if rows:
            terminal.echo(f"\n{title}:")
            output.table(rows, columns, indent=2)


def _artifacts(steps: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """A row for each artifact that a step reads before it starts, or that is made of its files after it."""
    for step in steps:
        for item in _items(step.get("fetches")):
            asked = f" (asked for: {item['asked']})" if item.get("asked") else ""
            yield {
                "step": step["name"],
                "artifact": f"fetch {item['name']}" if item["path"] else f"refer to {item['name']}",
                "address": f"{value(item['address'])}{asked}",
                "path": item["path"] or value(item.get("uri")),
                "store": _store(item),
            }
        for item in _items(step.get("collects")):
            copied = item.get("copied")
            name = f"{item['kind']} {item['name']}" if item["name"] else f"{'copy of a' if copied else 'anonymous'} {item['kind']}"
            yield {
                "step": step["name"],
                "artifact": f"collect {item['output']}",
                "address": name,
                "path": item["path"],
                "store": _store(item),
            }


def _store(item: Mapping[str, Any]) -> str:
    store = item["store"]
    return f"{store['extension']}/{store['service']} ({store['resource']})"


def _environment(steps: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """A row for each variable of each step; one row for all steps, or for all combinations of a matrix, if their values are equal."""
    environments = {step["name"]: {item["name"]: value(item["value"]) for item in step["variables"]} for step in steps}
    first, *rest = environments.values() if environments else [{}]
    are_several = len({matrices.name(step) for step in steps}) > 1
    common = {variable: text for variable, text in first.items() if are_several and all(other.get(variable) == text for other in rest)}
    yield from ({"step": _EVERY, "variable": variable, "value": text} for variable, text in common.items())
    combined: dict[str, list[str]] = {}
    for step in steps:
        if step.get("combination"):
            combined.setdefault(matrices.name(step), []).append(step["name"])
    for step in steps:
        name, others = step["name"], combined.get(matrices.name(step), []) if step.get("combination") else []
        for variable, text in environments[name].items():
            if variable in common:
                continue
            is_common = len(others) > 1 and all(environments[other].get(variable) == text for other in others)
            if not is_common or name == others[0]:
                yield {"step": matrices.name(step) if is_common else name, "variable": variable, "value": text}


def _bindings(plan: Mapping[str, object], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each selector of each step of the workflow: combinations have equal bindings."""
    found = {(names[item["step"]], item["binding"]["name"]): item["binding"] for item in _items(plan.get("bindings"))}
    return [{"step": step, **binding} for (step, _), binding in found.items()]


def _condition(condition: Mapping[str, Any]) -> str:
    return f"{value(condition['input'])} {condition['operator']} {', '.join(map(value, condition['values']))}"


def _resources(resources: Mapping[str, object]) -> list[str]:
    """`4 cpu` for a request, `at most 16Gi memory` for a limit, `1 nvidia.com/gpu` for devices, whose request is their limit."""
    requests, limits = _mapping(resources.get("requests")), _mapping(resources.get("limits"))
    asked = [f"{amount} {name}" for name, amount in requests.items() if "/" not in name]
    return asked + [f"{amount} {name}" if "/" in name else f"at most {amount} {name}" for name, amount in limits.items()]


def _question(approval: Mapping[str, Any]) -> str:
    """The question of a planned approval with its conditions and its time limit; empty without an approval."""
    from fuseml.domain.runs.approval import duration

    if not approval:
        return ""
    when = f" (if {' and '.join(map(_condition, approval['when']))})" if approval.get("when") else ""
    within = f" (within {duration(approval['expires'])})" if approval.get("expires") else ""
    return f"{approvals.line(value(approval['message'])) or 'an approval is needed'}{when}{within}"


def _items(value: object) -> Sequence[Mapping[str, Any]]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
