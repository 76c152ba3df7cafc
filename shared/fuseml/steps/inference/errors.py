"""The error of an invalid request, and messages of errors."""

from __future__ import annotations

_LONGEST = 2000


class RequestError(Exception):
    """The request violates the protocol or the model's signature, or the model raised an exception for it."""


def line(error: object) -> str:
    """The message of an error, which may hold text of a request, on one line of at most 2000 printable characters; others become `?`."""
    text = " ".join(str(error).split())[:_LONGEST]
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)
