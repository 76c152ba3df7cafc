"""Error messages: one line for an error, or one line for each problem of a document."""

from __future__ import annotations

from collections.abc import Iterator

from fuseml.cli import explanation
from fuseml.domain import errors


def lines(error: errors.FusemlError, *, token_is_set: bool = False) -> Iterator[str]:
    """The lines to print for an error. `token_is_set`: FUSEML_TOKEN gives the token and overrides that of a local server."""
    if isinstance(error, errors.InvalidError) and error.problems:
        yield from _problems(error)
        return
    yield f"error: {_one_line(error.message)}{_advice(error, token_is_set=token_is_set)}"
    if isinstance(error, errors.UnresolvedError):
        for candidate in explanation.candidates(error.details.get("explanations")):
            if candidate.get("verdict") == "rejected":
                yield f"  {explanation.sentence(candidate)}"
    yield from (f"  {sentence}" for sentence in _broken_selectors(error.details.get("impact")))


def _broken_selectors(impact: object) -> Iterator[str]:
    """The selectors that a refused change would break, a sentence for each."""
    effects = impact.get("effects") if isinstance(impact, dict) else None
    for effect in effects if isinstance(effects, list) else ():
        if isinstance(effect, dict) and effect.get("effect") == "breaks" and effect.get("assigned"):
            yield _one_line(str(effect.get("sentence")))


def _problems(error: errors.InvalidError) -> Iterator[str]:
    source = str(error.details.get("source") or "")
    if len(error.problems) == 1:
        yield f"error: {_located(error.problems[0], source)}"
        return
    yield f"error: {source or 'the request'} is not valid, {len(error.problems)} problems:"
    for problem in error.problems:
        yield f"  {_located(problem, '')}"


def _located(problem: errors.Problem, source: str) -> str:
    """`file:line:column: field: message`, the format of compilers, which editors parse."""
    place = ":".join(str(part) for part in (source, problem.line, problem.column) if part)
    hint = f" (did you mean {problem.suggestion!r}?)" if problem.suggestion else ""
    return ": ".join(part for part in (place, problem.path, _one_line(problem.message)) if part) + hint


def _advice(error: errors.FusemlError, *, token_is_set: bool) -> str:
    if isinstance(error, errors.UnauthenticatedError) and token_is_set:
        return "; FUSEML_TOKEN is set: correct it for this server, or unset it for a server started by `fuseml up`, whose token is in HOME/token"
    if isinstance(error, errors.UnauthenticatedError):
        return "; pass --token or set FUSEML_TOKEN (`fuseml up` stores the token in HOME/token)"
    if isinstance(error, errors.StaleError):
        return "; read the record again and repeat the change"
    return ""


def _one_line(message: str) -> str:
    return " ".join(message.split())
