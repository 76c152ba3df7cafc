"""Resource limits of a step, as far as a plain process supports them.

Memory limits the data of each process (`ulimit -d`, which on Linux counts all private writable memory). A limit of the address space
would be stricter, but machine learning libraries reserve far more than they use and would not start. CPU cannot be limited without
control groups; instead, variables limit the threads of the usual thread pools. Requests concern schedulers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fuseml.domain.workflows.resources import quantity

_THREAD_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def data_limit(limits: Mapping[str, str]) -> int | None:
    """Memory limit of each process of the step in bytes; None without a limit."""
    return int(quantity(limits["memory"])) if "memory" in limits else None


def thread_variables(limits: Mapping[str, str]) -> dict[str, str]:
    """Variables that limit numerical libraries to the step's CPUs, rounded up to whole threads."""
    if "cpu" not in limits:
        return {}
    threads = str(max(1, math.ceil(quantity(limits["cpu"]))))
    return dict.fromkeys(_THREAD_POOLS, threads)
