"""Environments as requirements for uv, and the outline of requirements files.

uv reads the files; this module follows the same files and finds the requirements, what they include, and the parts of the codeset that they
install. Equivalent files give equal outlines and so equal keys, whatever their order, spelling and comments. A line that it cannot read is
left to uv, which knows more forms and names the faults.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import packaging.requirements
import packaging.utils

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout

_INCLUDES = ("-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints")
_EDITABLE = ("-e", "--editable")
_LINKS = ("-f", "--find-links")
_OPTION = re.compile(r"^(--[\w-]+)(?:[ =]\s*(.*))?$|^(-[A-Za-z])\s*(.*)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(whl|zip|tar\.gz|tar\.bz2|tgz)$")
# Options about where packages come from: they leave open whether an environment has the requirements.
_SOURCES = re.compile(
    r"-i\b|-f\b|--(index-url|extra-index-url|find-links|trusted-host|no-index|pre|prefer-binary|no-binary|only-binary|require-hashes|use-feature)\b"
)


@dataclass(frozen=True)
class Environment:
    """The environment of the file `source`: how uv installs it, and its outline.

    `arguments` are those of the `uv` command; `text` is its standard input, `folder` its folder in the codeset. A `locked` environment takes
    no further requirements in that command. `python` is a specifier such as `==3.11.*`, empty for any. `pins` are constraints, `additions`
    requirements of FuseML. The rest is the outline, sorted, without duplicates: `opaque` lines only uv can read, `contents` are digests of
    what is installed from the codeset. `conda` is the file that micromamba can read. `accelerator` is empty unless the file chooses one.
    """

    source: str
    python: str = ""
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    text: str = ""
    folder: str = ""
    pins: tuple[str, ...] = ()
    additions: tuple[str, ...] = ()
    locked: bool = False
    conda: str = ""
    accelerator: str = ""

    def key(self, **inputs: str) -> str:
        """16 hexadecimal digits of a digest of this environment and the inputs of its build."""
        content = [
            self.python,
            self.requirements,
            self.constraints,
            self.opaque,
            self.contents,
            self.pins,
            self.additions,
            self.accelerator,
        ]
        return hashlib.sha256(json.dumps([*content, sorted(inputs.items())]).encode()).hexdigest()[:16]

    def names(self) -> set[str]:
        """The normalised names of the direct requirements."""
        return {name_of(line) for line in self.requirements}

    def own(self) -> list[str]:
        """The opaque lines that install something; the others choose sources."""
        return [line for line in self.opaque if not _SOURCES.match(line)]

    def installs_codeset(self) -> bool:
        """Whether it may install a part of the codeset."""
        return bool(self.own()) or any(re.search(r"@ (\.|file:)", line) for line in self.requirements)


def bare(line: str) -> str:
    """The requirement of a line, without its options."""
    return line.partition(" --")[0]


@dataclass
class _Outline:
    files: checkout.Files
    folder: str = ""
    requirements: set[str] = field(default_factory=set)
    constraints: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def of(self, environment: Environment) -> Environment:
        return replace(
            environment,
            requirements=tuple(sorted(self.requirements)),
            constraints=tuple(sorted(self.constraints)),
            opaque=tuple(sorted({*environment.opaque, *self.opaque})),
            contents=tuple(sorted({*environment.contents, *self.contents})),
            notes=(*environment.notes, *self.notes),
        )


def of_file(name: str, files: checkout.Files) -> Environment:
    """The environment of a requirements file. Raises StepError naming the file that cannot be read or is outside the codeset."""
    environment = Environment(name, arguments=("pip", "install", "--no-editable", "--requirements", name))
    outline = _Outline(files)
    _scan(files.read(name).splitlines(), name, posixpath.dirname(name), outline, (name,))
    return outline.of(environment)


def of_lines(environment: Environment, lines: Sequence[str], key: str, files: checkout.Files) -> Environment:
    """The environment with these lines of a requirements file, whose paths are relative to the environment's folder."""
    outline = _Outline(files, environment.folder)
    _scan(lines, key, environment.folder, outline, (environment.source,))
    read = outline.of(environment)
    if not lines:
        return read
    arguments = ("pip", "install", "--no-editable", "--requirements", "-")
    return replace(read, arguments=arguments, text="".join(f"{line}\n" for line in lines))


def outlined(environment: Environment, lines: Iterable[str], key: str, files: checkout.Files) -> Environment:
    """The environment with the outline of these lines; it is installed by its own arguments."""
    outline = _Outline(files, environment.folder)
    _scan(lines, key, environment.folder, outline, (environment.source,))
    return outline.of(environment)


def _scan(lines: Iterable[str], key: str, folder: str, outline: _Outline, seen: tuple[str, ...], limits: bool = False) -> None:
    for raw in _joined(lines):
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        option = _OPTION.match(line)
        name, value = (option[1] or option[3], (option[2] or option[4] or "").strip().strip("\"'")) if option else ("", "")
        if name in _INCLUDES:
            _include(value, line, key, folder, outline, seen, limits or "c" in name[:3])
        elif name in _EDITABLE:
            outline.notes.append(f"{key}: '{line}' is installed as a copy: an environment outlives the checkout")
            outline.opaque.add(value)
            _content(value, key, outline)
        elif name:
            outline.opaque.add(line)
            if name in _LINKS:
                _links(value, folder, outline)
        elif line:
            _requirement(line, key, outline, limits)


def _joined(lines: Iterable[str]) -> list[str]:
    """The lines with continuations (a trailing backslash) joined, as in pip."""
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def _include(name: str, line: str, key: str, folder: str, outline: _Outline, seen: tuple[str, ...], limits: bool) -> None:
    if _URL.match(name) or "${" in name:
        outline.opaque.add(line)
        outline.notes.append(f"{key}: '{line}': a change of that file is noticed only when another file changes")
        return
    path = checkout.joined(folder, name, key, outline.files.above)
    if path in seen:
        raise sdk.StepError(f"{key}: '{line}': the file includes itself; remove this line")
    if not outline.files.has(path):
        raise sdk.StepError(f"{key}: '{line}': there is no file '{path}' in the codeset; the path is relative to the file that includes it")
    if path.endswith((".toml", ".py", ".cfg")):
        outline.opaque.add(line)
        outline.contents.add(f"{path} {outline.files.digest(path)}")
        return
    _scan(outline.files.read(path).splitlines(), path, posixpath.dirname(path), outline, (*seen, path), limits)


def _requirement(line: str, key: str, outline: _Outline, limits: bool) -> None:
    text, *options = (part.strip() for part in re.split(r"\s(?=--\w)", line))
    try:
        parsed = packaging.requirements.Requirement(text)
    except packaging.requirements.InvalidRequirement:
        outline.opaque.add(line)
        _content(text.partition(";")[0].strip(), key, outline)
        return
    if parsed.url and not _URL.match(parsed.url):
        _content(parsed.url, key, outline)
    parsed.name = packaging.utils.canonicalize_name(parsed.name)
    (outline.constraints if limits else outline.requirements).add(" ".join([str(parsed), *sorted(options)]))


def _content(path: str, key: str, outline: _Outline) -> None:
    """Note the digest of a path of the codeset that is installed; it is relative to the folder of uv, whichever file names it."""
    path = re.split(r"[\[#]", path, maxsplit=1)[0]
    if _URL.match(path) or not (path.startswith((".", "file:")) or "/" in path or _ARCHIVE.search(path)):
        return
    inside = checkout.joined(outline.folder, path.removeprefix("file:"), key, outline.files.above)
    if outline.files.has(inside):
        outline.contents.add(f"{inside} {outline.files.digest(inside)}")


def _links(path: str, folder: str, outline: _Outline) -> None:
    for inside in dict.fromkeys(posixpath.normpath(posixpath.join(start, path)) for start in (folder, outline.folder)):
        if not _URL.match(path) and not inside.startswith(("..", "/")) and outline.files.has(inside):
            outline.contents.add(f"{inside} {outline.files.digest(inside)}")


def with_opaque(environment: Environment, lines: Iterable[str]) -> Environment:
    """The environment with further lines that only its installer can read."""
    return replace(environment, opaque=tuple(sorted({*environment.opaque, *lines})))


def merged(environment: Environment, other: Environment, *, extra: Sequence[str], text: str = "") -> Environment:
    """The environment with the outline of both, and with further arguments and the text of standard input."""
    return replace(
        environment,
        opaque=tuple(sorted({*environment.opaque, *other.opaque})),
        contents=tuple(sorted({*environment.contents, *other.contents})),
        arguments=(*environment.arguments, *extra),
        text=text,
    )


def added(environment: Environment, lines: Iterable[str], reason: str) -> Environment:
    """The environment with those requirements that it does not list; `reason` is a clause about them for the note."""
    listed = environment.names() | {name_of(line) for line in environment.additions}
    missing = [line for line in lines if name_of(line) not in listed]
    if not missing:
        return environment
    note = f"{environment.source} does not list {', '.join(missing)}, {reason}: it is added"
    return replace(environment, additions=(*environment.additions, *missing), notes=(*environment.notes, note))


def name_of(line: str) -> str:
    """The normalised name of a requirement."""
    return packaging.utils.canonicalize_name(packaging.requirements.Requirement(bare(line)).name)
