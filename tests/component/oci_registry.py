"""A stand-in of an image registry: pull and push of the OCI distribution specification (v1.1), as strict as real registries, with their
failures on request. It has token and basic authentication; tokens are valid for the requested scopes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "builder", "canary-hunter2"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Registry:
    """The content, the requests, and the behaviour of the registry."""

    host: str = ""
    auth: str = ""
    """`token`, `basic`, or empty for none."""
    mounts: bool = True
    lost: int = 0
    """The number of uploads of a blob that lose their connection."""
    statuses: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    """`METHOD kind` -> the first responses, each used once."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """`METHOD kind` -> the body of all its responses; the kind of the token service is `token`."""
    elsewhere: str = ""
    """Another host, to which reads of blobs are redirected."""
    stated: str | None = None
    """The digest that the headers of every manifest state; None for its own."""
    denied: set[str] = field(default_factory=set)
    """Scopes that are never granted."""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    """Authorization headers of redirected reads."""

    def put_image(self, name: str, tag: str, *layers: bytes, kind: str = "oci", **config: object) -> str:
        """Store an image of these layers under a tag. Returns its digest."""
        vendor = {"oci": "vnd.oci.image", "docker": "vnd.docker.distribution"}[kind]
        of_layer = "application/vnd.oci.image.layer.v1.tar+gzip" if kind == "oci" else "application/vnd.docker.image.rootfs.diff.tar.gzip"
        configuration = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": config}
        configuration["rootfs"]["diff_ids"] = [digest_of(b"unpacked" + layer) for layer in layers]  # type: ignore[index]
        written = json.dumps(configuration).encode()
        for data in (*layers, written):
            self.blobs[name, digest_of(data)] = data
        of_config = "application/vnd.oci.image.config.v1+json" if kind == "oci" else "application/vnd.docker.container.image.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"application/{vendor}.manifest.{'v1' if kind == 'oci' else 'v2'}+json",
            "config": {"mediaType": of_config, "digest": digest_of(written), "size": len(written)},
            "layers": [{"mediaType": of_layer, "digest": digest_of(data), "size": len(data)} for data in layers],
        }
        return self.put_manifest(name, tag, manifest)

    def put_manifest(self, name: str, tag: str, manifest: dict[str, object]) -> str:
        data = json.dumps(manifest).encode()
        for version in (tag, digest_of(data)):
            self.manifests[name, version] = (str(manifest["mediaType"]), data)
        return digest_of(data)

    def manifest(self, name: str, version: str) -> dict[str, object]:
        manifest: dict[str, object] = json.loads(self.manifests[name, version][1])
        return manifest

    def tags(self, name: str) -> list[str]:
        return [version for repository, version in self.manifests if repository == name and not version.startswith("sha256:")]

    def config_file(self, user: str = USER, password: str = PASSWORD) -> str:
        """docker's configuration with an account for this registry."""
        return json.dumps({"auths": {f"http://{self.host}": {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}})


@contextlib.contextmanager
def running(**behaviour: object) -> Iterator[Registry]:
    registry = Registry(**behaviour)  # type: ignore[arg-type]

    class Handler(_Handler):
        it = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    it: Registry

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.it.requests.append(f"{self.command} {self.path}")
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/token":
            if f"{self.command} token" in self.it.bodies:
                self._respond(200, self.it.bodies[f"{self.command} token"])
                return
            self._token(query)
            return
        if url.path.startswith("/elsewhere/"):
            self.it.foreign += [self.headers["Authorization"]] if "Authorization" in self.headers else []
            name, digest = url.path.removeprefix("/elsewhere/").rsplit("/", 1)
            self._respond(200, self.it.blobs[name, digest])
            return
        parts = url.path.removeprefix("/v2/").split("/")
        at = next(index for index, part in enumerate(parts) if part in ("blobs", "manifests", "tags"))
        name, kind, rest = "/".join(parts[:at]), parts[at], "/".join(parts[at + 1 :])
        kind = "uploads" if rest.startswith("uploads/") else kind
        responses = self.it.statuses.get(f"{self.command} {kind}")
        if responses:
            status, headers = responses.pop(0)
            self._respond(status, b'{"errors": [{"code": "DENIED", "message": "not now", "detail": "x"}]}', **headers)
            return
        right = "pull" if self.command in ("GET", "HEAD") else "push"
        if not self._authorised(f"repository:{name}:{right}"):
            return
        if f"{self.command} {kind}" in self.it.bodies:
            self._respond(200, self.it.bodies[f"{self.command} {kind}"])
            return
        getattr(self, f"_{kind}")(name, rest, query)

    def _authorised(self, scope: str) -> bool:
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if not self.it.auth:
            return True
        if self.it.auth == "basic":
            if scheme == "Basic" and base64.b64decode(credentials).decode() == f"{USER}:{PASSWORD}":
                return True
            self._error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": 'Basic realm="here"'})
            return False
        if scheme == "Bearer" and scope in self.it.tokens.get(credentials, ()):
            return True
        name, right = scope.split(":")[1:]
        challenge = f'Bearer realm="http://{self.it.host}/token",service="registry",scope="repository:{name}:{right}"'
        self._error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})
        return False

    def _token(self, query: dict[str, list[str]]) -> None:
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        authenticated = scheme == "Basic" and base64.b64decode(credentials).decode() == f"{USER}:{PASSWORD}"
        if self.command == "POST":
            query = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            scheme, authenticated = query["grant_type"][0], query["refresh_token"] == [PASSWORD]
            query["scope"] = query["scope"][0].split()
        if scheme and not authenticated:
            self._error(401, "UNAUTHORIZED", "wrong user name or password")
            return
        granted = set()
        for scope in query.get("scope", []):
            kind, name, rights = scope.split(":")
            granted |= {f"{kind}:{name}:{right}" for right in rights.split(",") if right == "pull" or authenticated}
        token = secrets.token_hex(8)
        self.it.tokens[token] = granted - self.it.denied
        self._respond(200, json.dumps({"token": token}).encode())

    def _manifests(self, name: str, version: str, _: dict[str, list[str]]) -> None:
        if self.command == "PUT":
            data = self.rfile.read(int(self.headers["Content-Length"]))
            manifest = json.loads(data)
            missing = [entry for entry in [manifest["config"], *manifest["layers"]] if (name, entry["digest"]) not in self.it.blobs]
            wrong = manifest["mediaType"] != self.headers["Content-Type"]
            if missing or wrong:
                self._error(400, "MANIFEST_BLOB_UNKNOWN" if missing else "MANIFEST_INVALID", "blob unknown to registry")
                return
            self.it.put_manifest(name, version, manifest)
            self.it.manifests[name, version] = self.it.manifests[name, digest_of(data)] = (manifest["mediaType"], data)
            self._respond(201, Location=f"/v2/{name}/manifests/{version}")
        elif (name, version) in self.it.manifests:
            media_type, data = self.it.manifests[name, version]
            assert media_type in self.headers["Accept"]
            stated = digest_of(data) if self.it.stated is None else self.it.stated
            self._respond(200, data, **{"Content-Type": media_type, "Docker-Content-Digest": stated})
        else:
            self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _tags(self, name: str, _: str, query: dict[str, list[str]]) -> None:
        last = query.get("last", [""])[0]
        tags = [tag for tag in sorted(self.it.tags(name)) if tag > last][: int(query.get("n", ["1000"])[0])]
        self._respond(200, json.dumps({"name": name, "tags": tags}).encode())

    def _blobs(self, name: str, digest: str, _: dict[str, list[str]]) -> None:
        if (name, digest) not in self.it.blobs:
            self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        elif self.it.elsewhere and self.command == "GET":
            self._respond(307, Location=f"http://{self.it.elsewhere}/elsewhere/{name}/{digest}")
        else:
            self._respond(200, self.it.blobs[name, digest])

    def _uploads(self, name: str, rest: str, query: dict[str, list[str]]) -> None:
        if self.command == "POST":
            origin, mounted = query.get("from", [""])[0], query.get("mount", [""])[0]
            if self.it.mounts and (origin, mounted) in self.it.blobs and self._may_read(origin):
                self.it.blobs[name, mounted] = self.it.blobs[origin, mounted]
                self._respond(201, Location=f"/v2/{name}/blobs/{mounted}")
                return
            upload = secrets.token_hex(8)
            self.it.uploads[upload] = name
            # A relative address with a query, as in some registries.
            self._respond(202, Location=f"/v2/{name}/blobs/uploads/{upload}?_state=canary-state")
            return
        upload = rest.removeprefix("uploads/")
        length = int(self.headers["Content-Length"])
        if self.it.uploads.pop(upload, "") != name:
            self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            return
        if self.it.lost:
            self.it.lost -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        data = self.rfile.read(length)
        if len(data) != length:
            self.close_connection = True
        elif query["digest"] != [digest_of(data)]:
            self._error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        else:
            self.it.blobs[name, digest_of(data)] = data
            self._respond(201, Location=f"/v2/{name}/blobs/{digest_of(data)}")

    def _may_read(self, name: str) -> bool:
        credentials = self.headers.get("Authorization", "").partition(" ")[2]
        return self.it.auth != "token" or f"repository:{name}:pull" in self.it.tokens.get(credentials, ())

    def _error(self, status: int, code: str, message: str, **headers: str) -> None:
        self._respond(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def _respond(self, status: int, data: bytes = b"", **headers: str) -> None:
        unread = int(self.headers.get("Content-Length") or 0) if self.command in ("POST", "PUT") and status >= 400 else 0
        self.send_response(status)
        for header, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(header, value)
        if unread:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
