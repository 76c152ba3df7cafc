"""The data of a codeset: fetched by DVC where a step asks for it, and reported where it is missing, before the program starts."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuseml.steps import mlproject, pipeline, sdk

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LARGEST_POINTER = 1024
_LISTED = 10


def fetch(folder: Path) -> None:
    """Fetch the data that the step input `data` names, and report in the log what is missing: data of DVC, LFS objects, submodules."""
    wanted = sdk.input("data", "")
    if wanted:
        pipeline.pull(folder, wanted, pipeline.prepare(folder))
    try:
        found = notes(folder)
    except sdk.StepError as error:  # the training may need none of these files
        found = [f"missing data cannot be listed: {error}"]
    for note in found:
        sdk.say(f"note: {note}")


def notes(folder: Path) -> list[str]:
    """A note for each kind of file that the checkout lacks."""
    files = sorted(_files(folder))
    root = sdk.codeset_root(folder)
    kinds = (
        ("data of DVC is not in the checkout, and the step input 'data' fetches it (data: pull)", list(_dvc_outputs(folder, files))),
        (
            "files are pointers of Git LFS, whose contents the checkout leaves out (lfs.fetchexclude in .lfsconfig), "
            "or those of a submodule that cannot be fetched",
            [path for path in files if _is_pointer(folder / path)],
        ),
        (
            "submodules are empty: they are neither codesets of the project nor repositories that every client may read over HTTP(S)",
            list(_empty_submodules(root)),
        ),
    )
    return [f"{kind}: {_list(paths)}" for kind, paths in kinds if paths]


def _list(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(paths[:_LISTED]) + more


def _files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            yield (Path(place) / name).relative_to(folder).as_posix()


def _dvc_outputs(folder: Path, files: Sequence[str]) -> Iterator[str]:
    for path in files:
        if not path.endswith(".dvc"):
            continue
        outputs = mlproject.mapping(mlproject.load(sdk.read_file(folder, path), path), path).get("outs")
        for item in outputs if isinstance(outputs, list) else []:
            output = Path(path).parent / str(mlproject.mapping(item, f"{path}: outs").get("path", ""))
            if not (folder / output).exists():
                yield output.as_posix()


def _is_pointer(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _empty_submodules(root: Path) -> Iterator[str]:
    if not (root / ".gitmodules").is_file():
        return
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read_string(sdk.read_file(root, ".gitmodules"))
    except configparser.Error:
        # Without its text, which may hold the password of an address.
        raise sdk.StepError(".gitmodules is not in the format of git's configuration") from None
    for section in config.sections():
        path = config[section].get("path", "")
        if path and (root / path).is_dir() and not any((root / path).iterdir()):
            yield path
