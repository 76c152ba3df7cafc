"""The dashboard for Grafana: each query names metrics and labels that functions report, and no panel covers another."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuseml.runtime.telemetry import metrics, scrape

FOLDER = Path(__file__).parents[2] / "infra" / "integrations" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
METRICS = {metric.name: metric for metric in (*metrics.COUNTED, *scrape.READ)}
OF_HISTOGRAM = ("_bucket", "_count", "_sum")


def metric_of(name: str) -> tuple[str, str]:
    """The metric with this time series, and the series' ending."""
    for ending in ("", *OF_HISTOGRAM):
        known = METRICS.get(name.removesuffix(ending)) if name.endswith(ending) else None
        if known is not None and (ending in OF_HISTOGRAM) == (known.kind == "histogram"):
            return known.name, ending
    raise AssertionError(f"no function reports {name}")


@pytest.mark.parametrize(
    "query", [target["expr"] for panel in PANELS for target in panel["targets"]], ids=lambda query: re.findall(r"fuseml_\w+", query)[0]
)
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    [(series, matchers, window)] = re.findall(r"(fuseml_\w+)(?:\{([^}]*)\})?(\[\$__rate_interval\])?", query)
    name, ending = metric_of(series)
    labels = {*METRICS[name].labels, *(["le"] if ending == "_bucket" else [])}
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped | {*re.findall(r"(\w+)=~?\"", matchers)} <= labels
    assert bool(window) == (METRICS[name].kind != "gauge"), "a counter is shown as a rate, and a gauge is not"
    assert ("histogram_quantile" in query) == (ending == "_bucket") and ("le" in grouped) == (ending == "_bucket")
    assert query.count("(") == query.count(")")


def test_a_legend_names_labels_of_its_query() -> None:
    for target in (target for panel in PANELS for target in panel["targets"]):
        grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"])))
        assert {*re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))} <= {*grouped}, target


def test_every_metric_is_shown() -> None:
    shown = {metric_of(name)[0] for panel in PANELS for target in panel["targets"] for name in re.findall(r"fuseml_\w+", target["expr"])}
    assert shown == METRICS.keys()


def test_panels_stand_side_by_side_in_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = set(itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_the_source_of_data_is_chosen_by_the_user() -> None:
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert {item["datasource"]["uid"] for panel in PANELS for item in (panel, *panel["targets"])} == {"${datasource}"}


def test_the_manifest_ships_the_dashboard() -> None:
    [generated] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"]
    assert all((FOLDER / name).exists() for name in generated["files"])
    assert generated["options"]["labels"] == {"grafana_dashboard": "1"}
