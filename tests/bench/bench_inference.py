"""The Open Inference Protocol: CPU time of a request, against the same rows by MLflow's own protocol and by `mlflow.pyfunc` alone.

python -m tests.bench.bench_inference
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pandas

from tests.component import pyfunc_models
from tests.tensors import tensor

with pyfunc_models.quiet():
    from mlflow.types.schema import ColSpec, DataType

COLUMNS, ROUNDS, REQUESTS = 10, 5, 50
MOST = 1.5  # times MLflow's own protocol


def cpu(call: Callable[[], object]) -> float:
    """CPU microseconds of a call: the best of several rounds."""

    def once() -> float:
        before = time.process_time()
        for _ in range(REQUESTS):
            call()
        return (time.process_time() - before) / REQUESTS * 1e6

    return min(once() for _ in range(ROUNDS))


def main() -> None:
    warnings.simplefilter("ignore")
    names = [f"c{index}" for index in range(COLUMNS)]
    loaded = pyfunc_models.model(lambda frame: frame["c0"].to_numpy(), [ColSpec(DataType.double, name) for name in names])
    server = pyfunc_models.Server(loaded)
    for rows in (1, 1000):
        frame = pandas.DataFrame(numpy.random.default_rng(1).random((rows, COLUMNS)), columns=names)
        request = json.dumps({"inputs": [tensor(name, "FP64", frame[name].tolist()) for name in names]}).encode()
        split: dict[str, Any] = {"dataframe_split": {"columns": names, "data": frame.to_numpy().tolist()}}
        assert server.infer(request).document["outputs"][0]["data"] == server.invocations(split).document["predictions"]
        v2 = cpu(lambda request=request: server.infer(request))  # type: ignore[misc]
        own = cpu(lambda split=split: server.invocations(split))  # type: ignore[misc]
        alone = cpu(lambda frame=frame: loaded.predict(frame))  # type: ignore[misc]
        print(
            f"{rows} rows: v2 {v2:.0f} us, /invocations {own:.0f} us, mlflow.pyfunc {alone:.0f} us; v2 against /invocations {v2 / own:.2f}"
        )
        assert v2 < MOST * own, "a request costs too much"


if __name__ == "__main__":
    main()
