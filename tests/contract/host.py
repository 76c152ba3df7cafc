"""A process that runs a local engine until it is killed: `python -m tests.contract.host FOLDER confined|unconfined [PLAN.json]`.

FUSEML_DEVICES has the devices that it hands out.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from fuseml.domain import plans
from fuseml.engines.local import devices
from tests.contract import engines


def main() -> None:
    handed_out = devices.select({}, devices.parse(os.environ.get("FUSEML_DEVICES", "").split()))
    engine = engines.make_local(Path(sys.argv[1]), lambda event: None, confined=sys.argv[2] == "confined", devices=handed_out)
    engine.start()
    if len(sys.argv) > 3:
        plan = plans.Plan.model_validate_json(Path(sys.argv[3]).read_text())
        engine.submit(plan, {part.ref: "host-secret-4711" for part in plans.secret_refs(plan)})
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
