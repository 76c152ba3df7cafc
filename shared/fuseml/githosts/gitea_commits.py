"""Commits and files of a repository on Gitea. `repository` is its address in the API."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from typing import Any

from fuseml.domain import errors
from fuseml.githosts.gitea_api import Api
from fuseml.githosts.port import Commit

_BRIEF = {"stat": "false", "verification": "false", "files": "false"}
_PAGE = 50
_LONGEST = 500


def commit(api: Api, repository: str, commit: str) -> Commit:
    """The facts about a commit. Raises the errors of the API."""
    return _facts(api.get(f"{repository}/git/commits/{commit}", _BRIEF))


def oldest(api: Api, repository: str, skip: int, limit: int, path: str = "") -> list[Commit]:
    """The commits of the default branch behind the first `skip`, the oldest first. Gitea lists the newest first.

    With `path` only those that changed it, on pages of a size that only Gitea decides; `_PAGE` is its default.
    """
    query = {**_BRIEF, **({"path": path} if path else {})}
    try:
        _, total = api.listed(f"{repository}/commits", {**query, "page": 1, "limit": 1})
    except errors.ConflictError:
        # An empty repository.
        return []
    except errors.NotFoundError:
        # No commit changed the path, unless the repository is missing.
        if path and api.exists(repository):
            return []
        raise
    # Positions from the newest commit on.
    first, last = max(0, total - skip - limit), total - skip
    found: list[dict[str, Any]] = []
    page = first // _PAGE
    while page * _PAGE < last:
        items, _ = api.listed(f"{repository}/commits", {**query, "page": page + 1, "limit": _PAGE})
        found += items
        page += 1
        if not items:
            break
    offset = first // _PAGE * _PAGE
    return [_facts(item) for item in reversed(found[first - offset : last - offset])]


def blob(api: Api, repository: str, sha: str, path: str, limit: int) -> bytes:
    """The contents of a file by its object id. Raises TooLargeError beyond `limit` bytes."""
    answer = api.get(f"{repository}/git/blobs/{sha}")
    if int(answer.get("size") or 0) > limit or not isinstance(answer.get("content"), str):
        raise errors.TooLargeError(
            f"the file {path!r} has {answer.get('size')} bytes, more than {limit}, or than the git host returns at once"
        )
    return base64.b64decode(answer["content"])


def _facts(item: Mapping[str, Any]) -> Commit:
    try:
        details = item["commit"]
        created = datetime.datetime.fromisoformat(details["committer"]["date"])
        author, message = str(details["author"]["name"]), str(details["message"])
        return Commit(str(item["sha"]), int(created.timestamp()) * 1000, author[:_LONGEST], message.partition("\n")[0][:_LONGEST])
    except (KeyError, TypeError, ValueError) as error:
        raise errors.PermanentError(f"the git host's answer describes no commit ({type(error).__name__}); is it Gitea?") from error
