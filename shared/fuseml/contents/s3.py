"""Contents in a bucket of S3, or of another server of its protocol (MinIO, SeaweedFS, Ceph).

The first call imports boto3, which takes longer than the start of a function. Messages hold the code of a refusal and the remedy, not the
server's text. A process that is killed during a large upload leaves invisible parts in the bucket: `discard_unfinished` deletes them, and so
does a lifecycle rule of the bucket that aborts incomplete multipart uploads.
"""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fuseml.contents.port import BLOCK, Entry, valid_key
from fuseml.domain import errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PART = 8 << 20
"""Bytes. Larger contents are uploaded in parts of this size, one at a time, so memory holds one part."""

_CONNECT, _ANSWER, _ATTEMPTS = 5.0, 30.0, 3
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId", "AuthFailure"}
_FORBIDDEN = {"AccessDenied", "403", "AllAccessDisabled"}
_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_BUSY = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "OperationAborted", "ConditionalRequestConflict"}
_LISTED = 1000
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The server and its credentials.

    The default endpoint is Amazon's. The default keys are those that AWS's own tools find, for example the identity of the pod.
    `addressing` is the place of the bucket's name: `path` or `virtual` (in the host); the default is `path` for an explicit endpoint.
    """

    endpoint: str = ""
    region: str = ""
    addressing: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    @staticmethod
    def of(variables: Mapping[str, str], endpoint: str = "") -> Account:
        """The account in the variables of a binding, at `endpoint` or at the one among them."""
        return Account(
            endpoint=endpoint or variables.get("AWS_ENDPOINT_URL_S3", ""),
            region=variables.get("AWS_REGION", ""),
            addressing=variables.get("FUSEML_S3_ADDRESSING", ""),
            access_key=variables.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=variables.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=variables.get("AWS_SESSION_TOKEN", ""),
        )


class S3Contents:
    """See `Contents`: the keys are below `prefix` in the bucket. Raises PermanentError for an invalid account."""

    def __init__(self, bucket: str, prefix: str = "", account: Account | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._account = account or Account()
        if self._account.addressing not in ("", "path", "virtual"):
            raise errors.PermanentError(f"a bucket can be addressed by 'path' or 'virtual', not {self._account.addressing!r}")
        if bool(self._account.access_key) != bool(self._account.secret_key):
            raise errors.PermanentError(f"set {_KEYS} both, or neither")

    def close(self) -> None:
        """End the connections. The next call makes new ones."""
        if "_client" in self.__dict__:
            self._client.close()
            del self._client

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Contents.put`."""
        body = _Body(blocks)
        with self._refusals("write", key):
            # Buffered, because a short read would count as the last part.
            self._client.upload_fileobj(io.BufferedReader(body, PART), self._bucket, self._key(key), Config=_in_parts())
        return body.size

    def create(self, key: str, data: bytes) -> bool:
        """See `Contents.create`. The server must know conditional writes (`If-None-Match`)."""
        with self._refusals("write", key):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ("PreconditionFailed", "412"):
                    return False
                raise
        return True

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """See `Contents.get`."""
        range_header = {"Range": f"bytes={offset}-{'' if limit is None else offset + limit - 1}"} if offset or limit is not None else {}
        if limit == 0:
            self.size(key)
            return
        with self._refusals("read", key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **range_header)
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ("InvalidRange", "416"):
                    return
                raise
            with contextlib.closing(answer["Body"]) as body:
                yield from body.iter_chunks(BLOCK)

    def size(self, key: str) -> int:
        """See `Contents.size`."""
        name = self._key(key)
        with self._refusals("read", key):
            try:
                return int(self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"])
            except self._client.exceptions.ClientError:
                # A refused HEAD has no body; the refusal of this call has one, unless only the key is missing.
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, MaxKeys=1)
                raise

    def delete(self, key: str) -> None:
        """See `Contents.delete`."""
        with self._refusals("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """See `Contents.entries`."""
        found: list[Entry] = []
        start = self._key(after) if after else ""
        with self._refusals("list", prefix):
            while len(found) < limit:
                answer = self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=f"{self._key(prefix)}/", StartAfter=start, MaxKeys=min(limit - len(found), _LISTED)
                )
                listed = answer.get("Contents", [])
                found += [Entry(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"].timestamp()) for item in listed]
                if not answer.get("IsTruncated") or not listed:
                    break
                start = listed[-1]["Key"]
        return found

    def renew(self, key: str) -> bool:
        """See `Contents.renew`. A copy onto itself within the server, which some servers take for a change of metadata only."""
        name = self._key(key)
        try:
            with self._refusals("copy", key):
                before = self._client.head_object(Bucket=self._bucket, Key=name)["LastModified"]
                replaced = {"MetadataDirective": "REPLACE", "Metadata": {"renewed": str(int(time.time()))}}
                source = {"Bucket": self._bucket, "Key": name}
                self._client.copy(source, self._bucket, name, ExtraArgs=replaced, Config=_in_parts())
                after = self._client.head_object(Bucket=self._bucket, Key=name)["LastModified"]
        except errors.NotFoundError:
            return False
        return bool(after > before)

    def discard_unfinished(self, seconds: float) -> int:
        """See `Contents.discard_unfinished`. Uploads of other software below the prefix count, too."""
        count, oldest = 0, time.time() - seconds
        with self._refusals("list the uploads of", self._prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for upload in [item for page in pages for item in page.get("Uploads", [])]:
                if upload["Initiated"].timestamp() < oldest:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    count += 1
        return count

    def link(self, key: str, seconds: int) -> str:
        """A presigned URL at the endpoint, which may be reachable from the cluster only."""
        with self._refusals("sign a link to", key):
            parameters = {"Bucket": self._bucket, "Key": self._key(key)}
            return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))

    def _key(self, key: str) -> str:
        return f"{self._prefix}{valid_key(key)}"

    @functools.cached_property
    def _client(self) -> Any:
        import boto3.session
        from botocore import config, exceptions

        account = self._account
        try:
            return boto3.session.Session().client(
                "s3",
                endpoint_url=account.endpoint or None,
                region_name=account.region or None,
                aws_access_key_id=account.access_key or None,
                aws_secret_access_key=account.secret_key or None,
                aws_session_token=account.session_token or None,
                config=config.Config(
                    signature_version="s3v4",
                    connect_timeout=_CONNECT,
                    read_timeout=_ANSWER,
                    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                    # Not `auto`: its links lead to the host of all regions, which redirects.
                    s3={"addressing_style": account.addressing or ("path" if account.endpoint else "virtual")},
                    # Some servers other than Amazon's reject the checksums of newer clients.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (exceptions.BotoCoreError, ValueError) as error:
            raise errors.PermanentError(
                f"no connection to the S3 store is possible ({type(error).__name__}): check AWS_ENDPOINT_URL_S3 and AWS_REGION"
            ) from None

    @contextlib.contextmanager
    def _refusals(self, verb: str, key: str) -> Iterator[None]:
        """Raise failures of a call as FuseML's errors. `from None`: the client's own errors hold whole responses."""
        from botocore import exceptions

        # Only the host of an endpoint: its URL may hold a password.
        host = self._account.endpoint.rpartition("//")[2].rpartition("@")[2]
        at = f"the S3 store at {host}" if host else "the S3 store"
        try:
            yield
        except exceptions.ClientError as error:
            raise self._refusal(error, at, verb, key) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError):
            raise errors.PermanentError(f"there are no credentials for {at}: set {_KEYS}, or give the process an identity") from None
        except exceptions.SSLError:
            raise errors.PermanentError(f"the certificate of {at} is not trusted") from None
        except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
            raise errors.TemporaryError(f"{at} cannot be reached to {verb} {key!r} ({type(error).__name__})") from None
        except exceptions.BotoCoreError as error:
            raise errors.PermanentError(f"{at} failed to {verb} {key!r} ({type(error).__name__})") from None

    def _refusal(self, error: Any, at: str, verb: str, key: str) -> errors.FusemlError:
        code, status = str(error.response["Error"].get("Code", "")), _status(error)
        if code == "NoSuchBucket":
            return errors.PermanentError(f"{at} has no bucket {self._bucket!r}: create it, or correct the address of the store")
        if code in _CREDENTIALS:
            return errors.PermanentError(f"{at} does not accept the credentials ({code}): check {_KEYS}")
        if code in _FORBIDDEN:
            return errors.PermanentError(f"the account may not {verb} {key!r} in the bucket {self._bucket!r} of {at}: grant it ({code})")
        if code in _REGION:
            return errors.PermanentError(f"the bucket {self._bucket!r} is in another region ({code}): set AWS_REGION to its own")
        if code in _BUSY or status == 429 or status >= 500:
            return errors.TemporaryError(f"{at} cannot {verb} {key!r} now ({code})")
        if status == 404:
            return errors.NotFoundError(f"there are no contents under {key!r}")
        return errors.PermanentError(f"{at} refuses to {verb} {key!r} ({code})")


def _in_parts() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)


class _Body(io.RawIOBase):
    """Blocks as a file for one sequential read. `size` is the number of bytes read."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.size += count
        return count


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
