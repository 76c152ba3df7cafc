"""Addresses of artifacts, `kind://project/name/version`, and the patterns of assignments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuseml.domain import errors

KINDS = ("code", "model", "dataset", "runnable")
_ADDRESS = re.compile(r"(code|model|dataset|runnable)://([^/*\n]+)/([^*\n]+)/([^/*\n]+)")
_PATTERN = re.compile(r"(code|model|dataset|runnable)://(\*|[^/\n]+/[^\n]+)")
_MODEL_VERSION = re.compile(r"models:/([^/@]+)/(\d+)")

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
            raise errors.InvalidError(
                f"{text!r} is not an artifact's address; examples: code://project/name/commit, model://project/name/version"
            )
        return Address(*match.groups())


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
