"""Resource limits of a step, as far as a plain process supports them.

Memory limits the data of each process (`ulimit -d`, which on Linux counts all private writable memory). A limit of the address space
would be stricter, but machine learning libraries reserve far more than they use and would not start. CPU cannot be limited without
control groups; instead, variables limit the threads of the usual thread pools. Requests concern schedulers only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from fuseml.domain import errors

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?:[eE](?P<power>[+-]?\d{1,2})|(?P<suffix>[KMGTPE]i|[numkMGTPE]?))")
_FACTORS = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}.items()
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_THREAD_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def quantity(text: str) -> Decimal:
    """The value of a Kubernetes quantity (`500m`, `2`, `1.5Gi`, `1e3`). Raises PermanentError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise errors.PermanentError(f"{text!r} is not a quantity; examples: 500m, 2, 1.5Gi")
    return Decimal(match["number"]) * (Decimal(10) ** int(match["power"]) if match["power"] else _FACTORS[match["suffix"]])


def data_limit(limits: Mapping[str, str]) -> int | None:
    """Memory limit of each process of the step in bytes; None without a limit."""
    return int(quantity(limits["memory"])) if "memory" in limits else None


def thread_variables(limits: Mapping[str, str]) -> dict[str, str]:
    """Variables that limit numerical libraries to the step's CPUs, rounded up to whole threads."""
    if "cpu" not in limits:
        return {}
    threads = str(max(1, math.ceil(quantity(limits["cpu"]))))
    return dict.fromkeys(_THREAD_POOLS, threads)
