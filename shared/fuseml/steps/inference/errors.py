"""The error of an invalid request."""

from __future__ import annotations


class RequestError(Exception):
    """The request violates the protocol or the model's signature, or the model raised an exception for it."""
