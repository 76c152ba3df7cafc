"""The change of the pod security of the workloads by a deployment: never while pods of unfinished runs would be refused."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from fuseml.deployment import pod_security
from fuseml.engines.tekton import Settings, render
from tests.contract.manifests import ROOT, documents
from tests.unit import tekton_plans

ENFORCED = "pod-security.kubernetes.io/enforce"


def namespaces() -> list[dict[str, Any]]:
    return documents(ROOT / "infra/kubernetes/namespaces.yaml")


def deployed(standard: str | None) -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": "fuseml-workloads", **({ENFORCED: standard} if standard else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fuseml-workloads", "labels": labels}}


def levels(objects: list[dict[str, Any]]) -> dict[str, str | None]:
    return {item["metadata"]["name"]: item["metadata"]["labels"].get(ENFORCED) for item in objects}


def pipeline_run(name: str = "conditions", finished: str | None = None, **context: Any) -> dict[str, Any]:
    """The PipelineRun of a plan, with another context of its pods if given."""
    plan = tekton_plans.PLANS[name]()
    body = render.render(plan, tekton_plans.secrets_of(plan), Settings()).pipeline_run
    template = body["spec"]["taskRunTemplate"]
    template["podTemplate"] = {**template["podTemplate"], **context}
    status = {"conditions": [{"type": "Succeeded", "status": finished}]} if finished else {}
    return {**body, "status": status}


@pytest.mark.parametrize("standard", [None, "privileged", "restricted"])
def test_a_running_installation_keeps_its_pod_security_until_the_end(standard: str | None) -> None:
    made = namespaces()
    final = pod_security.keep(made, deployed(standard))
    assert levels(made) == {"fuseml": "restricted", "fuseml-workloads": standard}
    assert levels(final) == {"fuseml-workloads": "restricted"}


def test_a_new_installation_enforces_its_pod_security_at_once() -> None:
    made = namespaces()
    pod_security.keep(made, None)
    assert levels(made) == {"fuseml": "restricted", "fuseml-workloads": "restricted"}


@pytest.mark.parametrize(
    ("run", "refused"),
    [
        (pipeline_run(), False),
        (pipeline_run(securityContext={}), True),
        (pipeline_run(finished="Unknown", securityContext={}), True),
        (pipeline_run(finished="False", securityContext={}), False),
        (pipeline_run(finished="True", securityContext={}), False),
        (pipeline_run("image"), True),
        ({"metadata": {"name": "other"}, "spec": {"pipelineRef": {"name": "x"}}}, True),
    ],
)
def test_unfinished_runs_with_unconfined_pods_are_known(run: dict[str, Any], refused: bool) -> None:
    assert pod_security.refused_runs([run]) == ([run["metadata"]["name"]] if refused else [])


KUBECTL = """\
#!/bin/sh
case "$*" in
  get\\ namespace*) cat {folder}/namespace ;;
  get\\ pipelineruns*) touch {folder}/listed; cat {folder}/runs ;;
  *) cat > {folder}/applied ;;
esac
"""


def cluster_with(namespace: dict[str, Any], runs: list[dict[str, Any]], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `kubectl` that knows the namespace of the workloads and the runs, and records applied objects and whether runs were listed."""
    (tmp_path / "namespace").write_text(json.dumps(namespace))
    (tmp_path / "runs").write_text(json.dumps({"items": runs}))
    (tmp_path / "kubectl").write_text(KUBECTL.format(folder=tmp_path))
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("standard", "runs", "applied", "reported"),
    [
        ("restricted", [pipeline_run(securityContext={})], False, ""),
        (None, [pipeline_run()], True, "pod security of the namespace"),
        ("privileged", [], True, "pod security of the namespace"),
        (None, [pipeline_run(securityContext={})], False, "unfinished runs example-0123456789abcdef; run the same command again"),
    ],
    ids=["unchanged", "upgrade", "no more builds", "unfinished"],
)
def test_a_stricter_standard_waits_for_the_runs_that_it_would_break(
    standard: str | None,
    runs: list[dict[str, Any]],
    applied: bool,
    reported: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster_with(deployed(standard), runs, tmp_path, monkeypatch)
    pod_security.enforce(pod_security.keep(namespaces(), deployed(standard)))
    assert (tmp_path / "applied").exists() is applied
    output = capsys.readouterr().out
    assert reported in output and bool(reported) is bool(output)


@pytest.mark.parametrize(("builds", "listed"), [(True, False), (False, True)])
def test_runs_are_listed_for_a_stricter_standard_only(
    builds: bool, listed: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, before = namespaces(), deployed(None if builds else "privileged")
    cluster_with(before, [pipeline_run()], tmp_path, monkeypatch)
    pod_security.allow_image_builds(made, allowed=builds)
    pod_security.enforce(pod_security.keep(made, before))
    assert ((tmp_path / "applied").exists(), (tmp_path / "listed").exists()) == (True, listed)
