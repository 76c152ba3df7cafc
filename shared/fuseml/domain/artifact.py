"""Addresses of artifacts, `kind://project/name/version`, references by tag, `kind://project/name@tag`, and the patterns of assignments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from fuseml.domain import errors

Kind = Literal["code", "model", "dataset", "runnable", "image"]
KINDS: tuple[str, ...] = get_args(Kind)

STORE_CATEGORY = "artifact-store"
"""The category of the services that hold artifacts."""

_KIND = "|".join(KINDS)
# A version holds no @: the last segment of a reference by tag has one.
_ADDRESS = re.compile(rf"({_KIND})://([^/*\n]+)/([^*\n]+)/([^/*@\n]+)")
_TAGGED = re.compile(rf"({_KIND})://([^/*\n]+)/([^*\n]*[^/*\n])@([^/*@\n]+)")
_PATTERN = re.compile(rf"({_KIND})://(\*|[^/\n]+/[^\n]+)")
_MODEL_VERSION = re.compile(r"models:/([^/@]+)/(\d+)")

_SCHEME = re.compile(r"([^/\n]{0,20}):/")

LONGEST = 500
"""Characters of an address that is registered."""

DIGEST = "sha256:[0-9a-f]{64}"
"""The pattern of the digest of a model's files."""


@dataclass(frozen=True, slots=True)
class Address:
    """The identity of an artifact. A name may hold slashes; a version (commit, model version) may not."""

    kind: str
    project: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind}://{self.project}/{self.name}/{self.version}"

    @staticmethod
    def parse(text: str) -> Address:
        """Raises InvalidError with examples of addresses."""
        match = _ADDRESS.fullmatch(text)
        if not match:
            raise errors.InvalidError(f"{text[:LONGEST]!r} is not an artifact's address{_reason(text)}; {_EXAMPLES}")
        return Address(*match.groups())


@dataclass(frozen=True, slots=True)
class Tagged:
    """A reference by tag, which can move. It is resolved to an `Address` before anything uses it."""

    kind: str
    project: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.kind}://{self.project}/{self.name}@{self.tag}"


def reference(text: str) -> Address | Tagged:
    """An address, or a reference by tag. Raises InvalidError with examples."""
    match = _TAGGED.fullmatch(text)
    return Tagged(*match.groups()) if match else Address.parse(text)


_EXAMPLES = "examples: code://project/name/commit, model://project/name/version, model://project/name@tag"


def _reason(text: str) -> str:
    """The fault of a text that is no address, where it is a common one."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] not in KINDS:
        return f": {scheme[1]!r} is no kind of artifact ({', '.join(KINDS)})"
    if _TAGGED.fullmatch(text):
        return ": it names a tag, not a version"
    if scheme and re.fullmatch(r"[^/*\n]+/[^/*\n]+", text.partition("://")[2]):
        return ": it names no version"
    return ""


def check_new(address: Address) -> Address:
    """Return the address if a caller may register it: it is bounded, and every URL can hold it. Raises InvalidError."""
    text, segments = str(address), [address.project, *address.name.split("/"), address.version]
    if len(text) > LONGEST:
        raise errors.InvalidError(f"the address has {len(text)} characters; the limit is {LONGEST}")
    if any(segment in ("", ".", "..") or segment != segment.strip() for segment in segments):
        raise errors.InvalidError(f"{text!r} has a segment that is empty, a dot segment, or begins or ends with a space")
    if not text.isprintable() or re.search(r"[\\%?#;]", text):
        raise errors.InvalidError(f"{text!r} holds a control character or one of \\ % ? # ;")
    return address


def code(project: str, codeset: str, commit: str) -> Address:
    """A codeset version."""
    return Address("code", project, codeset, commit)


def model_of(project: str, value: str) -> Address | None:
    """The address of a registered MLflow model version, `models:/name/version`; None for any other text."""
    match = _MODEL_VERSION.fullmatch(value)
    return Address("model", project, match[1], match[2]) if match else None


def digest_of(text: object) -> str | None:
    """The text if it is the digest of a model's files; None for any other text."""
    return text if isinstance(text, str) and re.fullmatch(DIGEST, text) else None


def dataset_of(project: str, value: str) -> Address | None:
    """The dataset of the project that `value` is the address of; None for any other text."""
    address = named_in(project, value)
    return address if address and address.kind == "dataset" else None


def named_in(project: str, value: str) -> Address | None:
    """The artifact of the project that `value` is the address of; None for any other text."""
    match = _ADDRESS.fullmatch(value)
    return Address(*match.groups()) if match and match[2] == project else None


def check_pattern(text: str) -> str:
    """Return `text` if it is a pattern: `code://project/codeset`, `model://project/*`, `code://*`. Raises InvalidError."""
    if not _PATTERN.fullmatch(text):
        raise errors.InvalidError(f"{text!r} is not a pattern; examples: code://project/codeset, code://project/*, model://*")
    return text


def matches(pattern: str, kind: str, project: str, name: str) -> bool:
    """Whether an artifact of this kind, project and name matches the pattern. `*` matches any characters."""
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, f"{kind}://{project}/{name}", re.DOTALL) is not None
