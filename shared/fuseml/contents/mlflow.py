"""A client for models and runs of an MLflow tracking server, by its REST API: importing `mlflow` costs seconds."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fuseml.domain import errors, model_address, urls

if TYPE_CHECKING:
    import urllib3

_TIMEOUT = 5.0
_PAGE = 100
_LOGGED = 50
_BLOCK = 1 << 20
_ALIAS = "/registered-models/alias"
# Above the addresses of all valid names; it keeps what the server answers out of records.
_LONGEST = 500
_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    name: str
    version: str
    source: str | None
    run_id: str | None
    tags: Mapping[str, str]
    created: int = 0
    """Unix milliseconds, as `updated`."""
    updated: int = 0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run of the tracking server, not of FuseML."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]


class Tracking:
    """A tracking server at `url`; `credentials` are the variables of MLflow's own client. Redirects are not followed."""

    def __init__(self, url: str, credentials: Mapping[str, str] | None = None) -> None:
        self._url = url.rstrip("/")
        self._api = self._url + "/api/2.0/mlflow"
        self.headers: Mapping[str, str] = _authentication(credentials or {})
        """The headers of its requests: the authentication."""

    def __repr__(self) -> str:
        return f"Tracking({urls.shown(self._api)!r})"

    @functools.cached_property
    def _pool(self) -> urllib3.PoolManager:
        import urllib3

        return urllib3.PoolManager(retries=False)

    def newest_versions(self, token: str | None = None) -> tuple[list[ModelVersion], str | None]:
        """A page of all model versions, the newest first, and the token of the next page. Raises TemporaryError, PermanentError."""
        return self._page("creation_timestamp DESC", token)

    def updated_versions(self, token: str | None = None) -> tuple[list[ModelVersion], str | None]:
        """As `newest_versions`, the last updated first."""
        return self._page("last_updated_timestamp DESC", token)

    def _page(self, order: str, token: str | None) -> tuple[list[ModelVersion], str | None]:
        query = {"max_results": _PAGE, "order_by": order, **({"page_token": token} if token else {})}
        answer = self.call("GET", "/model-versions/search", query)
        return [_version(item) for item in answer.get("model_versions", [])], answer.get("next_page_token") or None

    def versions(self, condition: str, limit: int) -> list[ModelVersion]:
        """The first `limit` versions that meet a condition of MLflow's search, in the order of their numbers. Raises as `newest_versions`."""
        query = {"max_results": limit, "order_by": "version_number ASC", "filter": condition}
        with understood("version"):
            return [_version(item) for item in self.call("GET", "/model-versions/search", query).get("model_versions", [])]

    def file(self, version: ModelVersion, path: str, limit: int) -> bytes | None:
        """The first `limit` bytes of a file of a model; None where the server has or serves none. Raises TemporaryError, PermanentError."""
        with self._file(version, path) as response:
            # MLflow answers 500 for a file that does not exist in some stores.
            return response.read(limit) if response.status == 200 else None

    def blocks(self, version: ModelVersion, path: str) -> Iterator[bytes]:
        """The bytes of a file of a model, in blocks. Raises TemporaryError, PermanentError."""
        with self._file(version, path) as response:
            if response.status != 200:
                raise errors.PermanentError(
                    f"the tracking server answered {response.status} to the file {path!r} of {version.name} {version.version}"
                )
            yield from response.stream(_BLOCK)

    @contextlib.contextmanager
    def _file(self, version: ModelVersion, path: str) -> Iterator[urllib3.BaseHTTPResponse]:
        import urllib3.exceptions

        address = f"{self._url}/model-versions/get-artifact"
        fields = {"name": version.name, "version": version.version, "path": path}
        try:
            response = self._pool.request("GET", address, fields=fields, headers=self.headers, timeout=_TIMEOUT, preload_content=False)
            with contextlib.closing(response):
                if response.status in (401, 403):
                    raise errors.PermanentError(f"the tracking server refused a file of {version.name} with {response.status}")
                if response.status in (429, 502, 503, 504):
                    raise errors.TemporaryError(f"the tracking server answered {response.status} to a file of {version.name}")
                yield response
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(
                f"the tracking server at {urls.shown(self._url)} does not answer ({type(error).__name__})"
            ) from error

    def origin(self, version: ModelVersion) -> tuple[str | None, dict[str, str]]:
        """The run that produced a version, and the tags of both without MLflow's own. Raises TemporaryError."""
        tags = dict(version.tags)
        if version.run_id:
            # A deleted run leaves its models.
            with contextlib.suppress(errors.NotFoundError):
                tags = {**self.run(version.run_id).tags, **tags}
        return version.run_id, {name: value for name, value in tags.items() if not name.startswith("mlflow.")}

    def model_version(self, name: str, version: str) -> ModelVersion:
        """Raises NotFoundError, TemporaryError, and PermanentError for an answer that describes no version."""
        answer = self.call("GET", "/model-versions/get", {"name": name, "version": version})
        with understood("version"):
            return _version(answer["model_version"])

    def run(self, run_id: str) -> TrackedRun:
        """Raises NotFoundError, TemporaryError, and PermanentError for an answer that describes no run."""
        answer = self.call("GET", "/runs/get", {"run_id": run_id})
        with understood("run"):
            run = answer["run"]
            data = run.get("data", {})
            metrics = {item["key"]: float(item["value"]) for item in data.get("metrics", [])}
            return TrackedRun(run_id, run["info"]["status"], _pairs(data.get("tags")), metrics, _pairs(data.get("params")))

    def exact(self, address: model_address.Moving) -> str | None:
        """The exact address that a moving one names at this moment; None where it names nothing.

        Raises TemporaryError, and PermanentError when the server refuses, or answers with no address.
        """
        try:
            with understood("address"):
                found = self._of_run(address) if isinstance(address, model_address.OfRun) else self._of_model(address)
        except errors.NotFoundError:
            return None
        if found is not None and (len(found) > _LONGEST or not model_address.is_exact(found)):
            raise errors.PermanentError(f"the tracking server's answer is the address of no version: {found[:100]!r}")
        return found

    def _of_model(self, address: model_address.Alias | model_address.Newest) -> str | None:
        if isinstance(address, model_address.Alias):
            query = {"name": address.model, "alias": address.alias}
            version = self.call("GET", _ALIAS, query).get("model_version", {}).get("version")
        else:
            stages = {"stages": [address.stage]} if address.stage else {}
            listed = self.call("POST", "/registered-models/get-latest-versions", {"name": address.model, **stages}).get(
                "model_versions", []
            )
            version = max((int(item["version"]) for item in listed), default=None)
        return f"models:/{address.model}/{version}" if version else None

    def _of_run(self, address: model_address.OfRun) -> str | None:
        info = self.call("GET", "/runs/get", {"run_id": address.run})["run"]["info"]
        query = {"experiment_ids": [info["experiment_id"]], "filter": f"source_run_id = '{info['run_id']}'", "max_results": _LOGGED}
        logged = [item["info"] for item in self.call("POST", "/logged-models/search", query).get("models", [])]
        own = [item for item in logged if item.get("name") == address.name]
        newest = max(own, key=lambda item: int(item.get("creation_timestamp_ms") or 0), default=None)
        return f"models:/{newest['model_id']}" if newest else None

    def ensure_webhook(self, name: str, url: str, secret: str) -> None:
        """Create the webhook that delivers registry events to `url`, signed with `secret`; replaces one of that name.

        Raises InvalidError without a secret, PermanentError when the server refuses: only its administrators may do this.
        """
        if not secret:
            raise errors.InvalidError("a webhook needs a secret: without one, anyone could send events of models")
        for webhook in self.call("GET", "/webhooks", {}).get("webhooks", []):
            if webhook["name"] == name:
                self.call("DELETE", f"/webhooks/{webhook['webhook_id']}", {})
        subscribed = [
            ("REGISTERED_MODEL", "CREATED"),
            ("MODEL_VERSION", "CREATED"),
            ("MODEL_VERSION_TAG", "SET"),
            ("MODEL_VERSION_TAG", "DELETED"),
        ]
        subscribed += [("MODEL_VERSION_ALIAS", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED")]
        listed = [{"entity": entity, "action": action} for entity, action in subscribed]
        self.call("POST", "/webhooks", {"name": name, "url": url, "events": listed, "secret": secret, "status": "ACTIVE"})

    def call(self, method: str, path: str, data: Mapping[str, object]) -> dict[str, Any]:
        """The answer to a call of MLflow's REST API. Raises NotFoundError, TemporaryError, and PermanentError when the server refuses."""
        import urllib3.exceptions

        try:
            if method == "POST" or (method == "DELETE" and data):
                response = self._pool.request(method, self._api + path, json=dict(data), headers=self.headers, timeout=_TIMEOUT)
            else:
                fields = {key: str(value) for key, value in data.items()}
                response = self._pool.request(method, self._api + path, fields=fields, headers=self.headers, timeout=_TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(
                f"the tracking server at {urls.shown(self._api)} does not answer ({type(error).__name__})"
            ) from error
        # MLflow answers 400 to an alias that a model does not have, with the code of an invalid parameter.
        is_unknown_alias = response.status == 400 and path == _ALIAS and _reason(response.data).endswith(" not found.")
        if response.status == 404 or is_unknown_alias:
            described = {key: value for key, value in data.items() if key != "secret"}
            raise errors.NotFoundError(f"the tracking server has no {path.rsplit('/', 1)[0].strip('/')} like {described}")
        if response.status >= 500 or response.status == 429:
            raise errors.TemporaryError(f"the tracking server answered {response.status} to {path}")
        if response.status in (401, 403):
            raise errors.PermanentError(
                f"the tracking server refused {path} with {response.status}; it needs credentials of its record ({', '.join(_KEYS)}) that may do this"
            )
        if response.status >= 300:
            raise errors.PermanentError(f"the tracking server refused {path} with {response.status}{_reason(response.data)}")
        try:
            answer = response.json() if response.data else {}
        except (ValueError, RecursionError) as error:
            raise errors.PermanentError(f"the server at {urls.shown(self._api)} is not an MLflow server") from error
        return answer if isinstance(answer, dict) else {}


@contextlib.contextmanager
def understood(described: str) -> Iterator[None]:
    """Reading an answer's document that describes a version, a run, or else. Raises PermanentError for a document of another shape."""
    try:
        yield
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise errors.PermanentError(
            f"the tracking server's answer describes no {described} ({type(error).__name__}: {str(error)[:100]}); is it an MLflow server?"
        ) from error


def _version(item: Mapping[str, Any]) -> ModelVersion:
    created = int(item.get("creation_timestamp") or 0)
    return ModelVersion(
        item["name"],
        str(item["version"]),
        item.get("source"),
        item.get("run_id") or None,
        _pairs(item.get("tags")),
        created,
        int(item.get("last_updated_timestamp") or created),
        tuple(item.get("aliases") or ()),
    )


def _authentication(credentials: Mapping[str, str]) -> dict[str, str]:
    # As in MLflow's own client, user name and password take precedence over a token.
    username, password, token = (credentials.get(key) for key in _KEYS)
    if username and password:
        import urllib3

        return urllib3.make_headers(basic_auth=f"{username}:{password}")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reason(body: bytes) -> str:
    try:
        # Databases store neither lone surrogates nor NUL.
        return ": " + str(json.loads(body)["message"]).encode(errors="replace").decode().replace("\0", "?")
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _pairs(items: list[dict[str, str]] | None) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items or []}
