"""Datasets in S3, or in another server of its protocol, by the account in the variables of its clients (AWS_..., MLFLOW_S3_ENDPOINT_URL)."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from fuseml.steps import sdk

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PART = 8 << 20
"""Bytes. Larger objects are uploaded in parts of this size, so memory holds one part."""
_SECONDS = 60.0
_ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL")


def _bucket_and_key(place: str) -> tuple[str, str]:
    bucket, _, key = place[len("s3://") :].partition("/")
    if not bucket or not key or key.endswith("/"):
        raise sdk.StepError(f"'{place}' names no object: write s3://BUCKET/KEY")
    return bucket, key


def _client() -> Any:
    try:
        import boto3.session
        from botocore import config
    except ImportError:
        raise sdk.StepError("s3:// needs the package boto3 in the environment of the step: add it to the codeset's dependencies") from None
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    settings = config.Config(
        signature_version="s3v4",
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
        s3={"addressing_style": "path" if endpoint else "virtual"},
        # Some servers other than Amazon's reject the checksums of newer clients.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, config=settings)


@contextlib.contextmanager
def downloaded(place: str) -> Iterator[BinaryIO]:
    """The object as a stream. Raises StepError."""
    bucket, key = _bucket_and_key(place)
    with _refusals("read", place):
        body = _client().get_object(Bucket=bucket, Key=key)["Body"]
    with contextlib.closing(body):
        yield io.BufferedReader(_Body(body, place), 1 << 20)


class _Body(io.RawIOBase):
    """The body of an object. Raises StepError for one that breaks off."""

    def __init__(self, body: Any, place: str) -> None:
        self._body, self._place = body, place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with _refusals("read", self._place):
            block = self._body.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(block)] = block
        return len(block)


@contextlib.contextmanager
def uploaded(place: str) -> Iterator[Callable[[bytes], None]]:
    """The function that appends bytes to a new object, which appears when the block ends, and does not if it raises. Raises StepError."""
    bucket, key = _bucket_and_key(place)
    with _refusals("write", place):
        upload = _Upload(_client(), bucket, key)
        try:
            yield upload.write
            upload.finish()
        except BaseException:
            upload.abort()
            raise


class _Upload:
    """An upload to S3, in parts if it is large. The object appears with `finish`."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._object = client, {"Bucket": bucket, "Key": key}
        self._buffer = bytearray()
        self._upload: dict[str, Any] = {}
        self._parts: list[dict[str, object]] = []

    def write(self, block: bytes) -> None:
        self._buffer += block
        while len(self._buffer) >= PART:
            self._send(bytes(self._buffer[:PART]))
            del self._buffer[:PART]

    def finish(self) -> None:
        if not self._upload:
            self._client.put_object(**self._object, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        self._client.complete_multipart_upload(**self._object, **self._upload, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        if self._upload:
            self._client.abort_multipart_upload(**self._object, **self._upload)

    def _send(self, block: bytes) -> None:
        if not self._upload:
            self._upload = {"UploadId": self._client.create_multipart_upload(**self._object)["UploadId"]}
        number = len(self._parts) + 1
        answer = self._client.upload_part(**self._object, **self._upload, PartNumber=number, Body=block)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


@contextlib.contextmanager
def _refusals(verb: str, place: str) -> Iterator[None]:
    """Raise the refusals of S3 as StepErrors. `from None`: the client's own errors hold whole responses."""
    try:
        yield
    except errors_of_client() as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        advice = "check the place, and the account: the step gets it from an extension with the resource s3"
        raise sdk.StepError(f"cannot {verb} {place} ({code}): {advice}") from None


def errors_of_client() -> tuple[type[Exception], ...]:
    """The types of the errors that the client raises; none where it is not installed."""
    try:
        from botocore import exceptions
    except ImportError:
        return ()
    return exceptions.ClientError, exceptions.BotoCoreError
