"""The syntax of Dockerfiles (reference of Docker 27): instructions, their words, and variables in them. Pure.

The parser is our own: `dockerfile-parse`, the library for Python, drops `${NAME:-default}` and knows neither here-documents nor `escape`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fuseml.steps import sdk

KEYWORDS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_WITH_FLAGS = frozenset({"ADD", "COPY", "FROM", "RUN", "HEALTHCHECK"})
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_MOST = 1000
"""Instructions of one file."""
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(\S*)")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_HEREDOC = re.compile(r"(?<!<)<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.]*)\2(?=\s|$)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")
_DEEPEST = 20
"""Nested defaults of variables."""


class UnsupportedError(Exception):
    """A program that builds images is needed; the text is the reason."""


@dataclass(frozen=True)
class Instruction:
    """An instruction at a line of the file: `flags` are those before its `text`, `heredoc` is whether here-documents follow."""

    line: int
    keyword: str
    text: str
    flags: Mapping[str, str]
    heredoc: bool = False

    def __str__(self) -> str:
        return f"{self.keyword} in line {self.line}"

    @property
    def listed(self) -> list[str] | None:
        """The words of the JSON form, `["run", "--fast"]`; None for the other form."""
        if not self.text.startswith("["):
            return None
        try:
            found = json.loads(self.text)
        except ValueError:
            return None
        return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


@dataclass(frozen=True)
class Dockerfile:
    """The instructions of a file, and the character that escapes: a backslash, or a backtick."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """The instructions of the file `name`. Raises StepError with the line of a fault."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape = _escape(lines, name)
    instructions: list[Instruction] = []
    position = 0
    while position < len(lines):
        if not lines[position].strip() or lines[position].lstrip().startswith("#"):
            position += 1
            continue
        start = position
        logical, position = _logical(lines, position, escape)
        instruction = _instruction(logical, start + 1, name)
        if instruction.keyword in _WITH_HEREDOCS and (found := list(_HEREDOC.finditer(instruction.text))):
            position = _after_heredocs(lines, position, found, instruction, name)
            instruction = Instruction(instruction.line, instruction.keyword, instruction.text, instruction.flags, heredoc=True)
        instructions.append(instruction)
        if len(instructions) > _MOST:
            raise sdk.StepError(f"{name} has more than {_MOST} instructions")
    _check_order(instructions, name)
    return Dockerfile(tuple(instructions), escape)


def _escape(lines: list[str], name: str) -> str:
    """The escape character: directives are the comments before everything else."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            if match[2] not in ("\\", "`"):
                raise sdk.StepError(f"{name}: escape is '{match[2][:20]}'; it can be a backslash or a backtick")
            return match[2]
    return "\\"


def _logical(lines: list[str], position: int, escape: str) -> tuple[str, int]:
    """The line with its continuations, without comments between them, and the position after it."""
    pieces: list[str] = []
    while position < len(lines):
        line = lines[position]
        position += 1
        if pieces and (not line.strip() or line.lstrip().startswith("#")):
            continue
        stripped = line.rstrip()
        # A doubled escape character stands for itself.
        if (len(stripped) - len(stripped.rstrip(escape))) % 2 == 0:
            pieces.append(line)
            break
        pieces.append(stripped.removesuffix(escape))
    return "".join(pieces).strip(), position


def _instruction(logical: str, line: int, name: str) -> Instruction:
    keyword, _, rest = logical.partition(" ") if " " in logical.split("\t", maxsplit=1)[0] else logical.partition("\t")
    keyword, rest = keyword.upper(), rest.strip()
    if keyword not in KEYWORDS:
        raise sdk.StepError(f"{name}, line {line}: '{keyword[:40]}' is no instruction of a Dockerfile")
    flags: dict[str, str] = {}
    while keyword in _WITH_FLAGS and (match := _FLAG.match(rest)):
        flags[match[1]] = match[2] or ""
        rest = rest[match.end() :]
    if not rest:
        raise sdk.StepError(f"{name}, line {line}: {keyword} has no argument")
    return Instruction(line, keyword, rest, flags)


def _after_heredocs(lines: list[str], position: int, found: list[re.Match[str]], instruction: Instruction, name: str) -> int:
    for match in found:
        while position < len(lines) and (lines[position].lstrip("\t") if match[1] else lines[position]).rstrip("\r") != match[3]:
            position += 1
        if position == len(lines):
            raise sdk.StepError(f"{name}: the here-document {match[3]} of {instruction} has no end")
        position += 1
    return position


def _check_order(instructions: list[Instruction], name: str) -> None:
    first = next((item for item in instructions if item.keyword != "ARG"), None)
    if first is None:
        raise sdk.StepError(f"{name} has no FROM: an image has a base, or begins `FROM scratch`")
    if first.keyword != "FROM":
        raise sdk.StepError(f"{name}: {first} stands before the first FROM, where only ARG may stand")


def words(text: str, escape: str = "\\") -> list[str]:
    """The words of a text with their quotation marks: `A="b c" d` has two."""
    found: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        character = text[position]
        if character == escape and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if character.isspace() and not quote:
            found += [word] if word else []
            word = ""
        else:
            if character in "'\"":
                quote = "" if quote == character else quote or character
            word += character
        position += 1
    return [*found, word] if word else found


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The word without quotation marks, with the values of variables; unknown ones are empty.

    Raises UnsupportedError for other modifiers than `:-`, `-`, `:+` and `+`.
    """
    return "".join(_expanded(word, variables, escape, 0))


def _expanded(word: str, variables: Mapping[str, str], escape: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise UnsupportedError(f"a variable has more than {_DEEPEST} nested defaults")
    quote, position = "", 0
    while position < len(word):
        character = word[position]
        if character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote = character
        elif character == escape and quote != "'" and position + 1 < len(word):
            position += 1
            # Between double quotation marks only these are escaped.
            yield word[position] if not quote or word[position] in f'"${escape}' else word[position - 1 : position + 1]
        elif character == "$" and quote != "'":
            value, position = _variable(word, position + 1, variables, escape, depth)
            yield value
            continue
        else:
            yield character
        position += 1


def _variable(word: str, position: int, variables: Mapping[str, str], escape: str, depth: int) -> tuple[str, int]:
    """The value of the variable whose name or brace begins at the position, and the position after it."""
    if not word.startswith("{", position):
        plain = _VARIABLE.match(word, position)
        return (variables.get(plain[0], ""), plain.end()) if plain else ("$", position)
    end = _closing(word, position + 1, escape)
    match = _VARIABLE.match(word, position + 1, end)
    if match is None:
        raise UnsupportedError(f"'${word[position : end + 1][:60]}' names no variable")
    name, rest = match[0], word[match.end() : end]
    value = variables.get(name)
    if not rest:
        return value or "", end + 1
    operator = rest[:2] if rest.startswith(":") else rest[:1]
    is_set = bool(value) if operator.startswith(":") else value is not None
    other = "".join(_expanded(rest[len(operator) :], variables, escape, depth + 1))
    match operator:
        case ":-" | "-":
            return (value or "") if is_set else other, end + 1
        case ":+" | "+":
            return other if is_set else "", end + 1
    raise UnsupportedError(f"the modifier of '${word[position : end + 1][:60]}'")


def _closing(word: str, position: int, escape: str) -> int:
    """The position of the brace that closes the one before the position. Raises UnsupportedError without one."""
    depth = 1
    while position < len(word):
        if word[position] == escape:
            position += 1
        elif word[position] == "{":
            depth += 1
        elif word[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise UnsupportedError(f"'{word[:60]}' has a variable without a closing brace")
