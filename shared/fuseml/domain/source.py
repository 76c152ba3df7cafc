"""The text of documents: YAML in, plain data and the position of each value out.

Text is read from the events of PyYAML's C parser: they carry the positions, repeated keys are still visible in them, and reading
stops at the limits before hostile text has cost anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from fuseml.domain import errors

Path = tuple[str | int, ...]
Position = tuple[int, int]

# A document nests shallowly; deeper text is an attack on the parser, not a workflow.
MAX_DEPTH = 40
MAX_NODES = 50_000

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Parsed:
    """Plain data (dicts, lists, scalars) and where in the text each value and key stood."""

    data: object
    positions: Mapping[Path, Position] = field(default_factory=dict)

    def position(self, path: Path) -> Position | None:
        """1-based line and column of the value at `path`, or of the nearest parent that stands in the text."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path)


def parse(text: str) -> Parsed:
    """Read one YAML (or JSON, its subset) document. Keys are text, spelled as they stand; several `*alias`es share one value.

    Raises InvalidError with line and column for syntax errors, repeated keys, more than one document, and text that is too large.
    """
    try:
        loader = _Loader(text)
        try:
            return _Composer(loader).document()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refusal(told or "this is not valid YAML", _position(error.problem_mark or error.context_mark)) from error
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="replace") if error.position else ""
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _refusal("the text holds a character that YAML does not allow", (line, column)) from error
    except UnicodeEncodeError as error:
        raise _refusal("the text holds half of a character (a lone surrogate)", None) from error


def _refusal(message: str, place: Position | None, path: Path = ()) -> errors.InvalidError:
    problem = errors.Problem(render_path(path), message, *(place or (None, None)))
    return errors.InvalidError(f"the document cannot be read: {problem}", [problem])


def _position(mark: Any) -> Position:
    return mark.line + 1, mark.column + 1


class _Composer:
    """Makes plain data of the parser's events: PyYAML's own composer overflows the stack on hostile text and drops repeated keys."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._positions: dict[Path, Position] = {}
        self._repeated: list[errors.Problem] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._size = 0

    def document(self) -> Parsed:
        self._loader.get_event()
        if self._loader.check_event(yaml.StreamEndEvent):
            return Parsed(None)
        self._loader.get_event()
        data = self._value(self._loader.get_event(), ())
        self._loader.get_event()
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise _refusal("another document begins here; write one only", _position(self._loader.peek_event().start_mark))
        if self._repeated:
            more = f" (and {len(self._repeated) - 1} more)" if len(self._repeated) > 1 else ""
            raise errors.InvalidError(f"the document is not valid: {self._repeated[0]}{more}", self._repeated)
        return Parsed(data, self._positions)

    def _value(self, event: Any, path: Path) -> object:
        before = self._size
        self._grow(1, event, path)
        self._positions.setdefault(path, _position(event.start_mark))
        value: object
        match event:
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise _refusal(f"nothing before this is named &{event.anchor}", _position(event.start_mark), path)
                value, size = self._anchors[event.anchor]
                # What an alias stands for counts each time: a few lines of aliases of aliases are worth gigabytes.
                self._grow(size, event, path)
                return value
            case yaml.SequenceStartEvent(tag=None | "!" | "tag:yaml.org,2002:seq"):
                items: list[object] = []
                while not isinstance(item := self._loader.get_event(), yaml.SequenceEndEvent):
                    items.append(self._value(item, (*path, len(items))))
                value = items
            case yaml.MappingStartEvent(tag=None | "!" | "tag:yaml.org,2002:map"):
                value = self._mapping(path)
            case yaml.ScalarEvent():
                value = self._scalar(event, path)
            case _:
                raise _refusal(f"the tag {event.tag} is not understood here", _position(event.start_mark), path)
        if event.anchor:
            self._anchors[event.anchor] = value, self._size - before
        return value

    def _grow(self, size: int, event: Any, path: Path) -> None:
        self._size += size
        if self._size > MAX_NODES or len(path) > MAX_DEPTH:
            raise _refusal("the document is too large or nested too deeply", _position(event.start_mark), path[:4])

    def _mapping(self, path: Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        defaults: dict[str, object] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _refusal("a key must be plain text", _position(event.start_mark), path)
            key = event.value
            if key == "<<" and event.implicit[0]:
                merged = self._value(self._loader.get_event(), (*path, key))
                for source in merged if isinstance(merged, list) else [merged]:
                    if not isinstance(source, dict):
                        raise _refusal("`<<` takes a mapping or a list of mappings", _position(event.start_mark), path)
                    self._grow(len(source), event, path)
                    defaults = {**source, **defaults}
                continue
            if key in mapping:
                message = "the key stands here twice; it is not clear which one is meant"
                self._repeated.append(errors.Problem(render_path((*path, key)), message, *_position(event.start_mark)))
            self._positions[(*path, key)] = _position(event.start_mark)
            mapping[key] = self._value(self._loader.get_event(), (*path, key))
        return {**defaults, **mapping}

    def _scalar(self, event: Any, path: Path) -> object:
        tag = event.tag if event.tag not in (None, "!") else self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value)
        try:
            match tag.removeprefix("tag:yaml.org,2002:"):
                case "str" | "timestamp" | "value" | "merge":
                    return event.value  # a date stays what the writer typed; no field of ours is a date
                case "null":
                    return None
                case "bool":
                    # `yes` and `on` are words, as in YAML 1.2; a real boolean field still understands them.
                    return event.value.lower() == "true" if event.value.lower() in ("true", "false") else event.value
                case "int":
                    return _Int(self._loader.construct_yaml_int(node), event.value)
                case "float":
                    return _Float(self._loader.construct_yaml_float(node), event.value)
        except (ValueError, IndexError) as error:
            raise _refusal(f"{event.value[:40]!r} cannot be read as a number", _position(event.start_mark), path) from error
        raise _refusal(f"the tag {tag} is not understood here", _position(event.start_mark), path)


class _Int(int):
    """A number that remembers its spelling: `version: 1.10` is the text "1.10" in a text field."""

    spelling: str

    def __new__(cls, value: int, spelling: str = "") -> _Int:
        number = super().__new__(cls, value)
        number.spelling = spelling
        return number

    def __str__(self) -> str:
        return self.spelling


class _Float(float):
    """As `_Int`."""

    spelling: str

    def __new__(cls, value: float, spelling: str = "") -> _Float:
        number = super().__new__(cls, value)
        number.spelling = spelling
        return number

    def __str__(self) -> str:
        return self.spelling


def render_path(path: Path) -> str:
    """`("steps", 2, "image")` as people write it: `steps[2].image`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text
