"""A connection to Kubernetes, and what the failures of its calls mean.

The `kubernetes` package takes longer to import than everything else a function does (1.4 s), so it is imported with the first call, and
with it the HTTP client that it uses.
Nothing that is sent or received gets into a message but what the server says is wrong, and not even that where a Secret is sent.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Iterator
from typing import Any

from fuseml.domain import errors

TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and to wait for an answer."""
_LONGEST_MESSAGE = 500


class Connection:
    """One namespace of a cluster: that of the pod's service account, else of the current kubeconfig; or one whose API is at `host`.

    Every call of its children raises TemporaryError when the cluster cannot be reached or is busy, and PermanentError (NotFoundError,
    ConflictError, InvalidError, TooLargeError) when the same call cannot succeed. `needs` is what a cluster lacks that knows no such objects.
    """

    needs = "Kubernetes"

    def __init__(self, namespace: str, host: str | None = None) -> None:
        self.namespace = namespace
        self._host = host

    def close(self) -> None:
        """End the connections. The next call makes new ones."""
        if "_client" in self.__dict__:
            self._client.rest_client.pool_manager.clear()
            self._client.close()
            del self._client

    @functools.cached_property
    def _client(self) -> Any:
        import urllib3
        from kubernetes import client, config

        # At the level DEBUG it logs whole answers, Secrets among them.
        logging.getLogger("kubernetes.client.rest").setLevel(logging.INFO)
        configuration = client.Configuration()
        # Once more where a kept connection turns out to be dead; longer waits, and how long, are for the caller to decide.
        configuration.retries = urllib3.Retry(1, respect_retry_after_header=False)
        if self._host is not None:
            configuration.host = self._host
            return client.ApiClient(configuration)
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=configuration)
            except config.ConfigException as error:
                raise errors.PermanentError(
                    "there is no cluster to run on: this process has neither the service account of a pod nor a kubeconfig"
                ) from error
        return client.ApiClient(configuration)

    @contextlib.contextmanager
    def _refusals(self, verb: str, resource: str, *, sent_secret: bool = False) -> Iterator[None]:
        """Tell what the failure of a call means. `from None`: the client's own errors hold whole answers."""
        import urllib3.exceptions
        from kubernetes import client

        try:
            yield
        except client.ApiException as error:
            raise self._refusal(error, f"{verb} {resource} in namespace {self.namespace!r}", sent_secret=sent_secret) from None
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the cluster cannot be reached to {verb} {resource}: {type(error).__name__}") from None

    def _refusal(self, error: Any, what: str, *, sent_secret: bool) -> errors.FusemlError:
        reason, message = _status(error.body)
        said = f": {reason if sent_secret else message or reason}".removesuffix(": ")
        details: dict[str, object] = {"status": error.status, "reason": reason}
        match error.status:
            case 400 | 422:
                return errors.InvalidError(f"the cluster refuses to {what}{said}", details=details)
            case 401:
                return errors.PermanentError(
                    f"the cluster does not know us, so we may not {what}: check the token of the service account", details=details
                )
            case 403:
                return errors.PermanentError(f"the service account may not {what}; grant it{said}", details=details)
            case 404:
                return errors.NotFoundError(
                    f"the cluster has nothing there to {what}: is {self.needs} installed, is the namespace there?{said}", details=details
                )
            case 409:
                return errors.ConflictError(f"the cluster finds a conflict when asked to {what}{said}", details=details)
            case 413:
                return errors.TooLargeError(f"it is too large to {what}{said}", details=details)
            case 0:
                return errors.PermanentError(f"the cluster's certificate is not trusted, so we do not {what}", details=details)
            case status if status in (408, 429) or status >= 500:
                return errors.TemporaryError(
                    f"the cluster cannot {what} now (status {status}){said}", details=details, delay=_delay(error.headers)
                )
            case status:
                return errors.PermanentError(f"the cluster answers {status} when asked to {what}{said}", details=details)


def _status(body: object) -> tuple[str, str]:
    """Reason and message of the `Status` object that Kubernetes answers failures with; other answers (of proxies) say nothing."""
    try:
        status = json.loads(body if isinstance(body, str | bytes) else "")
        return str(status["reason"]), str(status["message"])[:_LONGEST_MESSAGE]
    except (ValueError, TypeError, KeyError):
        return "", ""


def _delay(headers: Any) -> float:
    """Seconds that the server asks to wait."""
    said = str((headers or {}).get("Retry-After", ""))
    return float(said) if said.isdecimal() else 1.0
