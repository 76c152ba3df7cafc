"""Which runs must not overlap: the group that a run belongs to, as the `concurrency` of its workflow says it.

A named group belongs to one project, and every workflow of that project that names it shares it. Without a name a group is one workflow
on one codeset. The two kinds cannot be mistaken for one another: the name of a project holds no `@`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.domain.documents import expression
from fuseml.domain.workflows.models import Workflow


def group_of(checked: Workflow, *, project: str, codeset: str | None, commit: str | None, inputs: Mapping[str, str]) -> str | None:
    """The group of a run on these inputs, `project/name` or `workflow@project/codeset`; None where runs may overlap.

    Inputs that were not given take their defaults; one that has none counts as empty, for its run cannot start anyway.
    """
    if checked.concurrency is None:
        return None
    if not checked.concurrency.group:
        return f"{checked.name}@{project}/{codeset or ''}"
    values = {item.name: inputs.get(item.name, item.default or "") for item in checked.inputs}
    of_codeset = {"name": codeset, "project": project, "version": commit}
    nodes, _ = expression.read(checked.concurrency.group, lambda _: False)
    return f"{project}/" + "".join(_text(node, values, of_codeset) for node in nodes)


def _text(node: expression.Node, values: Mapping[str, str], of_codeset: Mapping[str, str | None]) -> str:
    match node:
        case expression.Literal(text):
            return text
        case expression.InputReference(name, None):
            return values.get(name, "")
        case expression.InputReference(_, attribute):
            return of_codeset.get(attribute or "") or ""
    raise errors.PermanentError(f"a concurrency group refers to {node}, which is not known before a run begins")
