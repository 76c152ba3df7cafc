"""Origins: repositories elsewhere that codesets are copies of.

FuseML copies the branches and tags of an origin into the codeset's repository; every move that the copy makes is a push to the codeset.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fuseml.domain import errors, urls
from fuseml.domain.registry import custody

Host = Literal["gitea", "forgejo", "github", "gitlab", "git"]
"""The product that serves the origin: each has webhooks and commit statuses of its own; `git` has none, and is only read."""

HOSTS: tuple[Host, ...] = get_args(Host)

_KNOWN: Mapping[str, Host] = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "forgejo", "gitea.com": "gitea"}
_PATH = re.compile(r"[\w.~+-]+(?:/[\w.~+-]+)*", re.ASCII)
_SERVER = re.compile(r"(?:[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*)|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_FIRST_PAUSE = 30
# 30 seconds * 2^7 is about an hour.
_MOST_DOUBLINGS = 7


@dataclass(frozen=True, slots=True)
class Origin:
    """`url` is the address for git, without an account; `base` the address of the host and `path` that of the repository below it."""

    url: str
    host: Host
    base: str
    path: str


@dataclass(frozen=True, slots=True)
class Change:
    """The move of a ref that makes the copy equal to its origin; None is a ref that does not exist."""

    ref: str
    before: str | None
    after: str | None


def read(url: str, *, endpoint: str = "", product: str = "") -> Origin:
    """The origin at an address for git. `endpoint` is the address of the registered service that covers it, `product` its product.

    Raises InvalidError for an address that is not of HTTP(S), or holds an account, a query or characters that no repository has.
    """
    address = url.strip()
    if urls.shown(address) != address:
        raise errors.InvalidError(
            "the address holds an account; register the git host with its credentials (`fuseml extension add`, category VCS) instead"
        )
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        parts = urllib.parse.SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not _SERVER.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise errors.InvalidError("the address of a repository is https://HOST/OWNER/NAME or http://..., without an account or a query")
    folder = urllib.parse.urlsplit(endpoint).path.rstrip("/") if endpoint and covers(endpoint, address) else ""
    base = f"{parts.scheme}://{parts.netloc}{folder}"
    path = parts.path[len(folder) :].strip("/").removesuffix(".git")
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise errors.InvalidError(f"{path[:100]!r} is not the path of a repository: letters, digits and ._~+- between slashes")
    host = _host(product, parts.hostname or "")
    if host in ("gitea", "forgejo", "github") and path.count("/") != 1:
        raise errors.InvalidError(f"{path[:100]!r} is not OWNER/NAME, as {host} names its repositories")
    return Origin(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", host, base, path)


def _host(product: str, name: str) -> Host:
    chosen = product.lower()
    for host in HOSTS:
        if chosen == host:
            return host
    return _KNOWN.get(name.lower(), "git")


def covers(endpoint: str, url: str) -> bool:
    """Whether an address lies below that of a service: the same scheme, host and port, and its path."""
    if custody.address(endpoint) != custody.address(url):
        return False
    try:
        above, below = (urllib.parse.urlsplit(item).path.rstrip("/") + "/" for item in (endpoint, url))
    except ValueError:
        return False
    return below.startswith(above) and ".." not in below.split("/")


def changes(origin: Mapping[str, str], copy: Mapping[str, str], kept: str = "") -> list[Change]:
    """The moves of branches and tags that make the copy equal to its origin, in the order of their names.

    An origin without any branch removes nothing: it is more likely broken than meant. `kept` is the default branch of the copy, which git hosts
    do not delete.
    """
    wanted, present = _followed(origin), _followed(copy)
    gone = sorted(present.keys() - wanted.keys() - {kept}) if any(ref.startswith("refs/heads/") for ref in wanted) else []
    moved = [Change(ref, present.get(ref), value) for ref, value in sorted(wanted.items()) if present.get(ref) != value]
    return [*moved, *(Change(ref, present[ref], None) for ref in gone)]


def _followed(refs: Mapping[str, str]) -> dict[str, str]:
    return {ref: value for ref, value in refs.items() if ref.startswith(("refs/heads/", "refs/tags/")) and not ref.endswith("^{}")}


def pause(failures: int, interval: float) -> float:
    """Seconds until the next synchronisation: the interval, or less soon after failures that follow one another."""
    return min(interval, _FIRST_PAUSE * 2 ** min(failures - 1, _MOST_DOUBLINGS)) if failures else interval
