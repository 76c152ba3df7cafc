"""Objects of Azure Blob Storage, through adlfs (extra `azure`), which is imported with the first call."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseml.contents.object_store import Object, refused
from fuseml.domain import errors

CONNECTION, ACCOUNT = "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"
ACCOUNT_KEY, SAS = "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"
KEYS = f"{CONNECTION}, or {ACCOUNT} with {ACCOUNT_KEY} or {SAS}"
"""The keys of a record with the account, as adlfs names them."""

_CONNECT, _ANSWER, _ATTEMPTS = 5.0, 30.0, 3
_FILE = {"is_directory": "false"}
"""The metadata with which adlfs takes an object for a file."""


def connection_string(variables: Mapping[str, str]) -> str:
    """The account in the variables of a binding. Raises InvalidError if none is complete."""
    if variables.get(CONNECTION):
        return variables[CONNECTION]
    name, key, token = (variables.get(variable, "") for variable in (ACCOUNT, ACCOUNT_KEY, SAS))
    if not name or bool(key) == bool(token):
        raise errors.InvalidError(f"the record must configure {KEYS}")
    if key:
        return f"DefaultEndpointsProtocol=https;AccountName={name};AccountKey={key};EndpointSuffix=core.windows.net"
    return f"BlobEndpoint=https://{name}.blob.core.windows.net;SharedAccessSignature={token.removeprefix('?')}"


class AzureObjects:
    """See `Objects`: those of one container. Always with a connection string, so that no variable of the process counts."""

    def __init__(self, container: str, connection: str) -> None:
        self.at = f"the container {container!r} of Azure Blob Storage"
        self._container, self._connection = container, connection

    def read(self, path: str, start: int, end: int) -> bytes:
        """See `Objects.read`."""
        try:
            return bytes(self._files.cat_file(self._path(path), start=start, end=end))
        except Exception as error:
            if getattr(error, "status_code", None) == 416:
                return b""
            raise

    def write(self, path: str, data: bytes, *, new: bool) -> None:
        """See `Objects.write`."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self._files.pipe_file(self._path(path), data, overwrite=not new)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error

    def upload(self, path: str, parts: Iterator[bytes]) -> None:
        """See `Objects.upload`. Blocks become an object when their list is committed.

        Not by a file of adlfs, which commits whatever it has when it is closed.
        """
        from azure.storage.blob import BlobBlock

        upload, blocks = secrets.token_hex(8), []
        for number, part in enumerate(parts):
            blocks.append(BlobBlock(f"{upload}-{number:06d}"))
            self._call("stage_block", path, blocks[-1].id, part)
        self._call("commit_block_list", path, blocks, metadata=_FILE)

    def find(self, path: str) -> Object:
        """See `Objects.find`."""
        found = self._files.info(self._path(path))
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return Object(found["name"].partition("/")[2], int(found["size"]), found["last_modified"].timestamp())

    def remove(self, path: str) -> None:
        """See `Objects.remove`."""
        self._files.rm_file(self._path(path))

    def list(self, prefix: str, after: str, limit: int) -> Sequence[Object]:
        """See `Objects.list`. Azure lists from the beginning, so a later page costs the earlier ones."""
        from azure.core.exceptions import ResourceNotFoundError
        from fsspec.asyn import sync

        async def listed() -> list[Object]:
            found: list[Object] = []
            async with self._files.service_client.get_container_client(self._container) as client:
                async for blob in client.list_blobs(name_starts_with=prefix):
                    if blob.name > after:
                        found.append(Object(blob.name, int(blob.size), blob.last_modified.timestamp()))
                    if len(found) == limit:
                        break
            return found

        try:
            result: list[Object] = sync(self._files.loop, listed)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(prefix) from error
        return result

    def touch(self, path: str) -> None:
        """See `Objects.touch`."""
        self._call("set_blob_metadata", path, {**_FILE, "renewed": str(int(time.time()))})

    def link(self, path: str, seconds: int) -> str:
        """See `Objects.link`."""
        return str(self._files.sign(self._path(path), expiration=seconds))

    def refusal(self, error: Exception) -> errors.FusemlError | None:
        """See `Objects.refusal`."""
        from azure.core import exceptions

        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        name = type(cause).__name__
        if isinstance(cause, exceptions.ServiceRequestError | exceptions.ServiceResponseError | TimeoutError):
            return errors.TemporaryError(f"it cannot be reached ({name})")
        if isinstance(cause, exceptions.HttpResponseError):
            code = getattr(cause, "error_code", None)
            return refused(cause.status_code or 0, str(getattr(code, "value", code) or cause.status_code), KEYS)
        if isinstance(cause, exceptions.AzureError | ValueError | AttributeError):
            return errors.PermanentError(f"the account cannot be used ({name}): check {KEYS}")
        return errors.TemporaryError(f"it cannot be reached ({name})") if isinstance(cause, OSError) else None

    def _call(self, operation: str, path: str, *arguments: object, **options: object) -> None:
        """An operation of the client of an object. Raises FileNotFoundError."""
        from azure.core.exceptions import ResourceNotFoundError
        from fsspec.asyn import sync

        async def call() -> None:
            async with self._files.service_client.get_blob_client(self._container, path) as client:
                await getattr(client, operation)(*arguments, **options)

        try:
            sync(self._files.loop, call)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error

    def _path(self, path: str) -> str:
        return f"{self._container}/{path}"

    @functools.cached_property
    def _files(self) -> Any:
        try:
            from adlfs import AzureBlobFileSystem
            from azure.storage.blob.aio import BlobServiceClient
        except ImportError:
            raise errors.PermanentError("Azure Blob Storage needs adlfs: install fuseml[azure]") from None

        try:
            files = AzureBlobFileSystem(connection_string=self._connection, use_listings_cache=False, skip_instance_cache=True)
            # The default waits for minutes when the server is away.
            files.service_client = BlobServiceClient.from_connection_string(
                self._connection,
                retry_total=_ATTEMPTS - 1,
                initial_backoff=1,
                increment_base=2,
                connection_timeout=_CONNECT,
                read_timeout=_ANSWER,
            )
        except ValueError:
            raise errors.PermanentError(f"the account of Azure Blob Storage is not valid: check {KEYS}") from None
        return files
