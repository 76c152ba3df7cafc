"""The files of a model on an MLflow tracking server, which lists them for its own pages, wherever it keeps them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fuseml.artifactstores import paths
from fuseml.artifactstores.port import File
from fuseml.contents import mlflow
from fuseml.domain import errors

LOGGED = re.compile(r"models:/(m-[0-9a-f]{1,64})")
"""The source of a version that is a logged model (MLflow 3)."""

_MOST_FILES = 10_000
_MOST_FOLDERS = 1000


def listed(tracking: mlflow.Tracking, version: mlflow.ModelVersion) -> list[File]:
    """The files, without digests, sorted by path. Raises PermanentError where the server does not list them, or too many."""
    list_folder, root = _folders(tracking, version)
    found: list[File] = []
    folders = [root]
    for count, folder in enumerate(folders):
        for path, is_folder, size in list_folder(folder):
            # A folder of another place would lead around in circles.
            if not path.startswith(f"{folder}/" if folder else ""):
                raise errors.PermanentError(
                    f"the tracking server lists {path[:100]!r} in the folder {folder[:100]!r}; is it an MLflow server?"
                )
            if is_folder:
                folders.append(path)
            else:
                found.append(File(path.removeprefix(f"{root}/" if root else ""), size, ""))
        if len(found) > _MOST_FILES or len(folders) > _MOST_FOLDERS or count > _MOST_FOLDERS:
            raise errors.PermanentError(
                f"{version.name} {version.version} has more than {_MOST_FILES} files or {_MOST_FOLDERS} folders; read it with MLflow's own client"
            )
    try:
        paths.check_paths(file.path for file in found)
    except errors.InvalidError as error:
        raise errors.PermanentError(f"the tracking server lists a file that no folder could hold: {error.message}") from error
    if not found:
        raise errors.NotFoundError(f"the tracking server lists no files of {version.name} {version.version}")
    return sorted(found, key=lambda file: file.path)


_Entries = Iterator[tuple[str, bool, int | None]]


def _folders(tracking: mlflow.Tracking, version: mlflow.ModelVersion) -> tuple[Callable[[str], _Entries], str]:
    """What lists a folder, as path, whether it is a folder, and size; and the folder of the model."""
    source = version.source or ""
    if match := LOGGED.fullmatch(source):
        logged = match[1]

        def of_model(folder: str) -> _Entries:
            query = {"artifact_directory_path": folder} if folder else {}
            return _entries(tracking.call("GET", f"/logged-models/{logged}/artifacts/directories", query))

        return of_model, ""
    if not version.run_id:
        raise errors.PermanentError(
            f"the files of {version.name} {version.version} are at {source[:200]!r}, which the tracking server does not list"
        )

    def of_run(folder: str) -> _Entries:
        return _entries(tracking.call("GET", "/artifacts/list", {"run_id": version.run_id or "", **({"path": folder} if folder else {})}))

    root = str(tracking.call("GET", "/artifacts/list", {"run_id": version.run_id}).get("root_uri") or "").rstrip("/")
    if not root or not source.startswith(f"{root}/"):
        raise errors.PermanentError(f"the files of {version.name} {version.version} are at {source[:200]!r}, not among those of its run")
    return of_run, source.removeprefix(f"{root}/").rstrip("/")


def _entries(answer: Mapping[str, Any]) -> _Entries:
    with mlflow.understood("folder"):
        for item in answer.get("files", []):
            size = item.get("file_size")
            yield str(item["path"]), bool(item.get("is_dir")), None if size is None else int(size)
