"""The exception that ended a Python program, read from the end of its log.

The last traceback counts: of chained exceptions the last one raised, of a program that only reports the failure of another one the
exception of that one, of an exception group its first exception. Other output may stand between and after the lines of a traceback. The
time is linear in the text, and no text is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_LONGEST_LINE = 4000
_MESSAGE_LINES = 3
_FOREIGN_LINES = 5
"""Lines of other output that may stand between two lines of a traceback."""
_LINES_AFTER = 25
"""Lines that a program may print after the traceback that ends it, while its exit handlers run."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADER = re.compile(r"(.{0,80}?)(Exception Group )?Traceback \(most recent call last\):? *")
_NOTEBOOK = re.compile(r"[A-Za-z_][\w.]* +Traceback \(most recent call last\) *")
_FRAME = re.compile(r' *File "([^"]+)", line (\d+)(?:, in (.*))?')
# IPython's frames: `Cell In[3], line 1, in load(x)`, `Input In [3], in <cell line: 1>()`, `File ~/train.py:12, in load(x)`.
_CELL = re.compile(r"(?:Cell |Input )(In ?\[\d+\])(?:, line (\d+)|, in <cell line: (\d+)>)?.*")
_NOTEBOOK_FRAME = re.compile(r"File ([^\s:]+):(\d+)(?:, in (\w+)(?:\W.*)?)?")
_ERROR = re.compile(r"((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)(:( .*)?)?")
_NAME = re.compile(r"[A-Z]|\w*(?:[eE]rror|[eE]xception|[eE]xit)")
_MARGIN = re.compile(r"(?: *[|+] ?)+")
_LINK = re.compile(r"The above exception was the direct cause of|During handling of the above exception, another")
_GROUP = re.compile(r".*\(\d+ sub-exceptions?\)")
_SUCCESS = re.compile(r"the command exited with code 0 after [\d.]+ s")
# Lines of logs, of warnings, and those that MLflow, wandb and our steps print at the end.
_REPORT = re.compile(
    r"\d{4}[-/]\d\d|\[|\W*View (?:run|experiment)|[\w.]+:|\S+:\d+:|the training command failed |the command exited |-{4}|\"\"\""
)
# Exceptions of programs that only report the failure of another program, whose own traceback stands above.
_OF_OTHERS = re.compile(
    r"subprocess\.CalledProcessError\b|mlflow\.exceptions\.ExecutionException: Run \(ID|mlflow\.utils\.process\.ShellCommandException\b"
    r"|torch\.distributed\.elastic\.\S*ChildFailedError\b"
)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d[\d.]*/|/fuseml/(?:steps|processes)/|/ipykernel_\d+/|^<")
_LOADERS = re.compile(r"/(?:mlflow|joblib|cloudpickle|skops|torch|pickle)[./]")


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception: `error` is its type and message on one line, `place` the file, line and function of the user's code that raised it.

    `place` is empty where no frame is the user's. `loading` marks one that a library raised while it loaded a model.
    """

    error: str
    place: str = ""
    loading: bool = False


@dataclass(slots=True)
class _Block:
    """A traceback being read. `margin` is the text before its lines; `missed` counts lines of other output.

    A `group` is a traceback of an exception group, the first one of it at its `root`.
    """

    margin: str = ""
    group: bool = False
    root: bool = False
    linked: bool = False
    frames: list[tuple[str, str, str]] = field(default_factory=list)
    error: list[str] = field(default_factory=list)
    missed: int = 0
    open: bool = True


def last(text: str, roots: Iterable[str] = ()) -> Raised | None:
    """The exception that ended the program whose log ends with `text`; None where it ended without one.

    `roots` are the folders of the user's code: places in them are relative to the folder.
    """
    blocks, after = _read(_lines(text))
    blocks = [block for block in blocks if block.error]
    if not blocks or after > _LINES_AFTER:
        return None
    folders = [root.rstrip("/") + "/" for root in roots if root.strip("/")]
    chosen = len(blocks) - 1
    while chosen and _OF_OTHERS.match(blocks[chosen].error[0]):
        chosen -= 1
    block = blocks[chosen]
    if block.group:
        return _of_group(blocks[: chosen + 1], folders)
    error, place = _message(block), _place(block.frames, folders)
    if chosen and block.linked and _message(blocks[chosen - 1]) == error:
        # A pool raises the exception of its worker again.
        place = _place(blocks[chosen - 1].frames, folders) or place
    return Raised(error, place, any(_is_loader(frame) for frame in block.frames))


def clean(line: str) -> str:
    """The line as a terminal shows it: without colours and controls, and after its last carriage return."""
    return _CONTROL.sub("", line.removesuffix("\r").rpartition("\r")[2]).rstrip()


def _lines(text: str) -> Iterator[str]:
    return (clean(line[:_LONGEST_LINE]) for line in text.split("\n"))


def _read(lines: Iterable[str]) -> tuple[list[_Block], int]:
    """The last tracebacks, and the number of lines after the last one."""
    blocks: list[_Block] = []
    after, linked = 0, False
    for line in lines:
        begun = _begin(line, blocks[-1] if blocks else None)
        if begun is not None:
            begun.linked = linked
            blocks.append(begun)
            after, linked = 0, False
        elif _SUCCESS.fullmatch(line):
            blocks = []
        elif _LINK.match(line.lstrip(" |")):
            linked = True
        elif not blocks or not _continue(blocks[-1], line):
            after += bool(line)
    return blocks, after


def _begin(line: str, block: _Block | None) -> _Block | None:
    """The traceback that begins with this line; None if none does."""
    in_group = block is not None and block.group and _MARGIN.match(line) is not None
    if in_group and line.lstrip(" |").startswith("+-") and line.endswith("----"):
        # The number of the exception that follows; the last one of these lines has none.
        return _Block(group=True) if line.strip(" |+-") else None
    if header := _HEADER.fullmatch(line):
        if header[2] or in_group:
            return _Block(group=True, root=not in_group)
        return _Block(margin=header[1]) if not _NOTEBOOK.fullmatch(line) else _Block()
    if not in_group and (block is None or not block.open or block.error) and (frame := _FRAME.fullmatch(line)):
        # Its header is not in the text, or it has none: a syntax error of the program itself.
        return _Block(frames=[_frame(frame)])
    return None


def _continue(block: _Block, line: str) -> bool:
    """Whether the line belongs to the traceback."""
    if block.group:
        margin = _MARGIN.match(line)
        if margin is None:
            block.open = False
            return False
        line = line[margin.end() :]
    elif block.margin and line.startswith(block.margin):
        line = line[len(block.margin) :]
    return _add_message(block, line) if block.error else _add_frame(block, line)


def _add_frame(block: _Block, line: str) -> bool:
    if frame := _FRAME.fullmatch(line):
        block.frames.append(_frame(frame))
    elif cell := _CELL.fullmatch(line):
        block.frames.append((cell[1], cell[2] or cell[3] or "", ""))
    elif frame := _NOTEBOOK_FRAME.fullmatch(line):
        block.frames.append(_frame(frame))
    elif not line or line[0] in " -^":
        return block.open
    elif (error := _ERROR.fullmatch(line)) and _NAME.match(error[2]) and (block.frames or block.group):
        block.error.append(line)
    else:
        block.missed += 1
        block.open = block.missed <= _FOREIGN_LINES
        return False
    return block.open


def _add_message(block: _Block, line: str) -> bool:
    """Add a further line of the message or a note, which both follow the exception."""
    if not block.open:
        return False
    if not line or len(block.error) > _MESSAGE_LINES or _REPORT.match(line):
        block.open = False
        return False
    block.error.append(line.strip())
    return True


def _frame(match: re.Match[str]) -> tuple[str, str, str]:
    return match[1], match[2], match[3] or ""


def _of_group(blocks: Sequence[_Block], folders: Sequence[str]) -> Raised:
    """The text of the outermost group, and its first exception."""
    root = max((place for place, block in enumerate(blocks) if block.root), default=0)
    members = [block for block in blocks[root:] if block.group]
    place = next((place for place, block in enumerate(members) if not _GROUP.match(block.error[0])), 0)
    while place + 1 < len(members) and members[place + 1].linked:
        place += 1
    first = members[place]
    text = _message(first) if first is members[0] else f"{_message(members[0])}: {_message(first)}"
    return Raised(text, _place(first.frames, folders) or _place(members[0].frames, folders))


def _message(block: _Block) -> str:
    return " ".join(" ".join(block.error).split())


def _place(frames: Sequence[tuple[str, str, str]], folders: Sequence[str]) -> str:
    """The innermost frame in one of the folders; without one, the innermost that is of no library."""
    shown = ""
    for file, line, function in reversed(frames):
        if _LIBRARY.search(file):
            continue
        folder = next((folder for folder in folders if file.startswith(folder)), None)
        name = file[len(folder) :] if folder else file.removeprefix("./")
        own = "" if not function or function.startswith("<") else f", in {function}"
        place = f"{name}{':' + line if line else ''}{own}"
        if folder or not name.startswith("/"):
            return place
        shown = shown or place
    return shown


def _is_loader(frame: tuple[str, str, str]) -> bool:
    file, _, function = frame
    return "load" in function and _LOADERS.search(file) is not None
