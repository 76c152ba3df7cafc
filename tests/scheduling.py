"""The distribution of the tests to processes: by file, except for files that share an expensive fixture of the session."""

from __future__ import annotations

import functools
import pathlib
import re

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # xdist has no types

_ROOT = pathlib.Path(__file__).parents[1]
_SHARING = re.compile(r"\b(mlflow_server|trained)\b\s*[:,.)]")


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """The tests of a file run in one process. So do all tests of components with MLflow: each process starts a server and trains a model for them."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/component with MLflow" if _shares_mlflow(file) else file


@functools.cache
def _shares_mlflow(file: str) -> bool:
    path = _ROOT / file
    return file.startswith("tests/component/") and path.is_file() and _SHARING.search(path.read_text()) is not None
