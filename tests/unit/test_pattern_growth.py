"""The time of every regular expression grows linearly with its input, whatever that input is.

The test finds the patterns itself, compiled or inline, so that a new one is measured too. It derives hostile inputs from each pattern:
the text that its first parts accept, then one of its characters (or pairs) repeated, then a character that fits nowhere. It compares
processor times of inputs that differ 16 times in length: 16 is linear, 256 quadratic. Patterns of pydantic fields need no test: the
Rust engine behind them never backtracks.
"""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import functions
import fuseml
from fuseml.domain.documents import expression

_METHODS = {"match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
# Only modules with such a call are parsed. `.` and the name may stand on two lines.
_CALLS = re.compile(rf"\.\s*({'|'.join(sorted(_METHODS))}|compile)\b")
# Only modules with such a call have patterns.
_OF_RE = re.compile(rf"\bre{_CALLS.pattern}")
_STEP = 16
_LIMIT = 64  # Between linear growth (16) and quadratic growth (256).
_SIZES = [4 << power for power in range(11)]

_ALPHABET = ["a", "0", " ", *map(chr, range(256)), "\u2500"]

_parser: Any = importlib.import_module("re._parser")


def _sources(calls: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Name and source of each module that has one of the calls."""
    for package in (fuseml, functions):
        root = pathlib.Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            if "migrations" not in path.parts:
                text = path.read_text()
                if calls.search(text):
                    name = ".".join((package.__name__, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
                    yield name, text


_MODULES = [name for name, _ in _sources(_OF_RE)]


@functools.cache
def _patterns() -> dict[str, dict[str, tuple[Any, set[str]]]]:
    """Every pattern by module and place, with the methods that it is used with. Found in the first test: each worker collects, and one measures."""
    uses: dict[tuple[str, str], set[str]] = {}
    compiled: list[tuple[str, str]] = []
    found: dict[str, dict[str, tuple[Any, set[str]]]] = {}
    for module, text in _sources(_CALLS):
        tree = ast.parse(text)
        nodes = list(ast.walk(tree))
        imported = {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        for node in nodes:
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner, method = node.func.value, node.func.attr
            of_re = isinstance(owner, ast.Name) and owner.id == "re"
            if of_re and method in _METHODS and isinstance(node.args[0], ast.Constant):
                flags = re.DOTALL if any("DOTALL" in ast.unparse(argument) for argument in node.args) else re.NOFLAG
                found.setdefault(module, {})[f"{module}:{node.lineno}"] = re.compile(node.args[0].value, flags), {method}
            elif method in _METHODS and isinstance(owner, ast.Name) and not of_re:
                uses.setdefault(("" if owner.id in imported else module, owner.id), set()).add(method)
            elif method in _METHODS and isinstance(owner, ast.Attribute):
                uses.setdefault(("", owner.attr), set()).add(method)
        compiled += [
            (module, target.id)
            for node in tree.body
            if isinstance(node, ast.Assign) and "re.compile(" in ast.unparse(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
    for module, name in compiled:
        methods = uses.get((module, name), set()) | (uses.get(("", name), set()) if not name.startswith("_") else set())
        found.setdefault(module, {})[f"{module}.{name}"] = getattr(importlib.import_module(module), name), methods
    return found


def _samples(parsed: Any) -> Iterator[str]:
    """A text for each part of a parsed pattern, in order."""
    for operator, argument in parsed:
        match str(operator):
            case "LITERAL":
                yield chr(argument)
            case "NOT_LITERAL":
                yield "z" if argument != ord("z") else "y"
            case "ANY":
                yield "z"
            case "IN":
                yield next(character for character in _ALPHABET if _fits(argument, character))
            case "BRANCH":
                for branch in argument[1]:
                    yield from _samples(branch)
            case "SUBPATTERN":
                yield from _samples(argument[3])
            case "ATOMIC_GROUP":
                yield from _samples(argument)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                once = list(_samples(argument[2]))
                for _ in range(min(max(argument[0], 1), 64)):
                    yield from once
            case "AT" | "ASSERT" | "ASSERT_NOT" | "GROUPREF":
                pass
            case _:
                raise AssertionError(f"teach this test the operator {operator}")


def _fits(argument: object, character: str) -> bool:
    return re.compile(_source_of(argument)).fullmatch(character) is not None


def _source_of(members: Any) -> str:
    parts, negated = [], ""
    for operator, argument in members:
        match str(operator):
            case "NEGATE":
                negated = "^"
            case "LITERAL":
                parts.append(re.escape(chr(argument)))
            case "RANGE":
                parts.append("-".join(re.escape(chr(bound)) for bound in argument))
            case "CATEGORY":
                letter = str(argument).removeprefix("CATEGORY_")
                parts.append(
                    {"SPACE": r"\s", "NOT_SPACE": r"\S", "DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w", "NOT_WORD": r"\W"}[letter]
                )
    return f"[{negated}{''.join(parts)}]"


def _attacks(pattern: re.Pattern[Any]) -> set[tuple[str, str]]:
    """Pairs of the text that begins the input and the text that is repeated after it."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    samples = list(_samples(_parser.parse(source, pattern.flags & ~re.UNICODE)))
    shortened = [each for index, each in enumerate(samples) if samples[max(0, index - 2) : index] != [each, each]]
    prefixes = {"".join(shortened[:length]) for length in range(len(shortened))} | {""}
    pumps = {*shortened, *map("".join, itertools.pairwise(shortened)), "".join(shortened), " ", "a", "0"}
    return {(prefix, pump) for prefix in prefixes for pump in pumps if pump}


def _time(run: Callable[[Any], object], text: Any, tries: int) -> float:
    times = []
    for _ in range(tries):
        start = time.thread_time_ns()
        run(text)
        times.append(time.thread_time_ns() - start)
    return min(times)


def _growth(run: Callable[[Any], object], make: Callable[[int], Any]) -> int | None:
    """The size at which the time grows faster than allowed, or None."""
    times: dict[int, float] = {}
    for size in _SIZES:
        times[size] = _time(run, make(size), 1)
        # Exponential growth shows at the next doubling, and would not end at the fourth.
        for small in (size // 2, size // _STEP):
            if small in times and times[size] > _LIMIT * times[small]:
                # One slow measurement is noise; the best of several is the work.
                times[small], times[size] = (_time(run, make(each), 5) for each in (small, size))
                if times[size] > _LIMIT * times[small]:
                    return size
    return None


def _runs(pattern: re.Pattern[Any], methods: set[str]) -> Iterator[tuple[str, Callable[[Any], object]]]:
    for method in sorted(methods):
        if method == "sub":
            yield method, lambda text: pattern.sub(text[:0], text)
        elif method == "finditer":
            yield method, lambda text: list(pattern.finditer(text))
        else:
            yield method, getattr(pattern, method)


@pytest.mark.parametrize("module", _MODULES)
def test_the_time_of_a_pattern_grows_linearly(module: str) -> None:
    for place, (pattern, methods) in sorted(_patterns().get(module, {}).items()):
        # A pattern that is only passed on is one for whole texts.
        for method, run in _runs(pattern, methods or {"fullmatch"}):
            _measure(place, pattern, method, run)


def _measure(place: str, pattern: re.Pattern[Any], method: str, run: Callable[[Any], object]) -> None:
    for prefix, pump in sorted(_attacks(pattern)):
        for end in ("\n\x01", ""):

            def make(size: int, prefix: str = prefix, pump: str = pump, end: str = end) -> Any:
                text = prefix + pump * (size // len(pump)) + end
                return text if isinstance(pattern.pattern, str) else text.encode("latin-1")

            size = _growth(run, make)
            assert size is None, f"{place}: {method} with {prefix!r} + {pump!r} * n + {end!r} grows faster than linearly, seen at {size}"


def test_each_pattern_is_measured() -> None:
    assert len(_patterns()) > 50
    assert set(_patterns()) <= set(_MODULES)


def _read_expression(text: str) -> object:
    # The result of a text is cached: a new tail makes each text a new one.
    return expression.read(f"{text}{next(_tail)}", lambda _reference: True)


_tail = itertools.count()


@pytest.mark.parametrize(
    "text", ["{{", "{{ ", "{{ a ", "{{ '", '{{ "', "{{ 'a' ", "{{ a }} ", "{{ '}}' }}", "{{{", "}}", "{{\t", "{{ inputs.", "inputs.a"]
)
@pytest.mark.parametrize("pump", [" ", "{", "{{", "{{ ", "}", "'", "''", "a", ".", "a ", "{{ a }}", "{{ 'a' }}", "\t ", "{{ a"])
def test_the_time_of_an_expression_grows_linearly(text: str, pump: str) -> None:
    assert _growth(_read_expression, lambda size: text + pump * (size // len(pump))) is None


def test_the_measurement_sees_faster_growth() -> None:
    for slow in (r"(a+)+b", r"a*a*b", r"\s*(\S*?)\s*x"):
        pattern = re.compile(slow)
        assert any(_growth(pattern.fullmatch, pump.__mul__) for pump in ("a", " "))
