"""How long it takes to render plans of 10, 100 and 1,000 steps for Tekton, next to `json.dumps` of what comes out.

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
        planned = workflow_examples.planned(loading.load(bench_planning.text(size)))
        secrets = {part.ref: "s3cret" for part in plans.secret_refs(planned)}
        rendered = render.render(planned, secrets, Settings()).pipeline_run
        repeats = max(5, 500 // size)
        admit = bench_planning.milliseconds(functools.partial(admission.admit, planned, secrets), repeats)
        spent = bench_planning.milliseconds(functools.partial(render.render, planned, secrets, Settings()), repeats)
        dumped = bench_planning.milliseconds(functools.partial(json.dumps, rendered), repeats)
        print(f"{size:>6} {admit:>10.2f} {spent:>10.2f} {dumped:>14.2f} {spent / dumped:>13.2f} {len(json.dumps(rendered)) / 1024:>8.0f}")


if __name__ == "__main__":
    main()
