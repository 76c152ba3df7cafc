"""The git host of a cluster: Gitea, or the compatible Forgejo. A project is a private organisation, a codeset a repository in it.

Management uses the REST API. Code uses git's own protocol, because the attributes of a codeset can change the content of archives. All
calls are idempotent.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fuseml.domain import commit_statuses, errors, plans, pushes, urls
from fuseml.domain.documents import document
from fuseml.domain.plans import step_cache
from fuseml.githosts import checkout, first_commit, gitea_api, gitea_commits, gitea_feed, history, limits
from fuseml.githosts.origins.gitea import body as status_body
from fuseml.githosts.port import Commit, Push

if TYPE_CHECKING:
    from dulwich.client import DetermineWantsFunc
    from dulwich.objects import ObjectID
    from dulwich.refs import Ref
    from dulwich.repo import Repo

log = logging.getLogger(__name__)

DEFAULT_BRANCH = "main"
WEBHOOKS = ("push", "create", "delete", "repository", "release")

# Seconds between two parts of a response while code is fetched.
_FETCH_TIMEOUT = 120.0
_TREE_PAGE = 1000
# Folders that differ between two commits, and pages of one folder: beyond that the changed files are unknown.
_MOST_TREES = 100
# Activities that are read beyond the position, in case those of one second are out of order.
_FEED_OVERLAP = 50
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
# A user name of Gitea has at most 40 characters, starts and ends with a letter or digit, and has no two other characters in a row.
_SHORT = 24


class _Entry(NamedTuple):
    """An entry of a folder; `kind` is blob, tree or commit."""

    kind: str
    mode: str
    sha: str


class GiteaHost:
    """The `GitHost` over the Gitea at `url`, with an administrator's `token`; its webhooks go to `webhooks`."""

    shows_statuses = True

    def __init__(self, url: str, token: str, webhooks: str) -> None:
        self._api = gitea_api.Api(url, token)
        self._token = token
        self._webhooks = webhooks

    def __repr__(self) -> str:
        return f"GiteaHost({self._api.url!r})"

    def create_repository(self, project: str, codeset: str) -> None:
        _check(project, codeset)
        organisation = gitea_api.path("orgs", project)
        if not self._api.exists(organisation):
            self._create_organisation(project)
        with contextlib.suppress(errors.ConflictError):
            repository = {"name": codeset, "private": True, "auto_init": False, "default_branch": DEFAULT_BRANCH}
            self._api.send("POST", f"{organisation}/repos", repository)

    def begin(self, project: str, codeset: str, readme: str) -> Push | None:
        repository, ref = _repository(project, codeset), f"refs/heads/{DEFAULT_BRANCH}"
        self._api.get(repository)
        if any(name.startswith("refs/heads/") for name in self._api.refs(f"{project}/{codeset}")):
            return None
        content = base64.b64encode(readme.encode()).decode()
        file = {"content": content, "message": first_commit.MESSAGE, "branch": DEFAULT_BRANCH}
        try:
            self._api.send("POST", f"{repository}/contents/{first_commit.README}", file)
        except (errors.ConflictError, errors.InvalidError):
            # A concurrent request may have committed it.
            if ref not in self.heads(project, codeset):
                raise
        return Push(ref, None, self.heads(project, codeset)[ref], first_commit.AUTHOR)

    def _create_organisation(self, project: str) -> None:
        try:
            self._api.send("POST", "/orgs", {"username": project, "visibility": "private"})
        except (errors.InvalidError, errors.ConflictError) as error:
            # A concurrent request may have created it; otherwise Gitea rejects the name: it is a user's, reserved, too long or malformed.
            if not self._api.exists(gitea_api.path("orgs", project)):
                raise errors.InvalidError(
                    f"the git host rejects {project!r} as the name of an organisation ({error.message}); choose another project name"
                ) from None

    def delete_repository(self, project: str, codeset: str) -> None:
        repository = _repository(project, codeset)
        with contextlib.suppress(errors.NotFoundError):
            self._api.send("DELETE", repository)
        pusher = _pusher(project, codeset)
        try:
            self._api.send("DELETE", gitea_api.path("admin", "users", pusher))
        except errors.NotFoundError:
            pass
        except errors.InvalidError as error:
            # The user owns objects meanwhile, which FuseML must not delete.
            log.warning("the user %s was not deleted from the git host: %s", pusher, error.message)

    def sign_webhooks(self, project: str, codeset: str, secret: str) -> None:
        hooks = f"{_repository(project, codeset)}/hooks"
        # Gitea neither returns nor changes the secret of a webhook (infra/platform-facts.md 5.4), so its address identifies the secret.
        target = f"{self._webhooks}?key={hashlib.sha256(secret.encode()).hexdigest()[:12]}"
        own = [hook for hook in self._api.pages(hooks) if hook["config"].get("url", "").partition("?")[0] == self._webhooks]
        current = [hook for hook in own if hook["config"]["url"] == target and hook["active"]]
        if not current:
            config = {"url": target, "content_type": "json", "http_method": "post", "secret": secret}
            self._api.send("POST", hooks, {"type": "gitea", "active": True, "events": [*WEBHOOKS], "config": config})
        # Deleted after the new one exists, so that no push is lost; two deliveries of one push are one event.
        for hook in own:
            if hook not in current[:1]:
                with contextlib.suppress(errors.NotFoundError):
                    self._api.send("DELETE", f"{hooks}/{hook['id']}")

    def set_status(self, project: str, codeset: str, commit: str, status: commit_statuses.Status) -> None:
        self._api.send("POST", f"{_repository(project, codeset)}/statuses/{commit}", status_body(status))

    def grant_push(self, project: str, codeset: str, password: str) -> str:
        repository, pusher = _repository(project, codeset), _pusher(project, codeset)
        if self._api.may_push(repository, pusher, password):
            return pusher
        # Raises NotFoundError before a user is created for a missing repository.
        self._api.get(repository)
        user = {
            "username": pusher,
            "full_name": f"FuseML, pushes to {project}/{codeset}"[:100],
            "email": f"{pusher}@fuseml.invalid",
            "password": password,
            "must_change_password": False,
            "restricted": True,
            "visibility": "private",
        }
        existed = False
        try:
            self._api.send("POST", "/admin/users", user)
        except (errors.InvalidError, errors.ConflictError):
            if not self._api.exists(gitea_api.path("users", pusher)):
                raise
            existed = True
        self._api.send("PUT", f"{repository}/collaborators/{pusher}", {"permission": "write"})
        if existed and not self._api.may_push(repository, pusher, password):
            raise errors.TemporaryError(
                f"the git host has a user {pusher} with a different password; `fuseml codeset rotate-password` replaces it"
            )
        return pusher

    def replace_push(self, project: str, codeset: str, password: str) -> str:
        try:
            return self.grant_push(project, codeset, password)
        except errors.TemporaryError:
            pusher = _pusher(project, codeset)
            if not self._api.exists(gitea_api.path("users", pusher)):
                raise
        # The local authentication source has the id 0.
        change = {"login_name": pusher, "source_id": 0, "password": password, "must_change_password": False}
        self._api.send("PATCH", gitea_api.path("admin", "users", pusher), change)
        return self.grant_push(project, codeset, password)

    def clone_url(self, project: str, codeset: str) -> str:
        _check(project, codeset)
        return f"{self._api.url}/{project}/{codeset}.git"

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        _check(project, codeset)
        refs = self._api.refs(f"{project}/{codeset}")
        # An annotated tag is replaced by its commit.
        peeled = {ref: refs.get(f"{ref}^{{}}", commit) for ref, commit in refs.items() if not ref.endswith("^{}")}
        return {ref: commit for ref, commit in sorted(peeled.items()) if ref.startswith(("refs/heads/", "refs/tags/"))}

    def export(self, project: str, codeset: str, commit: str, directory: Path) -> Sequence[plans.Submodule]:
        from dulwich.objects import ObjectID
        from dulwich.repo import Repo

        if not self._has_commit(project, codeset, commit):
            raise _unknown_commit(project, codeset, commit)

        def determine_wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            return [ObjectID(commit.encode())]

        with tempfile.TemporaryDirectory(prefix="fuseml-export-") as scratch, Repo.init_bare(scratch) as repository:
            self._fetch(project, codeset, repository, determine_wants)
            fetched = history.commit_of(repository, commit)
            if fetched is None:
                raise _unknown_commit(project, codeset, commit)
            identity = {".fuseml/_org": project, ".fuseml/_project": codeset}
            checkout.write_tree(repository.object_store, fetched.tree, directory, identity, limits.DEFAULT)
        return ()

    def pushes(self, project: str, codeset: str, after: int) -> tuple[Sequence[Push], int]:
        """See `GitHost.pushes`. The record is the feed of activities (`gitea_feed`); of a feed that was never read, only the end counts."""
        repository = _repository(project, codeset)
        activities: list[dict[str, Any]] = []
        try:
            for activity in self._api.pages(f"{repository}/activities/feeds"):
                activities.append(activity)
                # Newest first, in seconds: those of one second come in any order.
                if activity["id"] <= after - _FEED_OVERLAP or (after == 0 and len(activities) >= _FEED_OVERLAP):
                    break
        except errors.NotFoundError:
            if not self._api.exists(repository):
                raise errors.NotFoundError(
                    f"there is no codeset {project}/{codeset} on the git host at {urls.shown(self._api.url)}"
                ) from None
            log.warning(
                "the git host at %s has no feed of activities; only the newest commits of refs are compared", urls.shown(self._api.url)
            )
            return (), after
        found, position = gitea_feed.pushes(activities, after)
        return (found if after else ()), position

    def commit(self, project: str, codeset: str, commit: str) -> Commit:
        if not self._has_commit(project, codeset, commit):
            raise _unknown_commit(project, codeset, commit)
        return gitea_commits.commit(self._api, _repository(project, codeset), commit)

    def commits(self, project: str, codeset: str, skip: int, limit: int, path: str = "") -> list[Commit]:
        return gitea_commits.oldest(self._api, _repository(project, codeset), skip, limit, path)

    def paths(self, project: str, codeset: str, commit: str) -> list[str]:
        if not self._has_commit(project, codeset, commit):
            raise _unknown_commit(project, codeset, commit)
        found: list[str] = []
        for path, _ in self._tree(project, codeset, commit):
            found.append(path)
            if len(found) > limits.DEFAULT.files:
                raise errors.TooLargeError(f"the commit has more than {limits.DEFAULT.files} files")
        return sorted(found)

    def read(self, project: str, codeset: str, commit: str, path: str, limit: int) -> bytes:
        *folders, name = path.split("/")
        tree: str | None = commit
        for part in folders:
            entry = self._folder(project, codeset, tree).get(part) if tree else None
            tree = entry.sha if entry and entry.kind == "tree" else None
        entry = self._folder(project, codeset, tree).get(name) if tree and self._has_commit(project, codeset, commit) else None
        if entry is None or entry.kind != "blob" or not entry.mode.startswith("100"):
            raise errors.NotFoundError(f"the commit {commit} of {project}/{codeset} has no file {path!r}")
        return gitea_commits.blob(self._api, _repository(project, codeset), entry.sha, path, limit)

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        if not (self._has_commit(project, codeset, before) and self._has_commit(project, codeset, after)):
            return None
        changed: list[str] = []
        waiting: list[tuple[str, str | None, str | None]] = [("", before, after)]
        for _ in range(_MOST_TREES):
            if not waiting or len(changed) > pushes.MAX_PATHS:
                break
            folder, old_tree, new_tree = waiting.pop()
            old, new = self._folder(project, codeset, old_tree), self._folder(project, codeset, new_tree)
            for name in old.keys() | new.keys():
                was, now, path = old.get(name), new.get(name), f"{folder}{name}"
                if was == now:
                    continue
                trees = [entry.sha if entry and entry.kind == "tree" else None for entry in (was, now)]
                if any(trees):
                    waiting.append((f"{path}/", trees[0], trees[1]))
                if any(entry and entry.kind != "tree" for entry in (was, now)):
                    changed.append(path)
        return sorted(changed) if not waiting and len(changed) <= pushes.MAX_PATHS else None

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        if not self._has_commit(project, codeset, commit):
            raise _unknown_commit(project, codeset, commit)
        return step_cache.digest(((path, int(mode, 8), sha) for path, (mode, sha) in self._tree(project, codeset, commit)), paths)

    def _has_commit(self, project: str, codeset: str, commit: str) -> bool:
        commits = f"{_repository(project, codeset)}/git/commits/{commit}?stat=false&verification=false&files=false"
        return _COMMIT.fullmatch(commit) is not None and self._api.exists(commits)

    def _tree(self, project: str, codeset: str, commit: str) -> Iterator[tuple[str, tuple[str, str]]]:
        """Path -> (mode, object id) of every file, link and submodule of a commit."""
        address, page, more = f"{_repository(project, codeset)}/git/trees/{commit}", 1, True
        while more:
            response = self._api.get(address, {"recursive": "true", "page": page, "per_page": _TREE_PAGE})
            entries: list[dict[str, Any]] = response.get("tree") or []
            yield from ((entry["path"], (entry["mode"], entry["sha"])) for entry in entries if entry["type"] != "tree")
            page, more = page + 1, bool(response.get("truncated")) and bool(entries)

    def _folder(self, project: str, codeset: str, tree: str | None) -> dict[str, _Entry]:
        """Name -> entry of one folder; `tree` is the id of a commit or tree."""
        address, page, more, entries = f"{_repository(project, codeset)}/git/trees/{tree}", 1, tree is not None, dict[str, _Entry]()
        while more and page <= _MOST_TREES:
            response = self._api.get(address, {"page": page, "per_page": _TREE_PAGE})
            listed: list[dict[str, Any]] = response.get("tree") or []
            entries |= {entry["path"]: _Entry(entry["type"], entry["mode"], entry["sha"]) for entry in listed}
            page, more = page + 1, bool(response.get("truncated")) and bool(listed)
        return entries

    def _fetch(self, project: str, codeset: str, repository: Repo, determine_wants: DetermineWantsFunc) -> None:
        from dulwich import client
        from dulwich import errors as git_errors

        url = self._api.url
        # In git's protocol, the token is the password, with any user name.
        git = client.Urllib3HttpGitClient(
            f"{url}/", pool_manager=self._api.pool, username="token", password=self._token, timeout=_FETCH_TIMEOUT
        )
        try:
            git.fetch(f"{project}/{codeset}.git".encode(), repository, determine_wants=determine_wants, depth=1)
        except (git_errors.GitProtocolError, git_errors.HangupException, git_errors.NotGitRepository, client.HTTPUnauthorized) as error:
            raise errors.TemporaryError(
                f"the code of {project}/{codeset} could not be fetched from {url} ({error}); it will be retried"
            ) from error


def _unknown_commit(project: str, codeset: str, commit: str) -> errors.NotFoundError:
    return errors.NotFoundError(f"the codeset {project}/{codeset} has no commit {commit}; push it first")


def _check(project: str, codeset: str) -> None:
    document.check_identifier("project", project)
    document.check_identifier("codeset", codeset)


def _repository(project: str, codeset: str) -> str:
    _check(project, codeset)
    return gitea_api.path("repos", project, codeset)


def _pusher(project: str, codeset: str) -> str:
    """The user with push access to this codeset only: a readable prefix and a unique suffix."""
    readable = re.sub(r"[-_]+", "-", f"{project}-{codeset}")[:_SHORT].strip("-").lower()
    return f"fuseml-{readable}-{hashlib.sha256(f'{project}/{codeset}'.encode()).hexdigest()[:8]}"
