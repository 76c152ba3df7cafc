"""Pushes of code by the `git` program: from a folder, which becomes a codeset version, or from a checkout.

git reads the credentials as an HTTP header from its environment. They never appear in an argument, a remote's URL or a file.
A pushed folder is only read.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.domain import errors, urls

BRANCH = "main"

_OIDS_AT_ONCE = 500
_DEFAULT_IDENTITY = {"NAME": "FuseML", "EMAIL": "fuseml@localhost"}
# git sets these for its hooks. Inherited, they would direct commands to the repository whose hook runs this client.
_LOCAL_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE")


@dataclass(frozen=True, slots=True)
class PushResult:
    """The codeset version that `main` points to after a push; `changed` is False when `main` pointed to it before."""

    commit: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """A codeset's repository and its credentials. `git` inherits `environment` (PATH, HOME, proxies)."""

    url: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self, *arguments: str, folder: Path, extra: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """The stripped standard output of a git command in `folder`.

        Raises UnauthenticatedError, ForbiddenError, NotFoundError, ConflictError, TemporaryError or PermanentError by git's error message.
        """
        try:
            process = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                env={**self._variables(), **(extra or {})},
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise errors.PermanentError("pushing code needs the `git` program, which was not found; install git") from None
        if process.returncode != 0:
            raise _error(arguments[0], urls.shown(self.url), urls.shown(process.stderr))
        return process.stdout.strip()

    def clone(self, folder: Path) -> None:
        """Check `main` out into `folder`; an empty repository is cloned, too."""
        self.run("clone", "--quiet", self.url, str(folder), folder=folder.parent)
        self.run("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}", folder=folder)

    def commit(self, folder: Path, message: str) -> str:
        """Commit all changes in the checkout; the commit's id."""
        self.run("add", "--all", folder=folder)
        self.run("commit", "--quiet", f"--message={message}", folder=folder, extra=self._identity(folder))
        return self.run("rev-parse", "HEAD", folder=folder)

    def push(self, folder: Path, revision: str = "HEAD") -> None:
        """Push a commit to `main`. Raises ConflictError when `main` has moved meanwhile."""
        self.run("push", "--quiet", self.url, f"{revision}:refs/heads/{BRANCH}", folder=folder)

    def push_folder(self, location: Path, message: str) -> PushResult:
        """Push exactly the files of the folder as the newest version on `main`.

        `.gitignore` excludes files. Identical content pushes nothing. Raises InvalidError when there is no file to push.
        """
        if not location.is_dir():
            raise errors.InvalidError(f"{location} is not a folder")
        with tempfile.TemporaryDirectory(prefix="fuseml-push-") as scratch:
            repository = Path(scratch)
            self.run("init", "--quiet", f"--initial-branch={BRANCH}", folder=repository)
            head = self.run("ls-remote", self.url, f"refs/heads/{BRANCH}", folder=repository).partition("\t")[0]
            if head:
                self.run("fetch", "--quiet", "--no-tags", self.url, f"refs/heads/{BRANCH}", folder=repository)
                head = self.run("rev-parse", "FETCH_HEAD", folder=repository)
            # The folder is the work tree of the scratch repository: its own .git, if any, is neither read nor written.
            work_tree = {"GIT_DIR": str(repository / ".git"), "GIT_WORK_TREE": str(location)}
            self.run("add", "--all", ".", folder=location, extra=work_tree)
            if not self.run("ls-files", "--cached", folder=location, extra=work_tree):
                raise errors.InvalidError(f"{location} contains no files to push (or .gitignore excludes them all)")
            tree = self.run("write-tree", folder=repository)
            if head and tree == self.run("rev-parse", f"{head}^{{tree}}", folder=repository):
                return PushResult(head, False)
            parent = ["-p", head] if head else []
            commit = self.run("commit-tree", *parent, tree, folder=repository, extra=self._identity(repository), stdin=message)
            self._push_contents(repository)
            self.push(repository, commit)
            return PushResult(commit, True)

    def _push_contents(self, repository: Path) -> None:
        """Push the contents that `git add` has left to git-lfs. Its own hook does not run."""
        oids = sorted(path.name for path in (repository / ".git" / "lfs" / "objects").glob("*/*/*"))
        for first in range(0, len(oids), _OIDS_AT_ONCE):
            self.run("lfs", "push", "--object-id", self.url, *oids[first : first + _OIDS_AT_ONCE], folder=repository)

    def _variables(self) -> dict[str, str]:
        settings = [
            ("credential.helper", ""),
            # Hooks and signing that the user has configured for other repositories do not apply to a codeset version.
            ("core.hooksPath", "/dev/null"),
            ("commit.gpgSign", "false"),
            ("advice.detachedHead", "false"),
        ]
        if self.password:
            secret = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            settings.append((f"http.{self.url}.extraHeader", f"Authorization: Basic {secret}"))
        variables = {key: value for key, value in self.environment.items() if key not in _LOCAL_VARIABLES}
        first = int(variables.get("GIT_CONFIG_COUNT") or 0)
        for index, (key, value) in enumerate(settings, first):
            variables |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
        count = str(first + len(settings))
        return {**variables, "GIT_CONFIG_COUNT": count, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C"}

    def _identity(self, folder: Path) -> Mapping[str, str]:
        """Variables for a default author and committer; none where the user has configured git's identity."""
        try:
            self.run("config", "user.email", folder=folder)
        except errors.FusemlError:
            names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _DEFAULT_IDENTITY.items()}
            return {key: value for key, value in names.items() if key not in self.environment}
        return {}


def clone_source(location: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Clone the newest version of a public repository, as the source of a codeset."""
    # Every user of the machine can read the arguments of a program.
    url, username, password = urls.split(location)
    Remote(url, username, password, environment).run("clone", "--quiet", "--depth=1", url, str(folder), folder=folder.parent)


def _error(command: str, url: str, stderr: str) -> errors.FusemlError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    message = "; ".join(_important(lines)) or "git printed no message"
    text = stderr.lower()
    if "authentication failed" in text or "could not read username" in text or "error: 401" in text:
        return errors.UnauthenticatedError(f"{url} refused the credentials for git {command}")
    if "error: 403" in text:
        return errors.ForbiddenError(f"{url} does not allow git {command} with these credentials")
    if "not found" in text and ("repository" in text or "error: 404" in text):
        return errors.NotFoundError(f"there is no git repository at {url}")
    if "[rejected]" in text or "non-fast-forward" in text or "fetch first" in text:
        return errors.ConflictError(f"{url} has received another push meanwhile; push again")
    if "failed to connect" in text or "couldn't connect" in text or "could not resolve host" in text:
        return errors.TemporaryError(f"no git server answers at {url}: {message}")
    return errors.PermanentError(f"git {command} failed: {message}")


def _important(lines: Sequence[str]) -> Sequence[str]:
    messages = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "!"))]
    return (messages or lines)[-3:]
