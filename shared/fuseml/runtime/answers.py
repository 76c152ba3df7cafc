"""Answers of other servers, which decide neither the memory nor the time that reading them takes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fuseml.domain import errors

if TYPE_CHECKING:
    import urllib3

_BLOCK = 1 << 16


def read(response: urllib3.BaseHTTPResponse, most: int, seconds: float, subject: str) -> bytes:
    """The body of an answer that was requested with `preload_content=False`. `subject` names the server.

    Raises PermanentError beyond `most` bytes, TemporaryError beyond the seconds, and the client's errors. The connection is given back or closed.
    """
    # The read timeout applies to each chunk; the deadline bounds a server that sends one byte at a time.
    deadline, body = time.monotonic() + seconds, bytearray()
    try:
        while chunk := response.read1(min(_BLOCK, most + 1 - len(body))):
            body += chunk
            if len(body) > most:
                raise errors.PermanentError(f"the answer of {subject} has more than {most} bytes")
            if time.monotonic() > deadline:
                raise errors.TemporaryError(f"{subject} did not finish its answer within {seconds:g} seconds")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return bytes(body)


def parsed(body: bytes, subject: str) -> dict[str, Any]:
    """The JSON object in a body. Raises PermanentError for any other body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise errors.PermanentError(f"the answer of {subject} is no JSON object")
    return document
