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

from fuseml.artifactstores import mlflow_files, mlmodel, verification
from fuseml.artifactstores.mlflow_owners import PROJECT, Owners
from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
    Changes,
    Description,
    Location,
    Opened,
    Page,
    Place,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.contents import mlflow
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names
from fuseml.steps import model_digest

_DIGEST = "fuseml.digest"
_PRODUCER = "fuseml.producer"
_LARGEST_MLMODEL = 1 << 20
_NUMBER = re.compile(r"[1-9]\d{0,8}")
# A version may appear this late behind the newest one.
_LATE = 10 * 60 * 1000


class MlflowStore(Undeclared):
    """See `ArtifactStore`. `project` is that of versions that name none, in the answers of `changes`."""

    resource = "mlflow-tracking"
    kinds = frozenset({"model"})
    capabilities: frozenset[Capability] = frozenset({"open", "commit", "tag", "untag", "label", "delete", "page", "changes"})

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
        match = mlflow_files.LOGGED.fullmatch(version.source or "")
        logged = match[1] if match else ""
        info, metrics, params = self._logged(logged)
        file = self._file(version)
        about = About(
            format="mlflow" if file.framework else "",
            framework=file.framework,
            framework_version=file.framework_version,
            producer=version.tags.get(_PRODUCER, "") or (f"runs:/{version.run_id}" if version.run_id else ""),
            metrics={**(run.metrics if run else {}), **metrics},
            params={**(run.params if run else {}), **params},
            metadata={"source": version.source or "", **({"model_id": logged} if info else {})},
        )
        labels = {name: value for name, value in version.tags.items() if not name.startswith("mlflow.")}
        return Description(address, self._digest(version), version.created, file.size, about, labels)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`."""
        check_kind(self, kind)
        if after and not _NUMBER.fullmatch(after):
            raise errors.InvalidError(f"{after[:100]!r} is not the end of a page of versions")
        behind = f" AND version_number > {after}" if after else ""
        listed = self._tracking.versions(f"name = {_quoted(name)}{behind}", limit + 1)
        owner = Owners(self._tracking)
        own = [version for version in listed[:limit] if owner(version) in (project, "")]
        versions = [Version(Address(kind, project, name, version.version), version.created) for version in own]
        return Page(versions, listed[limit - 1].version if len(listed) > limit else "")

    def locate(self, address: Address) -> Location:
        """See `ArtifactStore.locate`. The URI is one for MLflow's own client, `models:/name/version`."""
        version, _ = self._version(address)
        return Location(f"models:/{address.name}/{address.version}", self._digest(version), self._file(version).size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`. Verified by the digest that FuseML's steps give the version; without one, only sizes are compared."""
        version, _ = self._version(address)
        files = mlflow_files.listed(self._tracking, version)
        whole = verification.Whole(self._digest(version), [file.path for file in files], model_digest.of_digests, str(address))
        return Opened(address, files, lambda file: self._tracking.blocks(version, file.path), whole)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`. The URI is that of the tracking server, on which the workload logs a model."""
        check_kind(self, kind)
        return Place(kind, project, name, self._url, self._environment)

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`. The digest is the address of a logged model, `models:/m-...`: its files never change.

        A version of the model that MLflow's own client registered for the project is taken as it is.
        """
        match = mlflow_files.LOGGED.fullmatch(digest)
        if not match:
            raise errors.InvalidError(f"{digest[:100]!r} is not the address of a logged model (models:/m-...)")
        info, _, _ = self._logged(match[1])
        if not info:
            raise errors.NotFoundError(f"the tracking server has no logged model {digest}")
        if info.get("status") != "LOGGED_MODEL_READY":
            raise errors.TemporaryError(f"the logged model {digest} is not complete yet")
        first = self._committed(place, digest)
        if first is None:
            made = self._register(place, digest, str(info.get("source_run_id") or ""), match[1], about)
            # Of the versions that concurrent calls made the first one stays; each call deletes its own only.
            first = self._committed(place, digest)
            if first is None:
                raise errors.TemporaryError(f"the version {made} of {place.name!r} was deleted during its commit; commit it again")
            if first != made:
                self._delete(place.name, made)
        return Address(place.kind, place.project, place.name, first)

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        found = self._aliased(name, tag)
        if found is None:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {kind}://{project}/{name}@{tag}")
        address = Address(kind, project, name, found)
        self._version(address)
        return address

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        return sorted(self._version(address)[0].aliases)

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`. MLflow refuses `latest` and names like `v1`. Raises ConflictError for an alias of another project's version."""
        names.check_tag(tag)
        self._version(address)
        present = self._aliased(address.name, tag)
        if present is not None:
            with contextlib.suppress(errors.NotFoundError):
                owner = Owners(self._tracking)(self._tracking.model_version(address.name, present))
                if owner not in (address.project, ""):
                    raise errors.ConflictError(
                        f"the alias {tag!r} of {address.name!r} is on a version of another project; MLflow has one of each name: choose another"
                    )
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
        owner = Owners(self._tracking)
        token: str | None = None
        while True:
            # The latest first: a version that changes meanwhile moves to the front, where the next call finds it.
            versions, token = self._tracking.updated_versions(token)
            for version in versions:
                newest = max(newest, version.updated)
                if version.updated >= seen - _LATE:
                    addresses[Address("model", owner(version) or self._project, version.name, version.version)] = None
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
        owner = Owners(self._tracking)
        if owner(version) not in (address.project, ""):
            raise missing
        return version, owner.run(version.run_id)

    def _aliased(self, name: str, alias: str) -> str | None:
        """The version that has an alias. Raises NotFoundError for an unknown name."""
        model = self._tracking.call("GET", "/registered-models/get", {"name": name}).get("registered_model", {})
        return next((str(item.get("version", "")) for item in model.get("aliases", []) if item.get("alias") == alias), None)

    def _committed(self, place: Place, digest: str) -> str | None:
        """The first version of the name with this source that belongs to the project, or to every one."""
        owner, after = Owners(self._tracking), "0"
        while True:
            condition = f"name = {_quoted(place.name)} AND source_path = {_quoted(digest)} AND version_number > {after}"
            found = self._tracking.versions(condition, PAGE)
            for version in found:
                if owner(version) in (place.project, ""):
                    return version.version
            if len(found) < PAGE:
                return None
            after = found[-1].version

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

    def _file(self, version: mlflow.ModelVersion) -> mlmodel.Mlmodel:
        return mlmodel.parse(self._tracking.file(version, "MLmodel", _LARGEST_MLMODEL) or b"")

    def _digest(self, version: mlflow.ModelVersion) -> str:
        return artifact.digest_of(version.tags.get(_DIGEST)) or ""

    def _register(self, place: Place, source: str, run_id: str, model: str, about: About) -> str:
        """The number of a new version."""
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
        created = self._tracking.call("POST", "/model-versions/create", data).get("model_version")
        number = str(created.get("version")) if isinstance(created, dict) else ""
        if not _NUMBER.fullmatch(number):
            raise errors.PermanentError("the tracking server's answer names no version; is it an MLflow server?")
        return number

    def _delete(self, name: str, version: str) -> None:
        with contextlib.suppress(errors.NotFoundError):
            self._tracking.call("DELETE", "/model-versions/delete", {"name": name, "version": version})


def _quoted(text: str) -> str:
    """A text in a condition of MLflow's search, which knows no escapes. Raises InvalidError for text with both kinds of quotes."""
    if "'" in text and '"' in text:
        raise errors.InvalidError(f"the name {text[:100]!r} has both kinds of quotes, for which MLflow cannot search")
    return f'"{text}"' if "'" in text else f"'{text}'"


def _check_label(key: str) -> None:
    if key == PROJECT:
        raise errors.InvalidError(f"the label {PROJECT!r} decides the owner of a version and cannot be changed")
