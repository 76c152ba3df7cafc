"""Storage of contents that are too large for the database: logs of runs. Models stay in stores of their own, such as MLflow's."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from fuseml.contents.port import BLOCK, Contents, valid_key
from fuseml.domain import errors
from fuseml.runtime.settings import Settings

__all__ = ["BLOCK", "Contents", "connect", "valid_key"]


def connect(settings: Settings) -> Contents | None:
    """The store at `FUSEML_CONTENTS_URL`; None if that is unset. Connects at the first use. Raises PermanentError for an invalid URL."""
    if not settings.contents_url:
        return None
    # No message contains the URL: it may hold a password.
    try:
        url = urllib.parse.urlsplit(settings.contents_url)
    except ValueError:
        raise errors.PermanentError("FUSEML_CONTENTS_URL is no URL") from None
    if url.query or url.fragment or "@" in url.netloc:
        raise errors.PermanentError("FUSEML_CONTENTS_URL must have no account, query or fragment; credentials have variables of their own")
    if url.scheme == "file" and not url.netloc and url.path.startswith("/"):
        from fuseml.contents import filesystem

        return filesystem.FileContents(Path(urllib.parse.unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        from fuseml.contents import s3

        account = s3.Account(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            addressing=settings.s3_addressing,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            session_token=settings.s3_session_token,
        )
        return s3.S3Contents(url.netloc, url.path.strip("/"), account)
    raise errors.PermanentError("FUSEML_CONTENTS_URL must be s3://BUCKET/PREFIX or file:///FOLDER")
