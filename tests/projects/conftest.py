"""The tracking server of these tests."""

from tests.component.conftest import mlflow_server

__all__ = ["mlflow_server"]
