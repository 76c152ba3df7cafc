"""Fetches the submodules of a checkout that lie on other hosts, as a program of its own with the reach of a step.

It runs in the root of a checkout. Its argument is a file outside of it that lists them: `[{"path": ..., "url": ..., "commit": ...}]`. Each is
fetched over HTTP(S) only, without credentials, at exactly its commit, and so are the submodules in it; all of them become plain files. One
that cannot be fetched stays an empty folder, and the log names it with the reason. Paths and addresses are those of commits: not trusted.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.steps import sdk

_MOST = 50
_DEEPEST = 5
_SECONDS = 600
_LONGEST = 300
# In the spellings of `githosts/checkout.py`.
_GIT = re.compile(r"(?i:\.git|git~\d+)[ .]*(?::.*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
# Nothing of the user's git: no credentials, no hooks, no rewritten addresses. Slow servers are given up.
_SETTINGS = {
    "credential.helper": "",
    "core.hooksPath": os.devnull,
    "core.symlinks": "true",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "advice.detachedHead": "false",
}
_VARIABLES = {
    "GIT_ALLOW_PROTOCOL": "https:http",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",
}


@dataclass(frozen=True)
class Submodule:
    """A submodule at `path` below the checkout, of the commit that the repository around it records; `depth` counts those around it."""

    path: str
    url: str
    commit: str
    depth: int = 1


class LeftOutError(Exception):
    """A submodule is not fetched, for this reason."""


def main() -> None:
    """Fetch the listed submodules of the checkout in the current folder."""
    root = Path.cwd()
    waiting = [Submodule(item["path"], item["url"], item["commit"]) for item in json.loads(Path(sys.argv[1]).read_bytes())]
    tried = 0
    while waiting:
        submodule = waiting.pop(0)
        try:
            tried += 1
            if tried > _MOST or submodule.depth > _DEEPEST:
                raise LeftOutError(f"a checkout has at most {_MOST} of them, and {_DEEPEST} inside one another")
            nested = list(fetch(root, submodule, os.environ))
        except LeftOutError as reason:
            sdk.say(f"note: the submodule {_shown(submodule.path)} is left out: {reason}")
        else:
            waiting += nested
            sdk.say(f"submodule {_shown(submodule.path)}: {_shown(_anonymous(submodule.url))} at {submodule.commit[:12]}")


def fetch(root: Path, submodule: Submodule, environment: Mapping[str, str]) -> Iterator[Submodule]:
    """Write the files of the submodule to its folder; returns the submodules in it. Raises LeftOutError; the folder is empty then."""
    url = _anonymous(submodule.url)
    if not _COMMIT.fullmatch(submodule.commit):
        raise LeftOutError("its commit is not recorded")
    folder = _folder(root, submodule.path)
    git = _Git(folder, environment)
    try:
        git.run("init", "--quiet", "--template=")
        try:
            git.run("fetch", "--quiet", "--no-tags", "--depth=1", url, submodule.commit)
        except LeftOutError:
            # Not every host serves a commit by its id; its branches and tags may contain it, too.
            git.run("fetch", "--quiet", "--no-tags", url, "+refs/heads/*:refs/all/*", "+refs/tags/*:refs/tags/*")
        git.run("checkout", "--quiet", "--force", "--detach", submodule.commit)
        found = list(_nested(git, submodule, url))
        shutil.rmtree(folder / ".git")
    except LeftOutError:
        _empty(folder)
        raise
    return iter(found)


def _folder(root: Path, path: str) -> Path:
    """The folder of a submodule. Raises LeftOutError unless it is an empty one below `root`, and no link leads to it."""
    place = f"{os.path.realpath(root)}/{path}"
    inside = path and "\0" not in path and os.path.realpath(place) == place
    if not inside or any(_GIT.fullmatch(part) for part in path.split("/")):
        raise LeftOutError("its path is not that of a folder of the codeset; change it in .gitmodules")
    folder = Path(place)
    if not folder.is_dir() or any(folder.iterdir()):
        raise LeftOutError("its folder is missing or has files of the codeset")
    return folder


def _shown(text: str) -> str:
    """Text of a commit in a line of the log."""
    return "".join(character if character.isprintable() else "?" for character in text[:_LONGEST])


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _anonymous(url: str) -> str:
    """The address without user and password. Raises LeftOutError unless it is one of HTTP(S)."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise LeftOutError("its address is no URL; change it in .gitmodules") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = f"{_shown(parts.scheme)}://" if "://" in url else "ssh" if re.match(r"[\w.-]+@[\w.-]+:", url) else "this kind"
        raise LeftOutError(f"only addresses of https and http are fetched, none of {shown}; change it in .gitmodules")
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _nested(git: _Git, parent: Submodule, url: str) -> Iterator[Submodule]:
    """The submodules of the checked out commit."""
    entries = [line.split(b"\t", 1) for line in git.output("ls-tree", "-r", "-z", "HEAD").split(b"\0") if line.startswith(b"160000 ")]
    commits = {path: words.split()[2].decode() for words, path in entries}
    if not commits:
        return
    try:
        listed = git.output("config", "--no-includes", "--blob", "HEAD:.gitmodules", "-z", "--get-regexp", r"^submodule\..*\.(path|url)$")
    except LeftOutError:
        return
    values: dict[bytes, dict[bytes, bytes]] = {}
    for line in listed.split(b"\0"):
        key, _, value = line.partition(b"\n")
        name, _, field = key.rpartition(b".")
        values.setdefault(name, {})[field] = value
    for item in values.values():
        path, address = item.get(b"path", b""), item.get(b"url", b"")
        if path in commits and address:
            below = f"{parent.path}/{os.fsdecode(path)}"
            yield Submodule(below, _resolved(os.fsdecode(address), url), commits[path], parent.depth + 1)


def _resolved(address: str, parent: str) -> str:
    """The address as git resolves it: relative to that of the repository around the submodule."""
    if not address.startswith(("./", "../")):
        return address
    parts = urllib.parse.urlsplit(parent)
    return urllib.parse.urlunsplit(parts._replace(path=posixpath.normpath(posixpath.join(parts.path, address))))


class _Git:
    """git in the folder of a submodule, with the network and certificates of the environment, and nothing else of it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        kept = {name: value for name, value in environment.items() if not name.startswith(("GIT_", "SSH_")) or name.startswith("GIT_SSL_")}
        if "SSL_CERT_FILE" in kept:
            kept.setdefault("GIT_SSL_CAINFO", kept["SSL_CERT_FILE"])
        settings = {"GIT_CONFIG_COUNT": str(len(_SETTINGS))}
        for number, (name, value) in enumerate(_SETTINGS.items()):
            settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        # Only this folder is a repository: the checkout around it may be another.
        self._environment = {**kept, **_VARIABLES, **settings, "GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(folder)}

    def run(self, *arguments: str) -> None:
        self.output(*arguments)

    def output(self, *arguments: str) -> bytes:
        """The standard output of a command. Raises LeftOutError with git's reason."""
        try:
            ended = subprocess.run(
                ["git", *arguments],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise LeftOutError("git is not installed on this machine") from None
        except subprocess.TimeoutExpired:
            raise LeftOutError(f"git {arguments[0]} did not end within {_SECONDS} s") from None
        if ended.returncode != 0:
            raise LeftOutError(_reason(ended.stderr.decode(errors="replace").splitlines()) or f"git {arguments[0]} failed")
        return ended.stdout


def _reason(lines: Sequence[str]) -> str:
    return next((" ".join(line.split())[:300] for line in reversed(lines) if line.strip()), "")


if __name__ == "__main__":
    sdk.run(main)
