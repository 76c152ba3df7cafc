"""Image references: registry, repository and version; and the account for a registry from docker's configuration files.

A name without a registry is Docker Hub's, as for every container runtime.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.steps import sdk

_HUB = "docker.io"
# Docker Hub's keys in docker's configuration.
_HUB_KEYS = ("index.docker.io", "registry-1.docker.io", _HUB)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:(?P<registry>localhost|[A-Za-z0-9-]*[.:][A-Za-z0-9.:-]*|\[[0-9A-Fa-f:]+\](?::\d+)?)/)?(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class Reference:
    """An image's name; `version` is a digest or a tag, or empty."""

    registry: str
    repository: str
    version: str = ""

    @property
    def name(self) -> str:
        """The name without its version."""
        return f"{self.registry}/{self.repository}"

    def url(self, plain: Iterable[str] = ()) -> str:
        """The URL of the registry's API: plain HTTP for the registries in `plain` and for those on this machine."""
        scheme = "http" if self.registry in plain or _LOOPBACK.fullmatch(self.registry) else "https"
        return f"{scheme}://{'registry-1.docker.io' if self.registry == _HUB else self.registry}"


def parse(text: str, subject: str) -> Reference:
    """Parse an image's name. Raises StepError, whose message begins with `subject`."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise sdk.StepError(f"{subject} is '{sdk.redact(text)}', which is no image name such as registry.example.com/team/name:1")
    registry, repository = match["registry"] or _HUB, match["repository"]
    if registry == _HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, match["digest"] or match["tag"] or "")


@dataclass(frozen=True)
class Account:
    """Credentials for a registry: a password, or a refresh token (`identity`)."""

    user: str
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)


def account_files(environment: Mapping[str, str]) -> list[Path]:
    """The configuration files with accounts. Tekton writes those of the pod's service account to the last one, and copies them to HOME if it can."""
    folders = [
        environment.get("DOCKER_CONFIG", ""),
        environment.get("HOME", "") and f"{environment['HOME']}/.docker",
        "/tekton/creds/.docker",
    ]
    return [Path(folder, "config.json") for folder in folders if folder]


def account(files: Iterable[Path], image: Reference) -> Account | None:
    """The account for an image's repository: the longest matching entry of the first file with one; None without a match.

    Raises StepError for an unreadable file.
    """
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise sdk.StepError(f"cannot read the registry accounts in {file}: {error}") from error
        entry = _entry(_entries(text, file), image)
        if entry is not None:
            return _account(entry, file)
    return None


def _entries(text: str, file: Path) -> dict[str, Mapping[str, str]]:
    try:
        auths = json.loads(text).get("auths") or {}
        return {key: entry for key, entry in auths.items() if any(entry.values())}
    except (ValueError, AttributeError):
        raise sdk.StepError(f"{file} is no configuration of docker: it must be JSON with the accounts under 'auths'") from None


def _entry(entries: Mapping[str, Mapping[str, str]], image: Reference) -> Mapping[str, str] | None:
    names = {re.sub(r"^https?://|/(v[12]/?)?$", "", key): entry for key, entry in entries.items()}
    hosts = _HUB_KEYS if image.registry == _HUB else (image.registry,)
    parts = image.repository.split("/")
    for length in range(len(parts), -1, -1):
        for host in hosts:
            entry = names.get("/".join([host, *parts[:length]]))
            if entry is not None:
                return entry
    return None


def _account(entry: Mapping[str, str], file: Path) -> Account:
    user, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except ValueError:
            raise sdk.StepError(f"{file}: an 'auth' must be the base64 of user:password") from None
    return Account(user, password, entry.get("identitytoken", ""))
