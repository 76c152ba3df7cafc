"""Time to parse, check and plan workflows of 10, 100 and 1,000 steps. Baseline: PyYAML's load of the same text.

    python -m tests.bench.bench_planning

The budget: 100 steps parsed and checked in 10 ms of CPU time. The baseline uses PyYAML's C loader and shows the speed of the machine.
"""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable

import yaml

from fuseml.domain import workflows
from fuseml.domain.documents import document
from fuseml.domain.plans import planning
from fuseml.domain.registry import selector
from fuseml.domain.workflows import loading

SIZES = (10, 100, 1_000)
BUDGET_MS = 10.0


def text(steps: int) -> str:
    """A typical workflow: each step has a codeset, an output of the previous step and values as inputs, and needs an extension."""
    lines = ["name: bench", "inputs:", "  - name: code", "    type: codeset", "  - name: predictor", "    default: auto", "steps:"]
    for index in range(steps):
        model = f"'{{{{ steps.step-{index - 1}.outputs.model }}}}/next'" if index else "none"
        lines += [
            f"  - name: step-{index}",
            "    image: registry.example.com/trainer:1.0",
            "    inputs:",
            "      - codeset:",
            "          name: '{{ inputs.code }}'",
            "          path: /project",
            "      - name: predictor",
            "        value: '{{ inputs.predictor }}'",
            "      - name: model",
            f"        value: {model}",
            "      - name: verbose",
            "        value: false",
            "    outputs:",
            "      - name: model",
            "    extensions:",
            "      - name: store",
            "        service_resource: s3",
            "        version: '>=1.0, <2.0'",
            "    env:",
            "      - name: S3_ENDPOINT",
            "        value: '{{ extension.store.cfg.MLFLOW_S3_ENDPOINT_URL }}'",
            "    resources:",
            "      requests:",
            "        cpu: 1",
        ]
    return "\n".join(lines) + "\n"


def build_plan(workflow: workflows.Workflow) -> object:
    """The plan of a workflow whose selectors all resolve to one store."""
    binding = selector.Binding(
        name="store",
        extension_id="minio",
        service_id="s3",
        service_resource="s3",
        service_category="model-store",
        product="minio",
        version="1.2.3",
        zone="",
        endpoint_type="internal",
        url="http://minio:9000",
        credentials_id="default",
        configuration={"MLFLOW_S3_ENDPOINT_URL": "http://minio:9000"},
        secret_keys=["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        revision=1,
    )
    version = planning.CodesetVersion(project="p", codeset="c", url="http://git/p/c.git", ref="refs/heads/main", commit="0" * 40)
    return planning.build(
        workflow,
        revision=1,
        run_id="0" * 32,
        run_name="bench-1",
        project="p",
        codesets={"code": version},
        inputs={},
        bindings={step.name: {"store": binding} for step in workflow.steps},
    )


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median CPU time of a call in milliseconds. CPU time, because other processes share the machine."""
    work()
    samples = []
    for _ in range(repeats):
        gc.collect()
        started = time.process_time_ns()
        work()
        samples.append((time.process_time_ns() - started) / 1e6)
    return statistics.median(samples)


def main() -> None:
    """Print one line for each size."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    print(f"{'steps':>6} {'yaml.load':>10} {'parse':>9} {'check':>9} {'plan':>9} {'parse+check':>12} {'all':>9} {'all/yaml':>9}")
    for size in SIZES:
        source = text(size)
        parsed = document.parse(source)
        workflow = loading.check(parsed)
        repeats = max(5, 500 // size)
        baseline = milliseconds(functools.partial(yaml.load, source, Loader=loader), repeats)
        parse = milliseconds(functools.partial(document.parse, source), repeats)
        check = milliseconds(functools.partial(loading.check, parsed), repeats)
        build = milliseconds(functools.partial(build_plan, workflow), repeats)
        whole = parse + check + build
        print(
            f"{size:>6} {baseline:>10.2f} {parse:>9.2f} {check:>9.2f} {build:>9.2f} {parse + check:>12.2f} {whole:>9.2f} {whole / baseline:>9.2f}"
        )
        if size == 100:
            result = "within" if parse + check <= BUDGET_MS else "over"
            print(
                f"       {result} the budget of {BUDGET_MS} ms for {size} steps (parse+check {parse + check:.2f} ms, "
                f"{(parse + check) / baseline:.2f} times PyYAML's load)"
            )


if __name__ == "__main__":
    main()
