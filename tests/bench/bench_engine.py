"""Overhead of the local engine for a step. Baseline: `subprocess.run` of the same command.

python -m tests.bench.bench_engine [STEPS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fuseml.domain import events, plans
from tests.contract import engines

COMMANDS = {"true": ("/bin/true",), "python -c pass": (sys.executable, "-S", "-c", "pass")}
BUDGET_MS = 20.0


def timed(action: Callable[[], object]) -> float:
    """The wall time of `action` in milliseconds."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def step(name: str, command: tuple[str, ...], needs: tuple[str, ...] = ()) -> plans.StepPlan:
    return plans.StepPlan(name=name, image=plans.text("fuseml.local/shell"), command=tuple(map(plans.text, command)), needs=needs)


def bare(command: tuple[str, ...], steps: int) -> float:
    return timed(lambda: [subprocess.run(command, check=True) for _ in range(steps)]) / steps


class Engine:
    """A started engine. `run` returns when the run has finished."""

    def __init__(self, folder: Path) -> None:
        self._finished = threading.Event()
        self._engine = engines.make_local(folder, self._receive)
        self._engine.start()

    def _receive(self, event: events.Event) -> None:
        if event.type.endswith(("pipelinerun.successful.v1", "pipelinerun.failed.v1")):
            self._finished.set()

    def run(self, *steps: plans.StepPlan) -> None:
        self._finished.clear()
        self._engine.submit(engines.make_plan(*steps), {})
        self._finished.wait()

    def stop(self) -> None:
        self._engine.stop()


def chained(engine: Engine, command: tuple[str, ...], steps: int) -> float:
    """Milliseconds for each step of one run in which every step needs the previous one."""
    chain = [step(f"s{number}", command, (f"s{number - 1}",) if number else ()) for number in range(steps)]
    return timed(lambda: engine.run(*chain)) / steps


def alone(engine: Engine, command: tuple[str, ...], runs: int) -> float:
    """Milliseconds for each run of one step, from its submission to the event of its end."""

    def run_all() -> None:
        for _ in range(runs):
            engine.run(step("s", command))

    return timed(run_all) / runs


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    print(f"{'command':16}{'case':22}{'bare ms':>9}{'engine ms':>11}{'added ms':>10}{'ratio':>7}   budget {BUDGET_MS:.0f} ms added")
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        engine.run(step("warm", ("/bin/true",)))
        for label, command in COMMANDS.items():
            for case, measure in (("chain of steps", chained), ("run of one step", alone)):
                baseline, measured = bare(command, steps), measure(engine, command, steps)
                print(f"{label:16}{case:22}{baseline:9.2f}{measured:11.2f}{measured - baseline:10.2f}{measured / baseline:7.1f}")
        engine.stop()


if __name__ == "__main__":
    main()
