"""From the instructions of a Dockerfile and the configuration of its base to the files to copy and the new configuration. Pure."""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.steps import layers, sdk
from fuseml.steps.dockerfiles import stages
from fuseml.steps.dockerfiles.syntax import Dockerfile, Instruction, UnsupportedError, expand, words

_SHELL = ["/bin/sh", "-c"]
_OWNER = re.compile(r"(\d{1,9})(?::(\d{1,9}))?")
_MODE = re.compile(r"0?[0-7]{3,4}")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|git@", re.IGNORECASE)
_COPY_FLAGS = frozenset({"chown", "chmod", "link"})


@dataclass(frozen=True)
class Copy:
    """Files of the codeset that go to `target`, an absolute path: a folder if the path was written with a slash at its end.

    `owner` is a user and a group. Without a `mode`, files keep the right of execution only. `unpacks` is whether archives would be unpacked.
    """

    instruction: Instruction
    sources: tuple[str, ...]
    target: str
    is_folder: bool
    owner: tuple[int, int] = (0, 0)
    mode: int | None = None
    unpacks: bool = False


@dataclass
class Image:
    """The new configuration of an image, its copies in order, the folders that it names by WORKDIR, and notes for the log."""

    config: layers.Document
    author: str = ""
    copies: list[Copy] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def unsupported(dockerfile: Dockerfile) -> str:
    """The reason for which a program that builds images is needed, as far as the file alone decides; empty without one."""
    stages = [item for item in dockerfile.instructions if item.keyword == "FROM"]
    if len(stages) > 1:
        return f"it has several stages ({stages[1]})"
    for item in dockerfile.instructions:
        if item.keyword in ("RUN", "ONBUILD"):
            return str(item)
        if item.heredoc:
            return f"{item} has a here-document"
        if item.keyword in ("COPY", "ADD") and (flags := [name for name in item.flags if name not in _COPY_FLAGS]):
            return f"{item} has the flag --{flags[0]}"
    return ""


def image(dockerfile: Dockerfile, configuration: layers.Document) -> Image:
    """The image on a base with this configuration. Raises StepError for a faulty instruction, UnsupportedError."""
    return _Reading(dockerfile, configuration).read()


class _Reading:
    """The state between instructions: the configuration so far, and the arguments."""

    def __init__(self, dockerfile: Dockerfile, configuration: layers.Document) -> None:
        self._escape = dockerfile.escape
        start = next(index for index, item in enumerate(dockerfile.instructions) if item.keyword == "FROM")
        self._instructions = dockerfile.instructions[start + 1 :]
        self._defaults = stages.before(dockerfile)
        self._arguments: dict[str, str] = {}
        self._image = Image(copy.deepcopy(configuration.get("config") or {}))
        self._has_command = False

    def read(self) -> Image:
        if self._config.get("OnBuild"):
            raise UnsupportedError("its base has ONBUILD instructions")
        table: Mapping[str, Callable[[Instruction], None]] = {
            "ADD": self._copy,
            "ARG": self._arg,
            "CMD": self._cmd,
            "COPY": self._copy,
            "ENTRYPOINT": self._entrypoint,
            "ENV": self._env,
            "EXPOSE": self._expose,
            "HEALTHCHECK": self._healthcheck,
            "LABEL": self._label,
            "MAINTAINER": self._maintainer,
            "SHELL": self._shell,
            "STOPSIGNAL": self._stopsignal,
            "USER": self._user,
            "VOLUME": self._volume,
            "WORKDIR": self._workdir,
        }
        for item in self._instructions:
            table[item.keyword](item)
        return self._image

    @property
    def _config(self) -> layers.Document:
        return self._image.config

    @property
    def _variables(self) -> dict[str, str]:
        """Variables win over arguments."""
        return {**self._arguments, **_pairs(self._config.get("Env") or [])}

    def _text(self, text: str) -> str:
        return expand(text, self._variables, self._escape)

    def _words(self, item: Instruction) -> list[str]:
        return [self._text(word) for word in (item.listed if item.listed is not None else words(item.text, self._escape))]

    def _arg(self, item: Instruction) -> None:
        for word in words(item.text, self._escape):
            name = word.partition("=")[0]
            # Arguments before FROM have their values within the stage only where it names them again.
            inner = stages.arguments(Instruction(item.line, item.keyword, word, {}), self._variables, self._escape)
            self._arguments |= inner or ({name: self._defaults[name]} if name in self._defaults else {})

    def _named(self, item: Instruction) -> dict[str, str]:
        """The pairs of ENV or LABEL: `NAME=VALUE ...`, or the old form `NAME VALUE`."""
        found = words(item.text, self._escape)
        if "=" not in found[0]:
            name, value = found[0], item.text[len(found[0]) :].strip()
            if not value:
                raise sdk.StepError(f"{item}: '{item.text[:60]}' has no value; write NAME=VALUE")
            return {self._text(name): self._text(value)}
        pairs = [word.partition("=") for word in found]
        if wrong := next((word for word, (_, equals, _) in zip(found, pairs, strict=True) if not equals), None):
            raise sdk.StepError(f"{item}: '{wrong[:60]}' is not NAME=VALUE")
        # All values of one instruction see the variables before it.
        return {self._text(name): self._text(value) for name, _, value in pairs}

    def _env(self, item: Instruction) -> None:
        variables = {**_pairs(self._config.get("Env") or []), **self._named(item)}
        self._config["Env"] = [f"{name}={value}" for name, value in variables.items()]

    def _label(self, item: Instruction) -> None:
        self._config["Labels"] = {**(self._config.get("Labels") or {}), **self._named(item)}

    def _maintainer(self, item: Instruction) -> None:
        self._image.author = item.text

    def _workdir(self, item: Instruction) -> None:
        path = self._absolute(self._text(item.text))
        self._config["WorkingDir"] = path
        self._image.folders.add(path)

    def _absolute(self, path: str) -> str:
        joined = posixpath.normpath(posixpath.join("/", self._config.get("WorkingDir") or "/", path))
        # POSIX keeps two slashes at the beginning.
        return f"/{joined.lstrip('/')}"

    def _user(self, item: Instruction) -> None:
        self._config["User"] = self._text(item.text)

    def _expose(self, item: Instruction) -> None:
        ports = dict(self._config.get("ExposedPorts") or {})
        for text in (part for word in self._words(item) for part in word.split()):
            match = _PORTS.fullmatch(text)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if match is None or not 0 < first <= last <= 65535:
                raise sdk.StepError(f"{item}: '{text[:40]}' is no port, such as 8080 or 8080/udp")
            ports |= {f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)}
        self._config["ExposedPorts"] = ports

    def _volume(self, item: Instruction) -> None:
        self._config["Volumes"] = {**(self._config.get("Volumes") or {}), **{path: {} for path in self._words(item) if path}}

    def _stopsignal(self, item: Instruction) -> None:
        self._config["StopSignal"] = self._text(item.text)

    def _healthcheck(self, item: Instruction) -> None:
        self._image.notes.append(f"{item} has no effect: images of the OCI format have none")

    def _shell(self, item: Instruction) -> None:
        if not item.listed:
            raise sdk.StepError(f'{item}: write a list of words, ["/bin/sh", "-c"]')
        self._config["Shell"] = item.listed

    def _program(self, item: Instruction) -> list[str]:
        return item.listed if item.listed is not None else [*(self._config.get("Shell") or _SHELL), item.text]

    def _cmd(self, item: Instruction) -> None:
        self._config["Cmd"] = self._program(item)
        self._has_command = True

    def _entrypoint(self, item: Instruction) -> None:
        self._config["Entrypoint"] = self._program(item)
        if not self._has_command:
            # The command of the base is that of its own entry point.
            self._config.pop("Cmd", None)

    def _copy(self, item: Instruction) -> None:
        found = self._words(item)
        if len(found) < 2:
            raise sdk.StepError(f"{item}: '{item.text[:100]}' has no target; write {item.keyword} SOURCE TARGET")
        *sources, target = found
        remote = next((source for source in sources if _URL.match(source)), None)
        if remote is not None and item.keyword == "ADD":
            raise UnsupportedError(f"{item} fetches {sdk.redact(remote)[:100]}")
        is_folder = target.endswith(("/", "/.")) or target in (".", "..")
        if len(sources) > 1 and not is_folder:
            raise sdk.StepError(f"{item}: several sources need a folder: write '{target[:100]}/'")
        owner, mode = (expand(item.flags.get(flag, ""), self._variables, self._escape) for flag in ("chown", "chmod"))
        self._image.copies.append(
            Copy(
                item,
                tuple(sources),
                self._absolute(target),
                is_folder,
                _owner(item, owner),
                _mode(item, mode),
                unpacks=item.keyword == "ADD",
            )
        )


def _pairs(variables: Sequence[str]) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in variables)


def _owner(item: Instruction, text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    match = _OWNER.fullmatch(text)
    if match is None:
        # Names are in files of the base.
        raise UnsupportedError(f"{item} has an owner by name ({text[:40]}; numbers need no program)")
    return int(match[1]), int(match[2] or match[1])


def _mode(item: Instruction, text: str) -> int | None:
    if text and not _MODE.fullmatch(text):
        raise UnsupportedError(f"{item} has the mode {text[:40]} (octal digits need no program)")
    return int(text, 8) if text else None
