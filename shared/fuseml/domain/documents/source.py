"""The YAML reader: text in, plain data with the position of each value out.

It reads the events of PyYAML's C parser: events carry positions and repeated keys, and reading stops at the limits before hostile
text costs memory or time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from fuseml.domain import errors
from fuseml.domain.documents import positions

# Workflows and records nest shallowly; deeper text is an attack on the parser.
MAX_DEPTH = 40
MAX_NODES = 50_000

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAPPING_TAGS = (None, "!", "tag:yaml.org,2002:map")
_SEQUENCE_TAGS = (None, "!", "tag:yaml.org,2002:seq")
_TYPED = frozenset(_Loader.yaml_implicit_resolvers)
"""First characters of unquoted scalars that may be other than text; includes the empty string."""


def parse(text: str, lines_before: int = 0) -> positions.Parsed:
    """Read one YAML (or JSON, its subset) document. Keys are text in their original spelling; several `*alias`es share one value.

    Raises InvalidError with line and column for syntax errors, repeated keys, more than one document, and text that is too large. Lines count
    from `lines_before`, the number of lines before the text.
    """
    try:
        return dataclasses.replace(_parse(text), lines_before=lines_before)
    except errors.InvalidError as error:
        problems = [dataclasses.replace(item, line=item.line and item.line + lines_before) for item in error.problems]
        message = error.message.replace(str(error.problems[0]), str(problems[0]), 1)
        raise errors.InvalidError(message, problems) from error.__cause__


def _parse(text: str) -> positions.Parsed:
    try:
        loader = _Loader(text)
        try:
            return _Composer(loader).document()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refusal(message or "this is not valid YAML", positions.of(error.problem_mark or error.context_mark)) from error
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="replace") if error.position else ""
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _refusal("the text holds a character that YAML does not allow", (line, column)) from error
    except UnicodeEncodeError as error:
        raise _refusal("the text holds half of a character (a lone surrogate)", None) from error


def _refusal(message: str, place: positions.Position | None, path: positions.Path = ()) -> errors.InvalidError:
    problem = errors.Problem(positions.render_path(path), message, *(place or (None, None)))
    return errors.InvalidError(f"the document cannot be read: {problem}", [problem])


def _too_large(event: Any, path: positions.Path) -> errors.InvalidError:
    return _refusal("the document is too large or nested too deeply", positions.of(event.start_mark), path[:4])


class _Composer:
    """Composes plain data from the parser's events: PyYAML's own composer overflows the stack on hostile text and drops repeated keys."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._next = loader.get_event
        self._marks: dict[positions.Path, Any] = {}
        self._repeated: list[errors.Problem] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._size = 0

    def document(self) -> positions.Parsed:
        self._next()
        if self._loader.check_event(yaml.StreamEndEvent):
            return positions.Parsed(None)
        self._next()
        root = self._next()
        self._marks[()] = root.start_mark
        data = self._value(root, ())
        self._next()
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise _refusal("a second document begins here; a file holds one document", positions.of(self._loader.peek_event().start_mark))
        if self._repeated:
            more = f" (and {len(self._repeated) - 1} more)" if len(self._repeated) > 1 else ""
            raise errors.InvalidError(f"the document is not valid: {self._repeated[0]}{more}", self._repeated)
        return positions.Parsed(data, self._marks)

    def _value(self, event: Any, path: positions.Path) -> object:
        """The value that begins with `event`. The caller records its mark: a value in a mapping has the mark of its key."""
        before = self._size
        self._size += 1
        if self._size > MAX_NODES or len(path) > MAX_DEPTH:
            raise _too_large(event, path)
        kind = type(event)
        value: object
        if kind is yaml.ScalarEvent:
            value = self._scalar(event, path)
        elif kind is yaml.AliasEvent:
            return self._alias(event, path)
        elif kind is yaml.MappingStartEvent and event.tag in _MAPPING_TAGS:
            value = self._mapping(path)
        elif kind is yaml.SequenceStartEvent and event.tag in _SEQUENCE_TAGS:
            value = self._sequence(path)
        else:
            raise _refusal(f"the tag {event.tag} is not supported; remove it", positions.of(event.start_mark), path)
        if event.anchor:
            self._anchors[event.anchor] = value, self._size - before
        return value

    def _grow(self, size: int, event: Any, path: positions.Path) -> None:
        self._size += size
        if self._size > MAX_NODES:
            raise _too_large(event, path)

    def _alias(self, event: Any, path: positions.Path) -> object:
        if event.anchor not in self._anchors:
            raise _refusal(f"the alias *{event.anchor} has no anchor &{event.anchor} before it", positions.of(event.start_mark), path)
        value, size = self._anchors[event.anchor]
        # The size of the anchored value counts at each alias: a few lines of nested aliases expand to gigabytes.
        self._grow(size, event, path)
        return value

    def _sequence(self, path: positions.Path) -> list[object]:
        items: list[object] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            place = (*path, len(items))
            self._marks[place] = event.start_mark
            items.append(self._value(event, place))
        return items

    def _mapping(self, path: positions.Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        defaults: dict[str, object] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent:
                raise _refusal("a key must be plain text", positions.of(event.start_mark), path)
            key = event.value
            place = (*path, key)
            if key == "<<" and event.implicit[0]:
                first = self._next()
                self._marks.setdefault(place, first.start_mark)
                merged = self._value(first, place)
                for source in merged if isinstance(merged, list) else [merged]:
                    if not isinstance(source, dict):
                        raise _refusal("`<<` takes a mapping or a list of mappings", positions.of(event.start_mark), path)
                    self._grow(len(source), event, path)
                    defaults = source | defaults
                continue
            if key in mapping:
                message = "the key is repeated; remove one of its two values"
                self._repeated.append(errors.Problem(positions.render_path(place), message, *positions.of(event.start_mark)))
            self._marks[place] = event.start_mark
            mapping[key] = self._value(self._next(), place)
        return defaults | mapping if defaults else mapping

    def _scalar(self, event: Any, path: positions.Path) -> object:
        if event.tag is None and not (event.implicit[0] and event.value[:1] in _TYPED):
            return event.value
        tag = event.tag if event.tag not in (None, "!") else self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        try:
            match tag.removeprefix("tag:yaml.org,2002:"):
                case "str" | "timestamp" | "value" | "merge":
                    return event.value  # no field is a date: dates keep the spelling of the text
                case "null":
                    return None
                case "bool":
                    # `yes` and `on` are words, as in YAML 1.2; a real boolean field still understands them.
                    return event.value.lower() == "true" if event.value.lower() in ("true", "false") else event.value
                case "int":
                    return _Int(self._loader.construct_yaml_int(yaml.ScalarNode(tag, event.value)), event.value)
                case "float":
                    return _Float(self._loader.construct_yaml_float(yaml.ScalarNode(tag, event.value)), event.value)
        except (ValueError, IndexError) as error:
            raise _refusal(f"{event.value[:40]!r} cannot be read as a number", positions.of(event.start_mark), path) from error
        raise _refusal(f"the tag {tag} is not supported; remove it", positions.of(event.start_mark), path)


class _Int(int):
    """An integer with its spelling: `version: 1.10` is the text "1.10" in a text field."""

    spelling: str

    def __new__(cls, value: int, spelling: str = "") -> _Int:
        number = super().__new__(cls, value)
        number.spelling = spelling
        return number

    def __str__(self) -> str:
        return self.spelling


class _Float(float):
    """A float with its spelling, as `_Int`."""

    spelling: str

    def __new__(cls, value: float, spelling: str = "") -> _Float:
        number = super().__new__(cls, value)
        number.spelling = spelling
        return number

    def __str__(self) -> str:
        return self.spelling
