"""Resource limits of a step, as far as a plain process can be held to them.

Memory becomes the limit on a process's data (`ulimit -d`, which on Linux counts all private writable memory). The limit on address
space would be stricter, but machine learning libraries reserve many times what they use and would not start. CPU cannot be
limited without control groups; the usual thread pools are told how many threads to start instead. Requests are for schedulers.
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
    """The number that a Kubernetes quantity stands for (`500m`, `2`, `1.5Gi`, `1e3`). Raises PermanentError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise errors.PermanentError(f"{text!r} is not a quantity such as 500m, 2 or 1.5Gi")
    return Decimal(match["number"]) * (Decimal(10) ** int(match["power"]) if match["power"] else _FACTORS[match["suffix"]])


def data_limit(limits: Mapping[str, str]) -> int | None:
    """Bytes of memory that one process of the step may have, None for no limit."""
    return int(quantity(limits["memory"])) if "memory" in limits else None


def thread_variables(limits: Mapping[str, str]) -> dict[str, str]:
    """What tells numerical libraries to keep to the step's CPUs; half a CPU is still one thread."""
    if "cpu" not in limits:
        return {}
    threads = str(max(1, math.ceil(quantity(limits["cpu"]))))
    return dict.fromkeys(_THREAD_POOLS, threads)
