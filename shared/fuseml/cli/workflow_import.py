"""`fuseml workflow import`: a pipeline of another tool as a workflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.domain.workflows import dvc_pipeline

_LARGEST = 1 << 20
_MOST_FILES = 10_000


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The dvc.yaml of a checkout.", show_default=False)],
    name: Annotated[str, options.option("--name", "-n", help="Name of the workflow; by default that of the folder.")] = "",
    model: Annotated[str, options.option("--model", metavar="STAGE", help="The stage that logs the model with MLflow.")] = "",
) -> None:
    """Print the workflow of a DVC pipeline.

    Each stage becomes a step, which pulls the data that the stage reads and
    runs `dvc repro` for it. Nothing is changed or sent.
    """
    import yaml

    from fuseml.domain.documents import document
    from fuseml.domain.workflows import dvc_pipeline, loading

    place = Path(file)
    if place.name != dvc_pipeline.FILE:
        raise errors.InvalidError(f"{file[:200]!r} is no pipeline that can be imported; name a {dvc_pipeline.FILE}")
    text = _read(place)
    name = name or place.resolve().parent.name
    made = dvc_pipeline.workflow(name, text, _surroundings(place.resolve()), model)
    try:
        loading.check(document.Parsed(made))
    except errors.InvalidError as error:
        raise errors.InvalidError(f"{file}: it cannot be a workflow: {error.message}", error.problems) from None
    terminal.echo(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=100), nl=False)


def _surroundings(place: Path) -> dvc_pipeline.Surroundings:
    """The facts about the checkout of a `dvc.yaml`."""
    from fuseml.artifactstores import dvc_files
    from fuseml.domain.workflows import dvc_pipeline

    folder = place.parent
    root = next((path for path in (folder, *folder.parents) if (path / ".git").exists() or (path / ".dvc").is_dir()), folder)
    tracked: list[str] = []
    for found in sorted(folder.rglob("*.dvc"))[:_MOST_FILES]:
        if found.is_file() and ".dvc" not in found.relative_to(folder).parts[:-1]:
            within = found.relative_to(folder).as_posix()
            tracked += [output.path for output in dvc_files.outputs(within, _read(found).encode())]
    remote = ""
    if (root / dvc_files.CONFIG).is_file() and "url" in (text := _read(root / dvc_files.CONFIG)):
        remote = dvc_files.remote(text)
    return dvc_pipeline.Surroundings(
        tracked, remote, folder.relative_to(root).as_posix().removeprefix("."), (folder / "params.yaml").is_file()
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise errors.NotFoundError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise errors.InvalidError(f"{path} has more than {_LARGEST} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise errors.InvalidError(f"{path} is no text in UTF-8") from None
