"""Origins: repositories elsewhere that codesets are copies of.

FuseML copies the branches and tags of an origin into the codeset's repository; every move that the copy makes is a push to the codeset.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fuseml.domain import errors, urls
from fuseml.domain.registry import custody

Host = Literal["gitea", "forgejo", "github", "gitlab", "git"]
"""The product that serves the origin: each has webhooks and commit statuses of its own; `git` has none, and is only read."""

HOSTS: tuple[Host, ...] = get_args(Host)

_KNOWN: Mapping[str, Host] = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "forgejo", "gitea.com": "gitea"}
_FLAT: Sequence[Host] = ("gitea", "forgejo", "github")
_PATH = re.compile(r"[\w.~+-]+(?:/[\w.~+-]+)*", re.ASCII)
_SERVER = re.compile(r"(?:[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*)|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}", re.ASCII)
# The rules of `git check-ref-format`, and names that are not UTF-8.
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[./]$")
_LONGEST_REF = 1024
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
    host = _host(product, parts.hostname or "")
    rest = parts.path[len(folder) :].strip("/").removesuffix(".git")
    if folder and ((parts.hostname or "").lower() in _KNOWN or (host in _FLAT and "/" not in rest)):
        # The service is that of an owner, not of a host below a folder.
        folder, _, owner = ("", "", folder[1:]) if host not in _FLAT else folder.rpartition("/")
        rest = f"{owner}/{rest}"
    base, path = f"{parts.scheme}://{parts.netloc}{folder}", rest
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise errors.InvalidError(f"{path[:100]!r} is not the path of a repository: letters, digits and ._~+- between slashes")
    if host in _FLAT and path.count("/") != 1:
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


def is_followed(ref: str) -> bool:
    """Whether a ref is a branch or a tag, and not the commit of an annotated tag."""
    return ref.startswith(("refs/heads/", "refs/tags/")) and not ref.endswith("^{}")


def ref_fault(name: str) -> str:
    """The reason why a ref of an origin is not followed; empty for one that is.

    What an origin names is sent to the copy's host, in packets whose length is bounded: only names by git's own rules are.
    """
    if len(name) > _LONGEST_REF:
        return f"its name has more than {_LONGEST_REF} characters"
    if _NO_REF.search(name):
        return "git does not allow its name"
    return ""


def is_object_id(text: str) -> bool:
    """Whether the text is an object id of SHA-1, in git's form."""
    return _OBJECT_ID.fullmatch(text) is not None


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
    return {ref: value for ref, value in refs.items() if is_followed(ref)}


def pause(failures: int, interval: float) -> float:
    """Seconds until the next synchronisation: the interval, or less soon after failures that follow one another."""
    return min(interval, _FIRST_PAUSE * 2 ** min(failures - 1, _MOST_DOUBLINGS)) if failures else interval
