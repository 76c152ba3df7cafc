"""All attacks one after the other, and their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.attack import callers, events, git, paths, secrets, text, web_pages
from tests.attack.target import Attack, Breach, Target

BORDERS = {
    "paths": paths.ATTACKS,
    "events": events.ATTACKS,
    "web_pages": web_pages.ATTACKS,
    "callers": callers.ATTACKS,
    "text": text.ATTACKS,
    "secrets": secrets.ATTACKS,
    "git": git.ATTACKS,
}
"""The table of attacks, by border."""


@dataclass(frozen=True)
class Result:
    """`defended`, `succeeded` with the evidence, or `broken`: the attack itself failed with `evidence`, so that it shows nothing."""

    border: str
    attack: str
    holds: str
    result: Literal["defended", "succeeded", "broken"]
    evidence: str
    seconds: float


def run(target: Target, borders: Sequence[str], *, slow: bool, follow: Callable[[str], None]) -> Iterator[Result]:
    """Attack the target on these borders; `follow` gets the name of each attack when it begins."""
    for border in borders:
        for attack in BORDERS[border]:
            if slow or not attack.slow:
                follow(f"{border}: {attack.name}")
                yield attempt(target, border, attack)


def attempt(target: Target, border: str, attack: Attack) -> Result:
    """One attack, and whether the server still answers after it."""
    begun = time.monotonic()

    def result(result: Literal["defended", "succeeded", "broken"], evidence: str = "") -> Result:
        return Result(border, attack.name, attack.holds, result, evidence, round(time.monotonic() - begun, 1))

    try:
        attack.attempt(target)
        target.expect_answer("/healthz", 200, "after the attack")
    except Breach as breach:
        return result("succeeded", str(breach))
    except Exception as error:
        # Whatever it is: an attack that does not come to its end is reported, and the others go on.
        return result("broken", f"{type(error).__name__}: {error}")
    return result("defended")
