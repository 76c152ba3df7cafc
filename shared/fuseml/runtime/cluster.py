"""A connection to Kubernetes, and the meaning of its failures.

The import of the `kubernetes` package takes longer than the rest of a function's start (1.4 s), so it happens with the first call.
Messages hold nothing that is sent or received, except the server's own reason, and not even that where a Secret is sent.
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
    ConflictError, InvalidError, TooLargeError) when the same call cannot succeed. `needs` names the software that defines the objects.
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

        # At the level DEBUG it logs whole responses, Secrets among them.
        logging.getLogger("kubernetes.client.rest").setLevel(logging.INFO)
        configuration = client.Configuration()
        # One retry, for a kept connection that is dead; the caller decides on longer waits.
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
                    "no cluster to run on: this process has neither the service account of a pod nor a kubeconfig; run it in a pod or set KUBECONFIG"
                ) from error
        return client.ApiClient(configuration)

    @contextlib.contextmanager
    def _refusals(self, verb: str, resource: str, *, sent_secret: bool = False) -> Iterator[None]:
        """Translate the failures of a call. `from None`: the client's own errors hold whole responses."""
        import urllib3.exceptions
        from kubernetes import client

        try:
            yield
        except client.ApiException as error:
            raise self._refusal(error, f"{verb} {resource} in namespace {self.namespace!r}", sent_secret=sent_secret) from None
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the cluster cannot be reached to {verb} {resource}: {type(error).__name__}") from None

    def _refusal(self, error: Any, action: str, *, sent_secret: bool) -> errors.FusemlError:
        reason, message = _status(error.body)
        cause = f": {reason if sent_secret else message or reason}".removesuffix(": ")
        details: dict[str, object] = {"status": error.status, "reason": reason}
        match error.status:
            case 400 | 422:
                return errors.InvalidError(f"the cluster refuses to {action}{cause}", details=details)
            case 401:
                return errors.PermanentError(
                    f"the cluster refuses the credentials to {action}: check the token of the service account", details=details
                )
            case 403:
                return errors.PermanentError(f"the service account may not {action}; grant the right{cause}", details=details)
            case 404:
                return errors.NotFoundError(
                    f"the cluster has no object to {action}: is {self.needs} installed, does the namespace exist?{cause}", details=details
                )
            case 409:
                return errors.ConflictError(f"the cluster reports a conflict on the attempt to {action}{cause}", details=details)
            case 413:
                return errors.TooLargeError(f"the object is too large to {action}{cause}", details=details)
            case 0:
                return errors.PermanentError(
                    f"the cluster's certificate is not trusted, so it is not asked to {action}; check the certificate authority",
                    details=details,
                )
            case status if status in (408, 429) or status >= 500:
                return errors.TemporaryError(
                    f"the cluster cannot {action} now (status {status}){cause}", details=details, delay=_delay(error.headers)
                )
            case status:
                return errors.PermanentError(f"the cluster answers {status} to the attempt to {action}{cause}", details=details)


def _status(body: object) -> tuple[str, str]:
    """Reason and message of the `Status` object of a failure; both are empty for the responses of proxies."""
    try:
        status = json.loads(body if isinstance(body, str | bytes) else "")
        return str(status["reason"]), str(status["message"])[:_LONGEST_MESSAGE]
    except (ValueError, TypeError, KeyError):
        return "", ""


def _delay(headers: Any) -> float:
    """Seconds to wait, by the server's Retry-After."""
    text = str((headers or {}).get("Retry-After", ""))
    return float(text) if text.isdecimal() else 1.0
