"""The REST API of lakeFS for one repository: commits, objects, branches and tags (`/api/v1`, documented by its OpenAPI document)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseml.artifactstores.rest import Api, quoted
from fuseml.domain import errors

MOST = 10_000
"""The commits, tags and objects of one answer together, beyond which a call is refused."""

_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; `created` is Unix milliseconds."""

    id: str
    parents: Sequence[str]
    created: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its path in the repository, its bytes, and the checksum of the store below, often an MD5."""

    path: str
    size: int | None
    checksum: str


class Repository:
    """The calls on a repository. Each raises TemporaryError without a decisive answer, NotFoundError, and PermanentError for a refusal."""

    def __init__(self, url: str, name: str, key: str, secret: str) -> None:
        self.name = name
        self._root = f"api/v1/repositories/{quoted(name)}"
        account = {"Authorization": f"Basic {base64.b64encode(f'{key}:{secret}'.encode()).decode()}"} if key else {}
        self._api = Api("lakeFS", url, account, _KEYS)

    def log(self, ref: str, prefix: str = "") -> Iterator[Commit]:
        """The commits of a ref from the newest on, along first parents; with a prefix, those that change an object below it."""
        query: dict[str, str] = {"first_parent": "true", **({"prefixes": prefix} if prefix else {})}
        path = f"refs/{quoted(ref)}/commits"
        for item in self._pages(path, query, lambda item: str(item["id"])):
            with self._api.form(path):
                commit = _commit(item)
            yield commit

    def newest(self, ref: str, prefix: str = "") -> Commit | None:
        """The first commit of `log`."""
        query = {"first_parent": "true", "amount": "1", "limit": "true", **({"prefixes": prefix} if prefix else {})}
        path = f"refs/{quoted(ref)}/commits"
        document = self._get(path, query)
        with self._api.form(path):
            return next(map(_commit, document["results"]), None)

    def objects(self, ref: str, prefix: str) -> Iterator[Stored]:
        """The objects of a ref below a prefix, by path."""
        for item in self._pages(f"refs/{quoted(ref)}/objects/ls", {"prefix": prefix}, lambda item: str(item["path"])):
            size = item.get("size_bytes")
            yield Stored(str(item["path"]), size if isinstance(size, int) else None, str(item.get("checksum", "")))

    def changed(self, left: str, right: str) -> Iterator[str]:
        """The paths that differ between two refs."""
        path = f"refs/{quoted(left)}/diff/{quoted(right)}"
        return (str(item["path"]) for item in self._pages(path, {"type": "two_dot"}, lambda item: str(item["path"])))

    def read(self, ref: str, path: str) -> Iterator[bytes]:
        """The bytes of an object."""
        return self._api.blocks(f"{self._root}/refs/{quoted(ref)}/objects", {"path": path}, f"object {path!r}")

    def upload(self, branch: str, path: str, size: int, blocks: Iterable[bytes]) -> None:
        """Store an object on a branch, uncommitted."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        place = f"{self._root}/branches/{quoted(branch)}/objects"
        self._api.done(self._api.send("POST", place, {"path": path}, body=blocks, headers=headers), f"object {path!r}")

    def remove(self, branch: str, paths: Sequence[str]) -> None:
        """Delete objects of a branch, uncommitted."""
        for start in range(0, len(paths), _PAGE):
            self._post(f"branches/{quoted(branch)}/objects/delete", {"paths": list(paths[start : start + _PAGE])})

    def branch(self, name: str, source: str) -> None:
        """Make a branch, unless it exists."""
        self._post("branches", {"name": name, "source": source}, taken=True)

    def has_branch(self, name: str) -> bool:
        """Whether there is such a branch."""
        try:
            self._get(f"branches/{quoted(name)}", {})
        except errors.NotFoundError:
            return False
        return True

    def drop_branch(self, name: str) -> None:
        """Delete a branch, if there is one."""
        self._delete(f"branches/{quoted(name)}")

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> None:
        """Commit what a branch has, also nothing."""
        self._post(f"branches/{quoted(branch)}/commits", {"message": message, "metadata": dict(metadata), "allow_empty": True})

    def merge(self, source: str, target: str, message: str, metadata: Mapping[str, str]) -> str:
        """Merge a branch as one commit, whose contents win; the id of the commit."""
        options = {"strategy": "source-wins", "squash_merge": True, "allow_empty": True}
        path = f"refs/{quoted(source)}/merge/{quoted(target)}"
        found = self._post(path, {"message": message, "metadata": dict(metadata), **options})
        with self._api.form(path):
            return str(found["reference"])

    def tags(self) -> Iterator[tuple[str, str]]:
        """The tags, each with the id of its commit."""
        for item in self._pages("tags", {}, lambda item: str(item["id"])):
            with self._api.form("tags"):
                commit = str(item["commit_id"])
            yield str(item["id"]), commit

    def tagged(self, name: str) -> str:
        """The id of the commit of a tag."""
        path = f"tags/{quoted(name)}"
        document = self._get(path, {})
        with self._api.form(path):
            return str(document["commit_id"])

    def tag(self, name: str, commit: str) -> None:
        """Make a tag, unless it exists."""
        self._post("tags", {"id": name, "ref": commit}, taken=True)

    def untag(self, name: str) -> None:
        """Delete a tag, if there is one."""
        self._delete(f"tags/{quoted(name)}")

    def _pages(self, path: str, query: Mapping[str, str], key: Any) -> Iterator[dict[str, Any]]:
        after, count = "", 0
        while True:
            document = self._get(path, {**query, "amount": str(_PAGE), **({"after": after} if after else {})})
            with self._api.form(path):
                results, more = document["results"], document["pagination"]
                keys = [key(item) for item in results]
                after = str(more["next_offset"]) or (keys[-1] if keys else "")
                is_last = not more["has_more"] or not results
            yield from results
            count += len(results)
            if is_last:
                return
            if count >= MOST:
                raise errors.PermanentError(
                    f"{self._api.at} lists more than {MOST} entries of {path[:100]!r}; use a repository or prefix of its own"
                )

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._api.get(f"{self._root}/{path}", query)

    def _post(self, path: str, document: Mapping[str, Any], *, taken: bool = False) -> dict[str, Any]:
        return self._api.call("POST", f"{self._root}/{path}", document, taken=taken)

    def _delete(self, path: str) -> None:
        self._api.done(self._api.send("DELETE", f"{self._root}/{path}"), path, missing=True)


def _commit(item: Mapping[str, Any]) -> Commit:
    metadata = {str(key): str(value) for key, value in (item.get("metadata") or {}).items()}
    return Commit(str(item["id"]), [str(parent) for parent in item.get("parents") or ()], int(item["creation_date"]) * 1000, metadata)
