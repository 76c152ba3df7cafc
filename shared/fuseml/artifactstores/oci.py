"""Images in an OCI registry, by the distribution API: a version is the digest of a manifest. Workloads push and pull with their own clients.

The repository of an artifact is `PREFIX/PROJECT/NAME`, so that a project reaches its own only. The API lists tags, not digests: a version
without a tag is described, and not listed. A tag moves and is never removed: not every registry can do that.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fuseml.artifactstores import oci_documents, pages
from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
    Description,
    Location,
    Page,
    Place,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.domain import artifact, errors, images, urls
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names
from fuseml.runtime import answers

if TYPE_CHECKING:
    import urllib3

    from fuseml.steps import access

MOST_TAGS = 10_000
"""The tags of a repository among which versions are listed."""

_TIMEOUT = 30.0
_LARGEST = 4 << 20
_LONGEST = 200
_TAGS = 1000
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)


class OciStore(Undeclared):
    """See `ArtifactStore`. `user` and `password` are the account at the registry at `url`; none for anonymous access."""

    resource = "oci-registry"
    kinds = frozenset({"runnable", "image"})
    capabilities: frozenset[Capability] = frozenset({"commit", "tag", "delete"})

    def __init__(
        self, url: str, prefix: str = "", user: str = "", password: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._prefix = prefix.strip("/")
        self._account = (user, password)
        self._environment = dict(environment or {})
        self._pool: urllib3.PoolManager | None = None
        self._accesses: dict[str, access.Access] = {}

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`. The format is the media type, the size that of the layers, the metadata the labels of the image."""
        repository = self._repository(address)
        _, document = self._manifest(repository, address.version, str(address))
        config = self._config(repository, document)
        labels = {**oci_documents.texts(config.get("config"), "Labels"), **oci_documents.texts(document, "annotations")}
        about = About(format=str(document["mediaType"])[:_LONGEST], metadata=labels)
        return Description(address, address.version, _moment(config.get("created")), oci_documents.size(document), about)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`. The tagged ones, in the order of their images' times."""
        check_kind(self, kind)
        found: dict[str, int] = {}
        probe = Address(kind, project, name, "")
        repository = self._repository(probe)
        for tag in self._tags(repository):
            with contextlib.suppress(errors.NotFoundError):
                digest, document = self._manifest(repository, tag, tag)
                if digest not in found:
                    found[digest] = _moment(self._config(repository, document).get("created"))
        ordered = sorted(found, key=lambda digest: (found[digest], digest))
        return pages.page([Version(Address(kind, project, name, digest), found[digest]) for digest in ordered], after, limit)

    def locate(self, address: Address) -> Location:
        """The image for a container runtime: `oci://HOST/REPOSITORY@DIGEST`."""
        described = self.describe(address)
        return Location(f"{self._image(self._repository(address))}@{address.version}", address.version, described.size, self._environment)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`. The URI is the image's name, `oci://HOST/REPOSITORY`."""
        check_kind(self, kind)
        return Place(kind, project, name, self._image(self._repository(Address(kind, project, name, ""))), self._environment)

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """The address of an image that was pushed: its manifest made it visible. Raises NotFoundError for another one."""
        address = Address(place.kind, place.project, place.name, digest)
        self._manifest_digest(self._repository(address), digest, str(address))
        return address

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        repository = self._repository(Address(kind, project, name, ""))
        digest = self._manifest_digest(repository, names.check_tag(tag), f"{kind}://{project}/{name}@{tag}")
        return Address(kind, project, name, digest)

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        repository = self._repository(address)
        self._manifest_digest(repository, address.version, str(address))
        found = []
        for tag in self._tags(repository):
            with contextlib.suppress(errors.NotFoundError):
                if self._manifest_digest(repository, tag, tag) == address.version:
                    found.append(tag)
        return sorted(found)

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`."""
        names.check_tag(tag)
        repository = self._repository(address)
        headers, body = self._call("GET", repository, f"manifests/{_digest(address.version)}", str(address))
        self._call("PUT", repository, f"manifests/{tag}", str(address), body=body, media_type=headers.get("Content-Type", ""))

    def delete(self, address: Address) -> None:
        """See `ArtifactStore.delete`. The registry must allow it, and its own garbage collection removes the layers."""
        repository = self._repository(address)
        with contextlib.suppress(errors.NotFoundError):
            self._call("DELETE", repository, f"manifests/{_digest(address.version)}", str(address))

    def _repository(self, address: Address) -> str:
        check_kind(self, address.kind)
        return images.repository(self._prefix, address.project, address.name)

    def _image(self, repository: str) -> str:
        return f"oci://{images.named(self._url, repository)}"

    def _tags(self, repository: str) -> Iterator[str]:
        last, count = "", 0
        while count < MOST_TAGS:
            query = urllib.parse.urlencode({"n": _TAGS, **({"last": last} if last else {})})
            try:
                _, body = self._call("GET", repository, f"tags/list?{query}", repository)
            except errors.NotFoundError:
                return
            tags = oci_documents.tags(answers.parsed(body, self._server))
            yield from tags[: MOST_TAGS - count]
            count += len(tags)
            if len(tags) < _TAGS:
                return
            last = tags[-1]
        raise errors.PermanentError(f"the repository {repository} has more than {MOST_TAGS} tags; remove old ones")

    def _manifest(self, repository: str, version: str, subject: str) -> tuple[str, dict[str, Any]]:
        """Digest and document of a tag or digest. Raises NotFoundError, and PermanentError for other contents than the digest's."""
        if ":" in version:
            _digest(version)
        headers, body = self._call("GET", repository, f"manifests/{version}", subject)
        digest = _digest_of(body)
        if ":" in version and digest != version:
            raise errors.PermanentError(f"{subject} is damaged in the registry: its manifest has the digest {digest}")
        document = answers.parsed(body, self._server)
        return digest, {**document, "mediaType": document.get("mediaType") or headers.get("Content-Type", "")}

    def _manifest_digest(self, repository: str, version: str, subject: str) -> str:
        """The digest of a tag or digest, without the manifest where the registry states it. Raises as `_manifest`."""
        if ":" in version:
            _digest(version)
        headers, _ = self._call("HEAD", repository, f"manifests/{version}", subject)
        stated = headers.get("Docker-Content-Digest", "")
        if not re.fullmatch(artifact.DIGEST, stated) or (stated != version and ":" in version):
            return self._manifest(repository, version, subject)[0]
        return stated

    def _config(self, repository: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of an image; empty for an index and for artifacts without one."""
        digest = oci_documents.config(document, _LARGEST)
        if not digest:
            return {}
        _, body = self._call("GET", repository, f"blobs/{digest}", f"the configuration of an image in {repository}")
        if _digest_of(body) != digest:
            raise errors.PermanentError(f"the configuration {digest} of an image in {repository} is damaged in the registry")
        return answers.parsed(body, self._server)

    @property
    def _server(self) -> str:
        return f"the registry at {urls.shown(self._url)}"

    def _call(
        self, method: str, repository: str, path: str, subject: str, *, body: bytes | None = None, media_type: str = ""
    ) -> tuple[Mapping[str, str], bytes]:
        import urllib3
        import urllib3.exceptions

        from fuseml.steps import access, references

        if self._pool is None:
            self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)
        actions = {"GET": "pull", "HEAD": "pull", "PUT": "pull,push", "DELETE": "delete"}[method]
        scope = f"repository:{repository}:{actions}"
        account = references.Account(*self._account) if self._account[0] else None
        grant = self._accesses.setdefault(scope, access.Access(self._pool, self._url, account, [scope]))
        try:
            answer, data = self._send(method, repository, path, grant.header, body, media_type)
            if answer.status == 401 and grant.answer(answer.headers.getlist("WWW-Authenticate")):
                answer, data = self._send(method, repository, path, grant.header, body, media_type)
        except (urllib3.exceptions.HTTPError, access.TransientError) as error:
            raise errors.TemporaryError(f"{self._server} does not answer ({type(error).__name__})") from None
        except access.RefusalError as error:
            raise errors.PermanentError(str(error)) from None
        if answer.status == 404:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {subject}")
        if answer.status == 429 or answer.status >= 500:
            raise errors.TemporaryError(f"{self._server} answered {answer.status}")
        if answer.status >= 300:
            raise errors.PermanentError(f"{self._server} refused {method} of {subject}: {answer.status} {access.reasons(data)}".rstrip())
        return answer.headers, data

    def _send(
        self, method: str, repository: str, path: str, authorization: str | None, body: bytes | None, media_type: str
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        assert self._pool is not None
        headers = {"Accept": _MANIFESTS if path.startswith("manifests/") else "*/*"}
        headers |= {"Authorization": authorization} if authorization else {}
        headers |= {"Content-Type": media_type} if media_type else {}
        url = f"{self._url}/v2/{repository}/{path}"
        answer = self._pool.request(method, url, headers=headers, body=body, redirect=False, preload_content=False)
        data = answers.read(answer, _LARGEST, _TIMEOUT, self._server)
        if method == "GET" and path.startswith("blobs/") and answer.status in (301, 302, 303, 307, 308):
            # A store of blobs elsewhere, which gets no account.
            elsewhere = urllib.parse.urljoin(url, answer.headers.get("Location", ""))
            if not elsewhere.startswith(("https://", "http://") if url.startswith("http://") else "https://"):
                raise errors.PermanentError(f"{self._server} redirects to {urls.shown(elsewhere)[:200]!r}, which is no https URL")
            answer = self._pool.request(method, elsewhere, redirect=False, preload_content=False)
            data = answers.read(answer, _LARGEST, _TIMEOUT, self._server)
        return answer, data


def _digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _digest(version: str) -> str:
    if not re.fullmatch(artifact.DIGEST, version):
        raise errors.NotFoundError(f"{version[:100]!r} is not the digest of a manifest")
    return version


def _moment(text: object) -> int:
    """Unix milliseconds of a time in RFC 3339; 0 for none."""
    try:
        return int(datetime.datetime.fromisoformat(str(text)).timestamp() * 1000)
    except (OverflowError, ValueError):
        return 0
