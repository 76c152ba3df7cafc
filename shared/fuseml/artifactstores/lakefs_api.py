"""The REST API of lakeFS for one repository: commits, objects, branches and tags (`/api/v1`, documented by its OpenAPI document)."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuseml.domain import errors, urls
from fuseml.runtime import answers

MOST = 10_000
"""The commits, tags and objects of one answer together, beyond which a call is refused."""

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_PAGE = 1000
_CONNECT, _ANSWER = 5.0, 60.0
_LARGEST = 8 << 20
_BLOCK = 1 << 18
_SHOWN = 200


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
        import urllib3

        self.name = name
        self._url = f"{url.rstrip('/')}/api/v1/repositories/{_quoted(name)}"
        self._server = f"lakeFS at {urls.shown(url)}"
        self._headers = {"Authorization": f"Basic {base64.b64encode(f'{key}:{secret}'.encode()).decode()}"} if key else {}
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT, read=_ANSWER))

    def log(self, ref: str, prefix: str = "") -> Iterator[Commit]:
        """The commits of a ref from the newest on, along first parents; with a prefix, those that change an object below it."""
        query: dict[str, str] = {"first_parent": "true", **({"prefixes": prefix} if prefix else {})}
        for item in self._pages(f"refs/{_quoted(ref)}/commits", query, lambda item: str(item["id"])):
            yield _commit(item)

    def newest(self, ref: str, prefix: str = "") -> Commit | None:
        """The first commit of `log`."""
        query = {"first_parent": "true", "amount": "1", "limit": "true", **({"prefixes": prefix} if prefix else {})}
        return next(map(_commit, self._get(f"refs/{_quoted(ref)}/commits", query)["results"]), None)

    def objects(self, ref: str, prefix: str) -> Iterator[Stored]:
        """The objects of a ref below a prefix, by path."""
        for item in self._pages(f"refs/{_quoted(ref)}/objects/ls", {"prefix": prefix}, lambda item: str(item["path"])):
            size = item.get("size_bytes")
            yield Stored(str(item["path"]), size if isinstance(size, int) else None, str(item.get("checksum", "")))

    def changed(self, left: str, right: str) -> Iterator[str]:
        """The paths that differ between two refs."""
        path = f"refs/{_quoted(left)}/diff/{_quoted(right)}"
        return (str(item["path"]) for item in self._pages(path, {"type": "two_dot"}, lambda item: str(item["path"])))

    def read(self, ref: str, path: str) -> Iterator[bytes]:
        """The bytes of an object."""
        answer = self._send("GET", f"refs/{_quoted(ref)}/objects", {"path": path})
        if answer.status != 200:
            self._refuse(answer, f"the object {path!r}")
        try:
            with self._reached():
                while block := answer.read(_BLOCK):
                    yield block
        finally:
            answer.close()

    def upload(self, branch: str, path: str, size: int, blocks: Iterable[bytes]) -> None:
        """Store an object on a branch, uncommitted."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        answer = self._send("POST", f"branches/{_quoted(branch)}/objects", {"path": path}, body=blocks, headers=headers)
        self._done(answer, f"the object {path!r}")

    def remove(self, branch: str, paths: Sequence[str]) -> None:
        """Delete objects of a branch, uncommitted."""
        for start in range(0, len(paths), _PAGE):
            self._post(f"branches/{_quoted(branch)}/objects/delete", {"paths": list(paths[start : start + _PAGE])})

    def branch(self, name: str, source: str) -> None:
        """Make a branch, unless it exists."""
        self._post("branches", {"name": name, "source": source}, taken=True)

    def has_branch(self, name: str) -> bool:
        """Whether there is such a branch."""
        try:
            self._get(f"branches/{_quoted(name)}", {})
        except errors.NotFoundError:
            return False
        return True

    def drop_branch(self, name: str) -> None:
        """Delete a branch, if there is one."""
        self._done(self._send("DELETE", f"branches/{_quoted(name)}"), f"the branch {name!r}", missing=True)

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> None:
        """Commit what a branch has, also nothing."""
        self._post(f"branches/{_quoted(branch)}/commits", {"message": message, "metadata": dict(metadata), "allow_empty": True})

    def merge(self, source: str, target: str, message: str, metadata: Mapping[str, str]) -> str:
        """Merge a branch as one commit, whose contents win; the id of the commit."""
        options = {"strategy": "source-wins", "squash_merge": True, "allow_empty": True}
        found = self._post(f"refs/{_quoted(source)}/merge/{_quoted(target)}", {"message": message, "metadata": dict(metadata), **options})
        return str(found["reference"])

    def tags(self) -> Iterator[tuple[str, str]]:
        """The tags, each with the id of its commit."""
        for item in self._pages("tags", {}, lambda item: str(item["id"])):
            yield str(item["id"]), str(item["commit_id"])

    def tagged(self, name: str) -> str:
        """The id of the commit of a tag."""
        return str(self._get(f"tags/{_quoted(name)}", {})["commit_id"])

    def tag(self, name: str, commit: str) -> None:
        """Make a tag, unless it exists."""
        self._post("tags", {"id": name, "ref": commit}, taken=True)

    def untag(self, name: str) -> None:
        """Delete a tag, if there is one."""
        self._done(self._send("DELETE", f"tags/{_quoted(name)}"), f"the tag {name!r}", missing=True)

    def _pages(self, path: str, query: Mapping[str, str], key: Any) -> Iterator[dict[str, Any]]:
        after, count = "", 0
        while True:
            document = self._get(path, {**query, "amount": str(_PAGE), **({"after": after} if after else {})})
            try:
                results, more = document["results"], document["pagination"]
                yield from results
                count += len(results)
                if not more["has_more"] or not results:
                    return
                after = str(more["next_offset"]) or key(results[-1])
            except (KeyError, TypeError) as error:
                raise self._unknown(path) from error
            if count >= MOST:
                raise errors.PermanentError(
                    f"{self._server} lists more than {MOST} entries of {path[:100]!r}; use a repository or prefix of its own"
                )

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._document(self._done(self._send("GET", path, query), path), path)

    def _post(self, path: str, document: Mapping[str, Any], *, taken: bool = False) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        answer = self._send("POST", path, body=json.dumps(document).encode(), headers=headers)
        if taken and answer.status == 409:
            answer.close()
            return {}
        body = self._done(answer, path)
        return self._document(body, path) if body[:1] == b"{" else {}

    def _document(self, body: bytes, path: str) -> dict[str, Any]:
        document = answers.parsed(body, self._server)
        if "results" in document and not isinstance(document["results"], list):
            raise self._unknown(path)
        return document

    def _unknown(self, path: str) -> errors.PermanentError:
        return errors.PermanentError(f"the answer of {self._server} for {path[:100]!r} is not the one of its documentation; check the URL")

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        url = f"{self._url}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with self._reached():
            return self._pool.request(
                method, url, body=body, headers={**self._headers, **(headers or {})}, redirect=False, preload_content=False
            )

    def _done(self, answer: Any, subject: str, *, missing: bool = False) -> bytes:
        if answer.status >= 300 and not (missing and answer.status == 404):
            self._refuse(answer, subject)
        with self._reached():
            return answers.read(answer, _LARGEST, _ANSWER, self._server)

    def _refuse(self, answer: Any, subject: str) -> None:
        status = answer.status
        with self._reached():
            body = answers.read(answer, _LARGEST, _ANSWER, self._server)
        try:
            said = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            said = ""
        reason = f": {' '.join(said.split())[:_SHOWN]!a}" if said else ""
        if status == 404:
            raise errors.NotFoundError(f"the repository {self.name!r} of {self._server} has no {subject}{reason}")
        if status == 401:
            raise errors.PermanentError(f"{self._server} does not accept the account: check {KEYS}")
        if status == 403:
            raise errors.PermanentError(f"the account may not do this in the repository {self.name!r} of {self._server}{reason}")
        if status in (409, 420, 429) or status >= 500:
            raise errors.TemporaryError(f"{self._server} cannot do it now ({status}){reason}")
        raise errors.PermanentError(f"{self._server} refuses the call for {subject} ({status}){reason}")

    def _reached(self) -> _Reached:
        return _Reached(self._server)


class _Reached:
    """Raises failures of the connection as TemporaryError."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import urllib3.exceptions

        if isinstance(error, urllib3.exceptions.HTTPError):
            raise errors.TemporaryError(f"{self._server} does not answer ({type(error).__name__})") from None


def _commit(item: Mapping[str, Any]) -> Commit:
    metadata = {str(key): str(value) for key, value in (item.get("metadata") or {}).items()}
    return Commit(str(item["id"]), [str(parent) for parent in item.get("parents") or ()], int(item["creation_date"]) * 1000, metadata)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
