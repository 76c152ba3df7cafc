"""Workflow expressions: `{{ inputs.x }}` in the text of a workflow, read once into typed nodes.

    inputs.NAME                                    the value of a workflow input
    inputs.CODESET.name | project | version        a codeset input: its name, its project, the commit of this run
    steps.STEP.outputs.OUTPUT                      an output of another step
    matrix.NAME                                    the value of this combination of the step's own matrix
    extension.NAME.url | version | zone | product | service_resource | service_category | cfg.KEY
                                                   an attribute of the binding of a selector of the same step; `extensions.` is an alias
    '...' or "..."                                 a literal: `{{ '{{' }}` is the text `{{`

Spaces inside the braces are optional. As in the original implementation, a whole value such as `inputs.predictor`, without braces, is
a reference if its target exists, and plain text otherwise. All other text, such as JSON, stays as it is. The original replaced unknown
references with the empty text (infra/platform-facts.md 6.3); here they are errors.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import errors
from fuseml.domain.documents import document

CODESET_ATTRIBUTES = ("name", "project", "version")
EXTENSION_ATTRIBUTES = ("product", "service_category", "service_resource", "url", "version", "zone")

HOLE = "\0"
"""Placeholder of a missing name (text cannot hold this character): references to it are not validated."""

# Possessive quantifiers never give back, so a match takes linear time. The path keeps the spaces after it.
_EXPRESSION = re.compile(r"\{\{\s*+(?:'([^']*+)'|\"([^\"]*+)\"|([^{}'\"]*+))\s*+\}\}")
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_EXTENSION_FORM = f"extension.<name>.cfg.<KEY>, or extension.<name> with .{', .'.join(EXTENSION_ATTRIBUTES)}"
_FORMS = {
    "inputs": "inputs.<input>, or inputs.<codeset>.name, .project or .version",
    "steps": "steps.<step>.outputs.<output>",
    "matrix": "matrix.<name>",
    "extension": _EXTENSION_FORM,
    "extensions": _EXTENSION_FORM,
}
_ROOTS = tuple(_FORMS)
_LITERAL = "; write {{ '{{' }} for a literal '{{'"


@dataclass(frozen=True, slots=True)
class Literal:
    """Literal text."""

    text: str


@dataclass(frozen=True, slots=True)
class InputReference:
    """A workflow input, or one attribute of a codeset input."""

    name: str
    attribute: str | None = None
    start: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"inputs.{self.name}" + (f".{self.attribute}" if self.attribute else "")


@dataclass(frozen=True, slots=True)
class OutputReference:
    """An output of a step."""

    step: str
    output: str
    start: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"steps.{self.step}.outputs.{self.output}"


@dataclass(frozen=True, slots=True)
class ExtensionReference:
    """An attribute of a selector's binding; with `key`, the attribute is `cfg` and the value may be a secret."""

    selector: str
    attribute: str
    key: str | None = None
    start: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"extension.{self.selector}.{self.attribute}" + (f".{self.key}" if self.key else "")


@dataclass(frozen=True, slots=True)
class MatrixReference:
    """A value of the combination for which the step runs."""

    name: str
    start: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"matrix.{self.name}"


Reference = InputReference | OutputReference | ExtensionReference | MatrixReference
Node = Literal | Reference

Nearest = Callable[[str, Sequence[str]], str | None]
"""From a word and the known ones to the one that was meant (document.nearest)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that a text may refer to. `inputs` maps each input to whether it is a codeset, `outputs` each step to its outputs; `selectors` and
    `matrix` are those of the text's own step. `repeated` are steps whose outputs have a value for each combination, so no other step reads them.
    """

    inputs: Mapping[str, bool]
    outputs: Mapping[str, Collection[str]]
    selectors: Collection[str] = ()
    matrix: Collection[str] = ()
    repeated: Collection[str] = ()

    def knows(self, reference: Reference) -> bool:
        """Whether the target of the reference exists."""
        match reference:
            case InputReference(name, attribute) if name in self.inputs:
                return self.inputs[name] == bool(attribute)
            case InputReference():
                return HOLE in self.inputs
            case OutputReference(step, output) if step in self.outputs:
                return output in self.outputs[step] or HOLE in self.outputs[step]
            case OutputReference():
                return HOLE in self.outputs
            case ExtensionReference(selector):
                return selector in self.selectors or HOLE in self.selectors
            case MatrixReference(name):
                return name in self.matrix

    def refusal(self, reference: Reference, nearest: Nearest = document.nearest) -> errors.Problem | None:
        """The problem of an invalid reference, or None. Its path is empty: only the caller knows the path of the text.

        `nearest` finds the closest of the existing names.
        """
        if self.knows(reference):
            is_repeated = isinstance(reference, OutputReference) and reference.step in self.repeated
            return _several(reference) if is_repeated else None
        match reference:
            case InputReference(name, attribute):
                return self._input_refusal(name, attribute, nearest)
            case OutputReference(step, output):
                return self._output_refusal(step, output, nearest)
            case ExtensionReference(selector):
                near = _near(selector, self.selectors, nearest)
                suggestion = str(reference).replace(selector, near, 1) if near else None
                return errors.Problem("", f"this step has no extension {selector!r}{_known(self.selectors, near)}", suggestion=suggestion)
            case MatrixReference(name):
                near = _near(name, self.matrix, nearest)
                message = (
                    f"the matrix of this step has no {name!r}{_known(self.matrix, near)}" if self.matrix else "this step has no matrix"
                )
                return errors.Problem("", message, suggestion=f"matrix.{near}" if near else None)

    def _input_refusal(self, name: str, attribute: str | None, nearest: Nearest) -> errors.Problem:
        if name not in self.inputs:
            near = _near(name, self.inputs, nearest)
            suggestion = f"inputs.{near}" + (f".{attribute}" if attribute else "") if near else None
            return errors.Problem("", f"there is no input {name!r}{_known(self.inputs, near)}", suggestion=suggestion)
        if self.inputs[name]:
            attributes = ", ".join(f"inputs.{name}.{item}" for item in CODESET_ATTRIBUTES)
            return errors.Problem("", f"the input {name!r} is a codeset, not a value; its attributes are {attributes}")
        return errors.Problem("", f"the input {name!r} is not a codeset and has no {attribute!r}", suggestion=f"inputs.{name}")

    def _output_refusal(self, step: str, output: str, nearest: Nearest) -> errors.Problem:
        if step not in self.outputs:
            near = _near(step, self.outputs, nearest)
            suggestion = f"steps.{near}.outputs.{output}" if near else None
            return errors.Problem("", f"there is no step {step!r}{_known(self.outputs, near)}", suggestion=suggestion)
        near = _near(output, self.outputs[step], nearest)
        suggestion = f"steps.{step}.outputs.{near}" if near else None
        return errors.Problem("", f"step {step!r} has no output {output!r}{_known(self.outputs[step], near)}", suggestion=suggestion)


def _several(reference: Reference) -> errors.Problem:
    advice = "name a metric in `best` of the matrix, and its value is that of the best combination"
    return errors.Problem("", f"'{{{{ {reference} }}}}' has a value for each combination of the step; {advice}")


def parse(text: str, knows: Callable[[Reference], bool]) -> tuple[Node, ...]:
    """The nodes of a text, in order. `knows` decides whether a whole value without braces is a reference.

    Raises InvalidError that lists every invalid expression; a problem's column counts from the beginning of the text.
    """
    nodes, problems = read(text, knows)
    if problems:
        raise errors.InvalidError(str(problems[0]), problems)
    return nodes


def read(text: str, knows: Callable[[Reference], bool]) -> tuple[tuple[Node, ...], tuple[errors.Problem, ...]]:
    """As `parse`, but returns the problems together with the nodes of the valid expressions."""
    if "{{" in text:
        return _read(text)
    bare = _bare(text) if text.startswith(_ROOTS) else None
    return (bare,) if bare and knows(bare) else (Literal(text),) if text else (), ()


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> tuple[tuple[Node, ...], tuple[errors.Problem, ...]]:
    # Rules, lint and plan of a workflow read the same texts, and steps repeat texts.
    pieces = tuple(_pieces(text))
    problems = tuple(piece for piece in pieces if isinstance(piece, errors.Problem))
    return tuple(piece for piece in pieces if not isinstance(piece, errors.Problem)), problems


def may_refer(text: str) -> bool:
    """Whether the text may be a reference or contain one; false for most texts of a document, which then need no parsing."""
    return "{{" in text or text.startswith(_ROOTS)


def holds_expression(text: str) -> bool:
    """Whether the text holds an expression in braces, valid or not."""
    return "{{" in text


def _pieces(text: str) -> Iterator[Node | errors.Problem]:
    done = 0
    while (start := text.find("{{", done)) >= 0:
        if start > done:
            yield Literal(text[done:start])
        match = _EXPRESSION.match(text, start)
        if not match:
            yield _unreadable(text, start)
            return
        done = match.end()
        literal = match[1] if match[1] is not None else match[2]
        if literal is not None:
            yield Literal(literal)
        else:
            yield _reference(match[3].rstrip(), start)
    if done < len(text):
        yield Literal(text[done:])


def _unreadable(text: str, start: int) -> errors.Problem:
    end = text.find("}}", start)
    excerpt = text[start : end + 2 if end >= 0 else start + 30]
    reason = "is not an expression" if end >= 0 else "is never closed by '}}'"
    return errors.Problem("", f"{excerpt!r} {reason}{_LITERAL}", column=start + 1)


def _bare(text: str) -> Reference | None:
    reference = _reference(text, 0) if _PATH.fullmatch(text) else None
    return None if isinstance(reference, errors.Problem) else reference


def _reference(path: str, start: int) -> Reference | errors.Problem:
    if not _PATH.fullmatch(path):
        advice = f"write a path of names and dots, such as inputs.predictor{_LITERAL}"
        return _malformed(path, start, advice)
    match path.split("."):
        case ["inputs", name]:
            return InputReference(name, start=start)
        case ["inputs", name, attribute] if attribute in CODESET_ATTRIBUTES:
            return InputReference(name, attribute, start=start)
        case ["inputs", name, attribute]:
            near = document.nearest(attribute, CODESET_ATTRIBUTES)
            return _malformed(path, start, f"write {_FORMS['inputs']}", f"inputs.{name}.{near}" if near else None)
        case ["steps", step, "outputs", output]:
            return OutputReference(step, output, start=start)
        case ["matrix", name]:
            return MatrixReference(name, start=start)
        case ["steps", step, _, output]:
            return _malformed(path, start, f"write {_FORMS['steps']}", f"steps.{step}.outputs.{output}")
        case ["extension" | "extensions", name, "cfg", key]:
            return ExtensionReference(name, "cfg", key, start=start)
        case ["extension" | "extensions", name, attribute] if attribute in EXTENSION_ATTRIBUTES:
            return ExtensionReference(name, attribute, start=start)
        case ["extension" | "extensions", name, attribute]:
            near = document.nearest(attribute, EXTENSION_ATTRIBUTES)
            return _malformed(path, start, f"write {_FORMS['extension']}", f"extension.{name}.{near}" if near else None)
    root, *rest = path.split(".")
    if root in _FORMS:
        return _malformed(path, start, f"write {_FORMS[root]}")
    near = document.nearest(root, _ROOTS)
    return _malformed(path, start, "it must begin with inputs, steps, extension or matrix", ".".join([near, *rest]) if near else None)


def _malformed(path: str, start: int, advice: str, suggestion: str | None = None) -> errors.Problem:
    excerpt = path if len(path) <= 60 else path[:57] + "..."
    return errors.Problem("", f"'{{{{ {excerpt} }}}}' is not an expression: {advice}", column=start + 1, suggestion=suggestion)


def _near(word: str, names: Collection[str], nearest: Nearest) -> str | None:
    return nearest(word, [name for name in names if name != HOLE])


def _known(names: Collection[str], near: str | None) -> str:
    listed = [] if near else heapq.nsmallest(10, (name for name in names if name != HOLE))
    return f"; known: {', '.join(listed)}" + (", ..." if len(names) > 10 else "") if listed else ""
