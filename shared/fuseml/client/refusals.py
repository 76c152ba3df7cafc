"""Error responses of the API as the errors that the server raised: by the error body's `name`, else by status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fuseml.domain import errors

_BY_NAME: Mapping[str, type[errors.FusemlError]] = {
    kind.name: kind
    for kind in (
        errors.PermanentError,
        errors.TemporaryError,
        errors.InvalidError,
        errors.UnresolvedError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.StaleError,
        errors.UnauthenticatedError,
        errors.ForbiddenError,
        errors.TooLargeError,
    )
}

_BY_STATUS: Mapping[int, type[errors.FusemlError]] = {
    400: errors.InvalidError,
    401: errors.UnauthenticatedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    408: errors.TemporaryError,
    409: errors.ConflictError,
    412: errors.StaleError,
    413: errors.TooLargeError,
    422: errors.InvalidError,
    429: errors.TemporaryError,
    502: errors.TemporaryError,
    503: errors.TemporaryError,
    504: errors.TemporaryError,
}

_EXCERPT = 200


def refusal(status: int, body: bytes, where: str) -> errors.FusemlError:
    """The error of a response. The message of a response without FuseML's error body names `where` ("GET http://...")."""
    data = _error_body(body)
    if data is None:
        excerpt = " ".join(body[: _EXCERPT * 4].decode("utf-8", "replace").split())[:_EXCERPT]
        quote = f": {excerpt}" if excerpt and not excerpt.startswith("<") else ""
        return _BY_STATUS.get(status, errors.PermanentError)(f"{where} failed with status {status}{quote}")
    details = data.get("details")
    details = dict(details) if isinstance(details, Mapping) else {}
    message = str(data["message"])
    if data.get("fault") is True and data.get("id"):
        message = f"{message} (a fault of the server; see {data['id']} in its log)"
    kind = _BY_NAME.get(str(data.get("name"))) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.TemporaryError if data.get("temporary") is True else errors.PermanentError
    if issubclass(kind, errors.InvalidError):
        return errors.InvalidError(message, _problems(details.pop("problems", ())), details=details)
    return kind(message, details=details)


def _error_body(body: bytes) -> Mapping[str, object] | None:
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return data if isinstance(data, dict) and isinstance(data.get("message"), str) else None


def _problems(items: object) -> Sequence[errors.Problem]:
    if not isinstance(items, list):
        return ()
    return [
        errors.Problem(
            path=str(item.get("path") or ""),
            message=str(item.get("message") or ""),
            line=_number(item.get("line")),
            column=_number(item.get("column")),
            suggestion=str(item["suggestion"]) if item.get("suggestion") else None,
        )
        for item in items
        if isinstance(item, Mapping)
    ]


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
