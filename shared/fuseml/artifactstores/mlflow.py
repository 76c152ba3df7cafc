"""Models on an MLflow tracking server: the versions of its registry, with the metrics and parameters of their runs.

MLflow keeps the contents: a workload logs a model with MLflow's own client, and `commit` registers it. A tag is an alias of MLflow, a label
one of its tags. Its registry has no projects: a version belongs to the project that its tag `fuseml.project` or that of its run names, else
to every one.
"""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import yaml

from fuseml.artifactstores import tag_names
from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
    Changes,
    Description,
    Location,
    Page,
    Place,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.contents import mlflow
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address

PROJECT = "fuseml.project"
_DIGEST = "fuseml.digest"
_PRODUCER = "fuseml.producer"
_LARGEST_MLMODEL = 1 << 20
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{1,64})")
_NUMBER = re.compile(r"[1-9]\d{0,8}")
_LONGEST_VERSION = 100
# The flavors that load a model for another one's sake.
_GENERAL = ("python_function", "mlflow.pyfunc")
# A version may appear this late behind the newest one.
_LATE = 10 * 60 * 1000


class MlflowStore(Undeclared):
    """See `ArtifactStore`. `project` is that of versions that name none, in the answers of `changes`."""

    resource = "mlflow-tracking"
    kinds = frozenset({"model"})
    capabilities: frozenset[Capability] = frozenset({"commit", "tag", "untag", "label", "delete", "page", "changes"})

    def __init__(
        self, tracking: mlflow.Tracking, url: str, environment: Mapping[str, str] | None = None, *, project: str = "mlflow"
    ) -> None:
        self._tracking = tracking
        self._url = url.rstrip("/")
        self._environment = {"MLFLOW_TRACKING_URI": url, **(environment or {})}
        self._project = project

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`. Metrics and parameters are the present ones of the run and of the logged model."""
        version, run = self._version(address)
        match = _LOGGED.fullmatch(version.source or "")
        logged = match[1] if match else ""
        info, metrics, params = self._logged(logged)
        flavors = self._flavors(version)
        framework = next((name for name in flavors["flavors"] if name not in _GENERAL), "python_function" if flavors["flavors"] else "")
        details = flavors["flavors"].get(framework) or {}
        about = About(
            format="mlflow" if flavors["flavors"] else "",
            framework=framework,
            framework_version=_version_of(details),
            producer=version.tags.get(_PRODUCER, "") or (f"runs:/{version.run_id}" if version.run_id else ""),
            metrics={**(run.metrics if run else {}), **metrics},
            params={**(run.params if run else {}), **params},
            metadata={"source": version.source or "", **({"model_id": logged} if info else {})},
        )
        labels = {name: value for name, value in version.tags.items() if not name.startswith("mlflow.")}
        return Description(address, self._digest(version), version.created, _size(flavors), about, labels)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`."""
        check_kind(self, kind)
        if after and not _NUMBER.fullmatch(after):
            raise errors.InvalidError(f"{after[:100]!r} is not the end of a page of versions")
        behind = f" AND version_number > {after}" if after else ""
        listed = self._tracking.versions(f"name = {_quoted(name)}{behind}", limit + 1)
        own = [version for version in listed[:limit] if version.tags.get(PROJECT, project) == project]
        versions = [Version(Address(kind, project, name, version.version), version.created) for version in own]
        return Page(versions, listed[limit - 1].version if len(listed) > limit else "")

    def locate(self, address: Address) -> Location:
        """See `ArtifactStore.locate`. The URI is one for MLflow's own client, `models:/name/version`."""
        version, _ = self._version(address)
        return Location(
            f"models:/{address.name}/{address.version}", self._digest(version), _size(self._flavors(version)), self._environment
        )

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`. The URI is that of the tracking server, on which the workload logs a model."""
        check_kind(self, kind)
        return Place(kind, project, name, self._url, self._environment)

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`. The digest is the address of a logged model, `models:/m-...`: its files never change."""
        match = _LOGGED.fullmatch(digest)
        if not match:
            raise errors.InvalidError(f"{digest[:100]!r} is not the address of a logged model (models:/m-...)")
        info, _, _ = self._logged(match[1])
        if not info:
            raise errors.NotFoundError(f"the tracking server has no logged model {digest}")
        if info.get("status") != "LOGGED_MODEL_READY":
            raise errors.TemporaryError(f"the logged model {digest} is not complete yet")
        condition = f"name = {_quoted(place.name)} AND source_path = {_quoted(digest)}"
        if not self._tracking.versions(condition, 1):
            self._register(place, digest, str(info.get("source_run_id") or ""), match[1], about)
        # Of two versions that concurrent calls made the first one stays.
        first, *others = self._tracking.versions(condition, PAGE)
        for other in others:
            self._delete(other.name, other.version)
        return Address(place.kind, place.project, place.name, first.version)

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        model = self._tracking.call("GET", "/registered-models/get", {"name": name}).get("registered_model", {})
        found = [str(item.get("version", "")) for item in model.get("aliases", []) if item.get("alias") == tag]
        if not found:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {kind}://{project}/{name}@{tag}")
        address = Address(kind, project, name, found[0])
        self._version(address)
        return address

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        return sorted(self._version(address)[0].aliases)

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`. MLflow refuses `latest` and names like `v1`."""
        tag_names.check(tag)
        self._version(address)
        self._tracking.call("POST", "/registered-models/alias", {"name": address.name, "alias": tag, "version": address.version})

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        if tag in self.tags(address):
            self._tracking.call("DELETE", "/registered-models/alias", {"name": address.name, "alias": tag})

    def label(self, address: Address, key: str, value: str) -> None:
        """See `ArtifactStore.label`. Raises InvalidError for `fuseml.project`, which decides the owner."""
        _check_label(key)
        self._version(address)
        self._tracking.call(
            "POST", "/model-versions/set-tag", {"name": address.name, "version": address.version, "key": key, "value": value}
        )

    def unlabel(self, address: Address, key: str) -> None:
        """See `ArtifactStore.unlabel`."""
        _check_label(key)
        version, _ = self._version(address)
        if key in version.tags:
            self._tracking.call("DELETE", "/model-versions/delete-tag", {"name": address.name, "version": address.version, "key": key})

    def delete(self, address: Address) -> None:
        """See `ArtifactStore.delete`. The logged model stays on the server."""
        with contextlib.suppress(errors.NotFoundError):
            self._version(address)
            self._delete(address.name, address.version)

    def page(self, address: Address) -> str:
        """See `ArtifactStore.page`."""
        return f"{self._url}/#/models/{urllib.parse.quote(address.name, safe='')}/versions/{urllib.parse.quote(address.version, safe='')}"

    def changes(self, position: str = "") -> Changes:
        """See `ArtifactStore.changes`: new versions, and those with a new stage or description. Aliases and tags leave no trace in MLflow."""
        if position and not position.isdigit():
            raise errors.InvalidError(f"{position[:100]!r} is not a position of changes")
        seen = newest = int(position or 0)
        addresses: dict[Address, None] = {}
        token: str | None = None
        while True:
            # The latest first: a version that changes meanwhile moves to the front, where the next call finds it.
            versions, token = self._tracking.updated_versions(token)
            for version in versions:
                newest = max(newest, version.updated)
                if version.updated >= seen - _LATE:
                    addresses[Address("model", version.tags.get(PROJECT) or self._project, version.name, version.version)] = None
            if token is None or (versions and versions[-1].updated < seen - _LATE):
                return Changes(list(reversed(addresses)), str(newest))

    def _version(self, address: Address) -> tuple[mlflow.ModelVersion, mlflow.TrackedRun | None]:
        """The version of the address and its run, if it has one. Raises NotFoundError, also for a version of another project."""
        check_kind(self, address.kind)
        missing = errors.NotFoundError(f"the artifact store {self.resource!r} has no {address}")
        if not _NUMBER.fullmatch(address.version):
            raise missing
        try:
            version = self._tracking.model_version(address.name, address.version)
        except errors.NotFoundError:
            raise missing from None
        run = None
        if version.run_id:
            # A deleted run leaves its models.
            with contextlib.suppress(errors.NotFoundError):
                run = self._tracking.run(version.run_id)
        owner = version.tags.get(PROJECT) or (run.tags.get(PROJECT) if run else None)
        if owner and owner != address.project:
            raise missing
        return version, run

    def _logged(self, model: str) -> tuple[Mapping[str, Any], dict[str, float], dict[str, str]]:
        """Facts, metrics and parameters of a logged model; all empty for an unknown one. Raises PermanentError for an unclear answer."""
        try:
            found = self._tracking.call("GET", f"/logged-models/{model}", {}).get("model", {}) if model else {}
        except errors.NotFoundError:
            found = {}
        with mlflow.understood("logged model"):
            data = found.get("data", {})
            metrics = {item["key"]: float(item["value"]) for item in data.get("metrics", [])}
            return found.get("info", {}), metrics, {item["key"]: str(item.get("value", "")) for item in data.get("params", [])}

    def _flavors(self, version: mlflow.ModelVersion) -> dict[str, Any]:
        """The `MLmodel` file of a version, with `flavors` as a mapping; without any where it cannot be read."""
        text = self._tracking.file(version, "MLmodel", _LARGEST_MLMODEL)
        try:
            found = yaml.load(text or b"", Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
        except (yaml.YAMLError, ValueError, RecursionError):
            found = None
        document = found if isinstance(found, dict) else {}
        flavors = document.get("flavors")
        details = (
            {str(name): value if isinstance(value, dict) else {} for name, value in flavors.items()} if isinstance(flavors, dict) else {}
        )
        return {**document, "flavors": details}

    def _digest(self, version: mlflow.ModelVersion) -> str:
        return artifact.digest_of(version.tags.get(_DIGEST)) or ""

    def _register(self, place: Place, source: str, run_id: str, model: str, about: About) -> None:
        try:
            self._tracking.call("GET", "/registered-models/get", {"name": place.name})
        except errors.NotFoundError:
            try:
                self._tracking.call("POST", "/registered-models/create", {"name": place.name})
            except errors.PermanentError:
                # Another call made it first, or this one is refused, which the next call reports.
                self._tracking.call("GET", "/registered-models/get", {"name": place.name})
        tags = {**about.metadata, PROJECT: place.project, **({_PRODUCER: about.producer} if about.producer else {})}
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        data = {"name": place.name, "source": source, "model_id": model, "tags": listed, **({"run_id": run_id} if run_id else {})}
        self._tracking.call("POST", "/model-versions/create", data)

    def _delete(self, name: str, version: str) -> None:
        with contextlib.suppress(errors.NotFoundError):
            self._tracking.call("DELETE", "/model-versions/delete", {"name": name, "version": version})


def _quoted(text: str) -> str:
    """A text in a condition of MLflow's search, which knows no escapes. Raises InvalidError for text with both kinds of quotes."""
    if "'" in text and '"' in text:
        raise errors.InvalidError(f"the name {text[:100]!r} has both kinds of quotes, for which MLflow cannot search")
    return f'"{text}"' if "'" in text else f"'{text}'"


def _version_of(flavor: Mapping[str, Any]) -> str:
    value = next((value for key, value in flavor.items() if str(key).endswith("_version")), "")
    # No other types: lists of aliases in one kilobyte of YAML are gigabytes of text.
    return str(value)[:_LONGEST_VERSION] if isinstance(value, str | int | float) else ""


def _size(mlmodel: Mapping[str, Any]) -> int | None:
    size = mlmodel.get("model_size_bytes")
    return size if isinstance(size, int) else None


def _check_label(key: str) -> None:
    if key == PROJECT:
        raise errors.InvalidError(f"the label {PROJECT!r} decides the owner of a version and cannot be changed")
