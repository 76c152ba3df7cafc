"""Ranker step (`ghcr.io/fuseml/ranker`): compares the combinations of a step's matrix, and outputs the outputs of the best one.

Plans add it after the combinations. Inputs: FUSEML_METRIC (a metric in their output `metrics`), FUSEML_GOAL (`min` or `max`),
FUSEML_COMBINATIONS (JSON: name -> values by name), FUSEML_OUTPUTS (JSON: the names of their outputs), and FUSEML_OUTPUT_<C>_<O>: output number
O of combination number C, both from 1. Outputs: those of the best combination, and `best`, its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from fuseml.steps import ranking, sdk


def main() -> None:
    """Rank the combinations."""
    metric, goal = sdk.input("metric"), sdk.input("goal")
    combinations: Mapping[str, Mapping[str, str]] = json.loads(sdk.input("combinations"))
    names: Sequence[str] = json.loads(sdk.input("outputs"))
    outputs = [
        {name: os.environ.get(f"FUSEML_OUTPUT_{number}_{index}", "") for index, name in enumerate(names, 1)}
        for number in range(1, len(combinations) + 1)
    ]
    measured = [ranking.metrics(written.get("metrics", "")) for written in outputs]
    best = ranking.best([found.get(metric) for found in measured], goal)
    _print_table(combinations, metric, measured, best)
    if best is None:
        known = sorted({name for found in measured for name in found})
        listed = f"they have {', '.join(known)}" if known else "their outputs 'metrics' hold no number"
        raise sdk.StepError(f"no combination has a number as its metric '{metric}': {listed}")
    for name, value in outputs[best].items():
        sdk.output(name, value)
    sdk.output("best", list(combinations)[best])
    word = "least" if goal == "min" else "greatest"
    sdk.say(f"{list(combinations)[best]} is the best: its {metric}, {measured[best][metric]:.6g}, is the {word}")


def _print_table(
    combinations: Mapping[str, Mapping[str, str]], metric: str, measured: Sequence[Mapping[str, float]], best: int | None
) -> None:
    titles = list(next(iter(combinations.values()), {}))
    lines = [["combination", *titles, metric]]
    for number, ((name, values), found) in enumerate(zip(combinations.items(), measured, strict=True)):
        mark = " (best)" if number == best else ""
        cells = (" ".join(values[title].split()) for title in titles)
        lines.append([name, *cells, (f"{found[metric]:.6g}" if metric in found else "-") + mark])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        sdk.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sdk.run(main)
