"""Strict JSON: only values that every reader of JSON, and UTF-8, can express."""

from __future__ import annotations

import json
import math


def parse(raw: bytes) -> object:
    """JSON text as data. Raises RecursionError, and ValueError also for values that strict JSON cannot express: NaN, half a surrogate pair,
    a number beyond every float.
    """
    data = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_finite)
    if b"\\u" in raw:
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is larger than any number of JSON's readers")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
