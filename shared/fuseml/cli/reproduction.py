"""`fuseml artifact reproduce`: the locked plan of an artifact's run again, and the comparison of both results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fuseml.cli import output, progress, terminal
from fuseml.domain import artifact, errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

_COMPARED = ("metric", "output", "artifact")
_UNKNOWN = "without a digest"
_DIGEST_SECONDS = 30.0
"""A digest of a model is reported apart from the model, and may come after the end of the run."""

DIFFERENCES = (
    output.column("Kind"),
    output.column("Name"),
    output.Column("First", lambda item: item.get("a"), cut=True),
    output.Column("Again", lambda item: item.get("b"), cut=True),
)


def reproduce(client: Client, address: str, format: output.Format) -> Mapping[str, object]:
    """Run the locked plan up to the step that made the artifact, and compare. Raises ConflictError without a run and a step, and for a run
    that does not succeed.
    """
    made = client.artifacts.get(address)
    run, step = made["run"], made["step"]
    if not run or not step:
        raise errors.ConflictError(f"{made['address']} names no run and step that made it, so there is no plan to repeat")
    request = client.runs.rerun(run, locked=True, until=step)
    begun = client.runs.requested(request)
    if format is output.Format.TABLE:
        terminal.echo(f"Run {begun['name']} repeats the plan of {run} up to step {step}.")
    snapshots = client.runs.follow([begun["name"]])
    last = progress.show(snapshots) if format is output.Format.TABLE else list(snapshots)[-1]
    again = next(item for item in last if item["name"] == begun["name"])
    if again["state"] != "succeeded":
        raise errors.ConflictError(
            f"run {again['name']} has {again['state']}, so there is nothing to compare: {again['cause'] or 'no cause'}"
        )
    return _compared(client, made, step, run, again["name"])


def _compared(client: Client, made: shapes.Artifact, step: str, run: str, again: str) -> Mapping[str, object]:
    parsed = artifact.Address.parse(made["address"])
    name = f"{step}: {parsed.kind}://{parsed.project}/{parsed.name}"
    deadline = time.monotonic() + _DIGEST_SECONDS
    while True:
        found = client.runs.diff(run, again, everything=True)["differences"]
        both = next((item for item in found if (item["kind"], item["name"]) == ("artifact", name)), None)
        first, second = (both["a"], both["b"]) if both else (None, None)
        is_missing = _UNKNOWN in (second or _UNKNOWN) and _UNKNOWN not in (first or _UNKNOWN)
        if not is_missing or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    known = all(side is not None and _UNKNOWN not in side for side in (first, second))
    # The steps after that of the artifact are not repeated.
    differences = [
        item for item in found if item["kind"] in _COMPARED and not item["equal"] and item["a"] is not None and item["b"] is not None
    ]
    return {
        "address": made["address"],
        "run": run,
        "again": again,
        "same": first == second if known else None,
        "digest": first,
        "digest_again": second,
        "differences": differences,
    }


def show(result: Mapping[str, object]) -> None:
    """Print the verdict, and the differences."""
    found = result["differences"]
    differences: list[Mapping[str, object]] = found if isinstance(found, list) else []
    only_contents = all(item["kind"] == "artifact" for item in differences)
    verdicts = {
        True: f"{result['address']} is reproduced: run {result['again']} has made the same contents, {result['digest']}.",
        False: f"{result['address']} is not reproduced: run {result['again']} has made other contents"
        + (", with equal metrics and outputs." if only_contents else "."),
        None: f"{result['address']} cannot be compared by its contents: a digest is missing, of {result['run']} or of {result['again']}.",
    }
    same = result["same"]
    terminal.echo(verdicts[same if isinstance(same, bool) else None])
    if differences:
        terminal.echo("\nDifferences:")
        output.table(differences, DIFFERENCES, indent=2)
