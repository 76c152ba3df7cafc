"""The basic transfer of git-lfs over HTTP: which objects the client shall send or get (`objects/batch`), and their upload and download.

Locks are not supported; git-lfs then pushes without them. Requests are authorised by `smart_http`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug import exceptions, utils, wrappers

from fuseml.domain import errors
from fuseml.githosts import lfs, limits

BATCH = "objects/batch"
OBJECTS = "objects/"
CONTENT_TYPE = "application/vnd.git-lfs+json"

_MOST_OBJECTS = 1000
_LARGEST_BATCH = 1 << 20
_HEADERS = {"Cache-Control": "no-store"}


def respond(request: wrappers.Request, resource: str, objects: lfs.Objects, address: str, limit: int) -> wrappers.Response:
    """Answer a request for `resource`, the path below the LFS server's `address`. `limit` is the largest content, in bytes.

    Raises InvalidError, NotFoundError, TooLargeError.
    """
    oid = resource.removeprefix(OBJECTS)
    match request.method:
        case "POST" if resource == BATCH:
            return message(200, _batch(_document(request), objects, address, limit))
        case "PUT" if lfs.is_oid(oid):
            request.max_content_length = limit
            try:
                objects.add(oid, request.stream, limit)
            except exceptions.RequestEntityTooLarge as error:
                raise errors.TooLargeError(f"the content has more than {limits.size(limit)}") from error
            except exceptions.ClientDisconnected as error:
                raise errors.InvalidError("the body of the request is incomplete") from error
            return message(200, {})
        case "GET" | "HEAD" if lfs.is_oid(oid):
            return _download(request, objects, oid)
    return message(501, {"message": "this git host supports objects of Git LFS, and no locks"})


def message(status: int, document: Mapping[str, object]) -> wrappers.Response:
    """A response to git-lfs, which displays the field `message`."""
    return wrappers.Response(json.dumps(document), status, content_type=CONTENT_TYPE, headers=_HEADERS)


def _document(request: wrappers.Request) -> Mapping[str, Any]:
    request.max_content_length = _LARGEST_BATCH
    try:
        document = json.loads(request.get_data())
    except exceptions.RequestEntityTooLarge as error:
        raise errors.TooLargeError(f"the request has more than {_LARGEST_BATCH} bytes; ask for fewer objects") from error
    except (ValueError, RecursionError) as error:
        raise errors.InvalidError("the request is not JSON") from error
    if not isinstance(document, dict) or document.get("operation") not in ("upload", "download"):
        raise errors.InvalidError("the request needs the operation 'upload' or 'download'")
    if document.get("hash_algo", "sha256") != "sha256":
        raise errors.InvalidError("this git host supports the hash_algo 'sha256' only")
    listed = document.get("objects")
    if not isinstance(listed, list) or len(listed) > _MOST_OBJECTS:
        raise errors.InvalidError(f"the request needs 'objects', a list of at most {_MOST_OBJECTS}")
    return document


def _batch(document: Mapping[str, Any], objects: lfs.Objects, address: str, limit: int) -> dict[str, object]:
    answers = [_answer(item, document["operation"], objects, address, limit) for item in document["objects"]]
    return {"transfer": "basic", "objects": answers, "hash_algo": "sha256"}


def _answer(item: object, operation: str, objects: lfs.Objects, address: str, limit: int) -> dict[str, object]:
    fields = item if isinstance(item, dict) else {}
    oid, size = fields.get("oid"), fields.get("size")
    if not isinstance(oid, str) or not lfs.is_oid(oid) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return {"oid": str(oid)[:64], "size": 0, "error": {"code": 422, "message": "an object needs its SHA-256 as 'oid', and its 'size'"}}
    answer: dict[str, object] = {"oid": oid, "size": size}
    action = {operation: {"href": f"{address}/{OBJECTS}{oid}"}}
    if objects.has(lfs.Pointer(oid, size)):
        return answer if operation == "upload" else answer | {"actions": action}
    if operation == "download":
        return answer | {"error": {"code": 404, "message": "the content is not on this git host; push it with `git lfs push`"}}
    if size > limit:
        largest = f"it has {limits.size(size)}, more than {limits.size(limit)} (FUSEML_GIT_PACK_MIB)"
        return answer | {"error": {"code": 422, "message": largest}}
    return answer | {"actions": action}


def _download(request: wrappers.Request, objects: lfs.Objects, oid: str) -> wrappers.Response:
    try:
        response = utils.send_file(objects.path(oid), request.environ, mimetype="application/octet-stream", conditional=True, etag=oid)
    except FileNotFoundError as error:
        raise errors.NotFoundError("the content is not on this git host; push it with `git lfs push`") from error
    except exceptions.RequestedRangeNotSatisfiable:
        return message(416, {"message": "the content ends before this range"})
    response.headers.extend(_HEADERS)
    return response
