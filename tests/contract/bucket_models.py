"""A bucket of this machine that pods on a cluster reach, with two versions of a model of scikit-learn and one that cannot be loaded."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import s3_servers

_HOST = os.environ.get("FUSEML_TEST_HOST", "host.local")
ANSWERS: Mapping[str, float | None] = {"first": 1.0, "second": 2.0, "broken": None}
"""The models and what they predict; None for the one that cannot be loaded."""


@dataclass(frozen=True)
class Bucket:
    """The variables of S3 clients in pods; the model NAME is at `address`/NAME."""

    address: str
    environment: Mapping[str, str]


class _Broken:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise ModuleNotFoundError('cannot load: no module named torch')",)


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """The bucket, at a server that checks signatures."""
    with s3_servers.server(folder, "0.0.0.0") as server:
        import boto3.session

        keys = {"aws_access_key_id": server.account.access_key, "aws_secret_access_key": server.account.secret_key}
        with contextlib.closing(
            boto3.session.Session().client("s3", endpoint_url=server.url, region_name=server.account.region, **keys)
        ) as client:
            for name, answer in ANSWERS.items():
                client.put_object(Bucket=s3_servers.BUCKET, Key=f"{name}/model.joblib", Body=_model(answer))
        yield Bucket(
            f"s3://{s3_servers.BUCKET}",
            {
                "AWS_ACCESS_KEY_ID": server.account.access_key,
                "AWS_SECRET_ACCESS_KEY": server.account.secret_key,
                "AWS_DEFAULT_REGION": server.account.region,
                # An address: in the name of a host the server looks for a bucket.
                "MLFLOW_S3_ENDPOINT_URL": f"http://{socket.gethostbyname(_HOST)}:{server.port}",
            },
        )


def _model(answer: float | None) -> bytes:
    if answer is None:
        return pickle.dumps(_Broken())
    from sklearn.dummy import DummyRegressor

    return pickle.dumps(DummyRegressor(strategy="constant", constant=answer).fit([[0.0], [1.0]], [0.0, 1.0]))
