"""Explanations of the resolver as sentences: which candidates a selector had, and why each was kept or dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fuseml.cli import output

_STYLES = {"chosen": "green", "eligible": "", "rejected": "dim"}


def candidates(explanations: object) -> Iterator[Mapping[str, object]]:
    """Every candidate of every explanation, whether they come grouped by selector or in one list."""
    for explanation in explanations if isinstance(explanations, list) else []:
        if not isinstance(explanation, dict):
            continue
        grouped = explanation.get("candidates")
        yield from (item for item in (grouped if isinstance(grouped, list) else [explanation]) if isinstance(item, dict))


def sentence(candidate: Mapping[str, object]) -> str:
    """`mlflow/mlflow-tracking: version 1.10.3 does not satisfy >=2.0`."""
    parts = (candidate.get(key) for key in ("extension_id", "service_id", "url", "credentials_id"))
    subject = "/".join(str(part) for part in parts if part)
    said = candidate.get("sentence") or candidate.get("rule") or ""
    return f"{subject}: {said}" if subject else str(said)


def show(explanations: object) -> None:
    """Print every candidate with its verdict, a line for each."""
    from rich.text import Text

    plain = output.console()
    for candidate in candidates(explanations):
        verdict = str(candidate.get("verdict", ""))
        plain.print(Text(f"{verdict:<9} {sentence(candidate)}", style=_STYLES.get(verdict, "")), soft_wrap=True)
