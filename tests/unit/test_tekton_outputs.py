"""Execution of the container that checks the outputs of a step on Tekton: an accepted output is reported, a refused one leaves the pod nowhere."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import outputs, plans
from fuseml.engines.tekton import Settings, events, render
from tests import commands
from tests.contract import engines
from tests.unit import tekton_model, tekton_plans

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PATH": str(Path(sys.executable).parent)}
KEY, OTHER = engines.secret("KEY"), engines.secret("OTHER")
SECRETS = {KEY.ref: 'canary-7f3a"9c51e2', OTHER.ref: "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA7\n-----END KEY-----\n"}
CODE = tekton_plans.codeset()
ACCOUNT = {CODE.account: "keeper:correct-horse"}


def make_plan(*names: str, **secrets: plans.SecretPart) -> plans.Plan:
    """A step with these outputs and secrets, after another step with a secret."""
    other = engines.shell("other", "true", env={"OTHER": (OTHER,)} if secrets else {}, checkouts=(CODE,))
    return tekton_plans.make(
        other, engines.shell("step", "true", outputs=names, env={name: (part,) for name, part in secrets.items()}, needs=("other",))
    )


def check(folder: Path, plan: plans.Plan, files: Mapping[str, bytes], secrets: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the checking container of the plan's last step after its program has written the files. `folder` is the root of the container."""
    manifests = render.render(plan, secrets, Settings())
    contents = manifests.secret["stringData"] if manifests.secret else {}
    task = manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]
    container = task["taskSpec"]["steps"][-1]
    assert container["name"] == events.CHECK_CONTAINER
    (folder / "tekton/results").mkdir(parents=True)
    for name, content in files.items():
        (folder / "tekton/results" / name).write_bytes(content)
    (folder / f"tekton/steps/step-{events.CHECK_CONTAINER}/results").mkdir(parents=True)
    for mount in container.get("volumeMounts", []):
        [volume] = [volume for volume in task["taskSpec"]["volumes"] if volume["name"] == mount["name"]]
        mount_as_kubernetes(folder / mount["mountPath"].lstrip("/"), volume["secret"]["items"], contents)
    view = tekton_model.run_container(task, container, {}, contents)
    arguments = [re.sub("(^|=)/", rf"\1{folder}/", argument) for argument in view.arguments]
    return commands.run(arguments, environment={**ENVIRONMENT, **view.environment}, code=None)


def mount_as_kubernetes(folder: Path, items: list[dict[str, str]], contents: Mapping[str, str]) -> None:
    (folder / "..2026").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026")
    for item in items:
        (folder / "..2026" / item["path"]).write_bytes(contents[item["key"]].encode())
        (folder / item["path"]).symlink_to(f"..data/{item['path']}")


def reported(folder: Path) -> dict[str, str]:
    """The results that Tekton reports: those of the checking container."""
    return {path.name: path.read_bytes().decode() for path in (folder / f"tekton/steps/step-{events.CHECK_CONTAINER}/results").iterdir()}


@pytest.mark.parametrize("has_secrets", [True, False])
def test_accepted_outputs_are_reported_without_the_last_newline(tmp_path: Path, *, has_secrets: bool) -> None:
    plan = make_plan("problem", "output-0", "empty", **({"KEY": KEY} if has_secrets else {}))
    files = {"problem": "héllo\n\n".encode(), "output-0": b"a=b\r\n", "empty": b"", "undeclared": b"x"}
    process = check(tmp_path, plan, files, {**SECRETS, **ACCOUNT} if has_secrets else {})
    assert (process.returncode, process.stderr) == (0, "")
    assert reported(tmp_path) == {"output-0": "héllo\n", "output-1": "a=b", "output-2": ""}


QUOTED = json.dumps(json.dumps({"key": SECRETS[KEY.ref]}))
LEAKS = {
    "as it is": SECRETS[KEY.ref],
    "in a document within a document": QUOTED,
    "in a URL": "https://ada:canary-7f3a%229c51e2@example.org",
    "in base64": base64.b64encode(b"ada:" + SECRETS[KEY.ref].encode()).decode(),
    "a line of another step's secret": "MIIEowIBAAKCAQEA7",
    "the password of a codeset": "correct-horse",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_an_output_with_a_secret_is_named_and_nothing_is_reported(tmp_path: Path, leak: str) -> None:
    files = {"fine": b"fine", "leak": f"<{LEAKS[leak]}>".encode()}
    process = check(tmp_path, make_plan("fine", "leak", KEY=KEY), files, {**SECRETS, **ACCOUNT})
    assert (process.returncode, process.stderr) == (1, f"{outputs.contains_secret('leak')}\n")
    assert reported(tmp_path) == {events.PROBLEM: outputs.contains_secret("leak")}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "it exited with code 0 but did not write its output 'o': write the file $FUSEML_ENV_RESULTS/o"),
        ({"o": b"x" * 2000}, outputs.TOO_LARGE),
        ({"o": b"a\377b"}, "its output 'o' is not UTF-8 text; write text"),
        ({"o": b"a\0b"}, "its output 'o' contains a NUL character; write text"),
    ],
    ids=["missing", "large", "binary", "NUL"],
)
def test_an_output_that_cannot_be_published_is_the_problem(tmp_path: Path, files: dict[str, bytes], problem: str) -> None:
    process = check(tmp_path, make_plan("o"), files, {})
    assert (process.returncode, reported(tmp_path)) == (1, {events.PROBLEM: problem})


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tekton/results").mkdir(parents=True)
    (tmp_path / "tekton/results/o").symlink_to("/etc/passwd")
    program = ["-m", "fuseml.engines.check", f"{tmp_path}/tekton/results", "", f"{tmp_path}/problem", f"o={tmp_path}/o"]
    commands.run([sys.executable, *program], environment=ENVIRONMENT, code=1)
    assert "its output 'o' cannot be read: 'o' is a symbolic link" in (tmp_path / "problem").read_text()
    assert not (tmp_path / "o").exists()


def test_the_check_needs_no_installed_package() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'shared')!r}); import fuseml.engines.check"
    commands.run([sys.executable, "-I", "-S", "-c", program])


@pytest.mark.parametrize("name", tekton_plans.PLANS)
def test_tekton_reports_the_checked_outputs_only_and_no_other_container_has_all_secrets(name: str) -> None:
    plan = tekton_plans.PLANS[name]()
    tasks: list[dict[str, Any]] = render.render(plan, tekton_plans.secrets_of(plan), Settings()).pipeline_run["spec"]["pipelineSpec"][
        "tasks"
    ]
    for spec in (task["taskSpec"] for task in tasks):
        declared = {result["name"] for container in spec["steps"] for result in container.get("results", [])}
        for result in spec.get("results", []):
            prefix, suffix = f"$(steps.{events.CHECK_CONTAINER}.results.", ")"
            assert result["value"].startswith(prefix)
            assert result["value"].removeprefix(prefix).removesuffix(suffix) in declared
        mounting = [c["name"] for c in spec["steps"] if any(mount["name"] == "secrets" for mount in c.get("volumeMounts", []))]
        assert mounting in ([], [events.CHECK_CONTAINER])
