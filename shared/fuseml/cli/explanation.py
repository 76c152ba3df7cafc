"""Explanations of the resolver as sentences: the candidates of a selector, with verdicts and reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fuseml.cli import output

_VERDICT = 9
_STYLES = {"chosen": "green", "eligible": "", "rejected": "dim"}


def candidates(explanations: object) -> Iterator[Mapping[str, object]]:
    """The candidates of all explanations, grouped by selector or in one list."""
    for explanation in explanations if isinstance(explanations, list) else []:
        if not isinstance(explanation, dict):
            continue
        group = explanation.get("candidates")
        yield from (item for item in (group if isinstance(group, list) else [explanation]) if isinstance(item, dict))


def sentence(candidate: Mapping[str, object]) -> str:
    """`mlflow/mlflow-tracking: version 1.10.3 does not satisfy >=2.0`."""
    parts = (candidate.get(key) for key in ("extension_id", "service_id", "url", "credentials_id"))
    subject = "/".join(str(part) for part in parts if part)
    reason = candidate.get("sentence") or candidate.get("rule") or ""
    return f"{subject}: {reason}" if subject else str(reason)


def show(explanations: object) -> None:
    """Print a line for each candidate, with its verdict. On a terminal, further lines stand below the first."""
    from rich.text import Text

    plain = output.console()
    for candidate in candidates(explanations):
        verdict = str(candidate.get("verdict", ""))
        lines = output.wrapped(sentence(candidate), plain.width - _VERDICT - 1)
        text = f"{verdict:<{_VERDICT}} " + ("\n" + " " * (_VERDICT + 1)).join(lines)
        plain.print(Text(text, style=_STYLES.get(verdict, "")), soft_wrap=True)
