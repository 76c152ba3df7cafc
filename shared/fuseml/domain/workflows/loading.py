"""Loading of workflow documents: validation by schema and rules, all problems at once."""

from __future__ import annotations

from collections.abc import Sequence

from fuseml.domain import errors
from fuseml.domain.documents import document, expression, recovery
from fuseml.domain.workflows import rules
from fuseml.domain.workflows.models import Workflow

SCHEMA_ID = "https://fuseml.org/schemas/workflow.v1.json"


def load(text: str) -> Workflow:
    """Read a workflow document, YAML or JSON. Raises InvalidError that lists every problem with path, line, column and suggestion."""
    return check(document.parse(text))


def check(parsed: document.Parsed) -> Workflow:
    """The workflow that a parsed document describes. Raises InvalidError as `load` does."""
    try:
        workflow = document.validate(Workflow, parsed.data, position=parsed.position, kind="workflow")
    except errors.InvalidError as error:
        rest = recovery.recover(Workflow, parsed.data, error.__cause__, hole=expression.HOLE, lists=("steps", "values"))
        violations = rules.problems(rest, parsed.position) if rest else []
        raise _refusal([*error.problems, *recovery.unrelated(violations, error.problems)]) from error
    problems = rules.problems(workflow, parsed.position)
    if problems:
        raise _refusal(problems)
    return workflow


def _refusal(problems: Sequence[errors.Problem]) -> errors.InvalidError:
    listed = sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0))
    if len(listed) > document.MAX_PROBLEMS:
        listed[document.MAX_PROBLEMS :] = [errors.Problem("", "there are more problems; correct these and validate again")]
    rest = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    return errors.InvalidError(f"the workflow is not valid: {listed[0]}{rest}", listed)


def json_schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of workflow documents, for editors."""
    schema = Workflow.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema, "title": "FuseML workflow"}
