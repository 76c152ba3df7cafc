"""Time to render plans of 10, 100 and 1,000 steps for Tekton. Baseline: `json.dumps` of the result.

python -m tests.bench.bench_render
"""

from __future__ import annotations

import functools
import json

from fuseml.domain import plans
from fuseml.domain.workflows import loading
from fuseml.engines.tekton import Settings, admission, render
from tests.bench import bench_planning
from tests.unit import workflow_examples

SIZES = (10, 100, 1_000)


def main() -> None:
    """Print one line for each size."""
    print(f"{'steps':>6} {'admit ms':>10} {'render ms':>10} {'json.dumps ms':>14} {'render/dumps':>13} {'KiB':>8}")
    for size in SIZES:
        plan = workflow_examples.plan_of(loading.load(bench_planning.text(size)))
        secrets = {part.ref: "s3cret" for part in plans.secret_refs(plan)}
        pipeline_run = render.render(plan, secrets, Settings()).pipeline_run
        repeats = max(5, 500 // size)
        admit = bench_planning.milliseconds(functools.partial(admission.admit, plan, secrets), repeats)
        render_time = bench_planning.milliseconds(functools.partial(render.render, plan, secrets, Settings()), repeats)
        dumps = bench_planning.milliseconds(functools.partial(json.dumps, pipeline_run), repeats)
        print(
            f"{size:>6} {admit:>10.2f} {render_time:>10.2f} {dumps:>14.2f} {render_time / dumps:>13.2f} {len(json.dumps(pipeline_run)) / 1024:>8.0f}"
        )


if __name__ == "__main__":
    main()
