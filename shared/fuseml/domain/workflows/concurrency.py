"""Concurrency groups of runs, from the `concurrency` of a workflow: runs of one group do not overlap.

A named group belongs to a project and is shared by the workflows of that project. A group without a name is one workflow on one codeset.
The two kinds cannot collide: the name of a project holds no `@`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.domain.documents import expression
from fuseml.domain.workflows.models import Workflow


def group_of(workflow: Workflow, *, project: str, codeset: str | None, commit: str | None, inputs: Mapping[str, str]) -> str | None:
    """The group of a run on these inputs, `project/name` or `workflow@project/codeset`; None if runs may overlap.

    Missing inputs take their defaults. One without a default counts as empty: its run cannot start anyway.
    """
    if workflow.concurrency is None:
        return None
    if not workflow.concurrency.group:
        return f"{workflow.name}@{project}/{codeset or ''}"
    values = {item.name: inputs.get(item.name, item.default or "") for item in workflow.inputs}
    attributes = {"name": codeset, "project": project, "version": commit}
    nodes, _ = expression.read(workflow.concurrency.group, lambda _: False)
    return f"{project}/" + "".join(_text(node, values, attributes) for node in nodes)


def _text(node: expression.Node, values: Mapping[str, str], attributes: Mapping[str, str | None]) -> str:
    match node:
        case expression.Literal(text):
            return text
        case expression.InputReference(name, None):
            return values.get(name, "")
        case expression.InputReference(_, attribute):
            return attributes.get(attribute or "") or ""
    raise errors.PermanentError(
        f"a concurrency group refers to {node}, whose value does not exist before the run starts; refer to inputs only"
    )
