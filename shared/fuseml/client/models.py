"""Served models, and predictions by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from fuseml.client import application_shapes, predictions
from fuseml.client.api import Client
from fuseml.domain import errors


@runtime_checkable
class _Frame(Protocol):
    """A data frame of pandas, which this module does not import."""

    def to_dict(self, orient: Any) -> Any:
        """With `records`: a dictionary for each row."""


class _Array(Protocol):
    """An array of numpy."""

    def tolist(self) -> Any:
        """Nested lists."""


Rows = Mapping[str, object] | Sequence[object] | _Frame | _Array
"""A data frame, an array, a list of rows, or one row. A row has its values by name, or in the order of the model's inputs."""


class NotServedError(errors.NotFoundError, KeyError):
    """No application serves the model. As a KeyError, it ends the search of `in` and `get`."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Model:
    """A model that an application serves. `model` is its address at the tracking server, `status` is ready, starting or failed."""

    name: str
    model: str | None
    url: str
    status: str | None
    project: str | None
    run: str | None
    _api: Client = field(repr=False, compare=False)

    def predict(self, rows: Rows) -> list[object]:
        """The prediction for each row: a value, or a list of values where the model's first output has several for a row.

        `rows` is a data frame, an array, a list of rows, or one row; a row has its values by name, or in the order of the model's inputs. Raises
        InvalidError for a row that the model does not take, and TemporaryError while the model starts.
        """
        return self._api.predictions.predict_rows(self.url, _rows(rows))

    def metadata(self) -> dict[str, object]:
        """Names, types and shapes of the model's inputs and outputs."""
        return self._api.predictions.metadata(self.url)


class Models(Mapping[str, Model]):
    """The served models by the name of their application, such as `client.models["demo-diabetes-mlflow-e2e"]`.

    The name of a model that one application serves (`sklearn-diabetes`), and its address, name it as well.
    """

    def __init__(self, api: Client) -> None:
        self._api = api

    def __iter__(self) -> Iterator[str]:
        return (model.name for model in self._served())

    def __len__(self) -> int:
        return len(list(self._served()))

    def __getitem__(self, name: str) -> Model:
        """Raises NotServedError for an unknown name, ConflictError for the name of a model that several applications serve."""
        served = list(self._served())
        found = [model for model in served if model.name == name] or [model for model in served if _names(model, name)]
        if len(found) > 1:
            raise errors.ConflictError(
                f"several applications serve {name}: {', '.join(model.name for model in found)}; use one of these names"
            )
        if not found:
            known = ", ".join(model.name for model in served)
            raise NotServedError(f"no application serves {name!r}; {f'there are {known}' if known else 'no model is served yet'}")
        return found[0]

    def _served(self) -> Iterator[Model]:
        for application in self._api.applications.list():
            if application.get("url"):
                yield _model(application, self._api)


def _model(application: application_shapes.Application, api: Client) -> Model:
    known = {name: application.get(name) for name in ("model", "status", "project", "run")}
    return Model(application["name"], url=application["url"], _api=api, **known)  # type: ignore[arg-type]  # the shape's own types


def _names(model: Model, name: str) -> bool:
    """Whether the name is that of the model itself: its address, or `NAME` of `models:/NAME/VERSION`."""
    address = model.model or ""
    return bool(name) and (address == name or address.removeprefix("models:/").rpartition("/")[0] == name)


def _rows(rows: Rows) -> Sequence[predictions.Row]:
    if isinstance(rows, Mapping):
        return [rows]
    if isinstance(rows, Sequence):
        several = [row for row in rows if isinstance(row, Mapping | Sequence) and not isinstance(row, str)]
        return several if len(several) == len(rows) else [rows]
    if isinstance(rows, _Frame):
        return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return _rows(rows.tolist())
