"""The contract of tools that train: one suite for every implementation, each at a server."""

from __future__ import annotations

import http.server
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml import workloads
from fuseml.steps import sdk
from fuseml.workloads import starting
from fuseml.workloads.port import ENDS, Job, Resources, State, Status
from tests import workload_tools
from tests.contract import kubernetes_training
from tests.waiting import wait_until
from tests.workload_tools import Tool

SECRET = "workload-canary-8d1f40"


@pytest.fixture(scope="module", params=[*workload_tools.SERVERS])
def tool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    with workload_tools.SERVERS[request.param](tmp_path_factory.mktemp("tool")) as running:
        yield running


@pytest.fixture
def workload(tool: Tool) -> workloads.Workload:
    return tool.connect()


def job(tool: Tool, command: str, **fields: object) -> Job:
    name = f"{fields.pop('name', 'job')}-{secrets.token_hex(4)}"
    return Job(name=name, command=command, image=tool.image, **fields)  # type: ignore[arg-type]


def end(workload: workloads.Workload, name: str) -> Status:
    found: list[Status] = []

    def has_ended() -> bool:
        found.append(workload.observe(name))
        return found[-1].state in (*ENDS, "absent")

    wait_until(has_ended, f"the end of the job {name}")
    return found[-1]


def outputs(log: str) -> dict[str, str]:
    return dict(filter(None, map(starting.output, log.splitlines())))


def test_a_job_runs_to_its_end_with_its_variables_log_and_outputs(tool: Tool, workload: workloads.Workload, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "words").write_text("from the codeset\n")
    (tmp_path / "code" / "later").symlink_to("words")
    reading = "cat words later" if workload.takes_code else "echo no code"
    command = f'{reading}; echo "$FUSEML_EPOCHS" \'größer\'; printf %s "$KEY" | wc -c; printf \'a\\nb\' > "$FUSEML_ENV_RESULTS/model"'
    asked = job(
        tool, command, variables={"FUSEML_EPOCHS": "it's 3"}, secrets={"KEY": SECRET}, code=tmp_path / "code", labels={"run": "r-1"}
    )
    assert workload.observe(asked.name).state == "absent"
    workload.check(asked)
    workload.submit(asked)
    assert end(workload, asked.name) == Status("succeeded")
    log = workload_tools.whole_log(workload, asked.name)
    if workload.takes_code:
        assert log.count("from the codeset") == 2
    assert "it's 3 größer\n" in log and str(len(SECRET)) in log
    assert outputs(log) == {"model": "a\nb"}
    assert workload.outputs(asked.name).keys() <= {"metrics", "checkpoint"}


def test_the_same_name_is_one_job(tool: Tool, workload: workloads.Workload, tmp_path: Path) -> None:
    asked = job(tool, f"echo once >> {tmp_path}/starts; echo done")
    for _ in range(3):
        workload.submit(asked)
    assert end(workload, asked.name).state == "succeeded"
    workload.submit(asked)
    assert workload.observe(asked.name).state == "succeeded"
    assert (tmp_path / "starts").read_text() == "once\n"


def test_a_failed_job_has_its_cause_and_its_log(tool: Tool, workload: workloads.Workload) -> None:
    asked = job(tool, "echo before the end; exit 7", variables={starting.LINGER: "2"})
    workload.submit(asked)
    seen = followed(workload, asked.name)
    status = workload.observe(asked.name)
    assert status.state == "failed" and status.cause and "\n" not in status.cause
    assert "before the end\n" in seen
    workload.cancel(asked.name)
    assert workload.observe(asked.name).state == "failed"


def followed(workload: workloads.Workload, name: str) -> str:
    """The log, read part by part while the job runs, as the step does."""
    parts: list[str] = []
    place: list[workloads.Position] = [{}]

    def has_ended() -> bool:
        state: State = workload.observe(name).state
        text, place[0] = workload.logs(name, place[0])
        parts.append(text)
        return state in ENDS

    wait_until(has_ended, f"the end of the job {name}")
    return "".join(parts)


def test_the_parts_of_a_log_are_the_whole(tool: Tool, workload: workloads.Workload) -> None:
    asked = job(tool, "for n in 1 2 3 4 5 6 7 8; do echo line $n; echo line $n; sleep 0.2; done; printf 'the end'")
    workload.submit(asked)
    seen = followed(workload, asked.name)
    assert seen == workload_tools.whole_log(workload, asked.name)
    assert [line for line in seen.splitlines() if line.startswith("line ")] == [f"line {n}" for n in range(1, 9) for _ in range(2)]
    assert seen.rstrip("\n").endswith("the end")


def test_a_cancelled_job_is_stopped(tool: Tool, workload: workloads.Workload, tmp_path: Path) -> None:
    asked = job(tool, f"echo begins; trap 'touch {tmp_path}/stopped; exit 3' TERM; while true; do sleep 0.1; done")
    workload.submit(asked)
    wait_until(lambda: "begins\n" in workload_tools.whole_log(workload, asked.name), "the job")
    assert workload.observe(asked.name).state == "running"
    workload.cancel(asked.name)
    workload.cancel(asked.name)
    assert end(workload, asked.name).state == ("cancelled" if tool.keeps_cancelled else "absent")
    wait_until((tmp_path / "stopped").exists, "the end of the program")


def test_an_unknown_job_has_no_log_and_cannot_be_cancelled(workload: workloads.Workload) -> None:
    assert workload.observe("unknown-1") == Status("absent")
    workload.cancel("unknown-1")
    assert workload.outputs("unknown-1") == {}


def test_a_tool_that_does_not_answer_is_away(tool: Tool) -> None:
    away = workloads.connect(tool.resource, "http://127.0.0.1:1", tool.variables)
    with pytest.raises(sdk.HttpError) as raised:
        away.cancel("any-1")
    assert raised.value.status == 0


ELSE: dict[str, dict[str, str]] = {
    "ray-jobs": {"/api/jobs/a/logs": "<html>"},
    "determined-experiments": {
        "/api/v1/experiments": '{"experiments": [{"name": "a", "id": 1}]}',
        "/api/v1/experiments/1/trials": '{"trials": [{"id": 1}]}',
        "/api/v1/trials/1/logs": "<html>",
    },
}


@pytest.mark.parametrize("resource", ELSE)
def test_a_log_of_another_form_is_refused_with_the_way_out(resource: str) -> None:
    """A gateway in front of the tool may answer in its place."""

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = ELSE[resource][self.path.partition("?")[0]].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            connected = workloads.connect(resource, f"http://127.0.0.1:{server.server_port}", {"DET_USER_TOKEN": "t"})
            with pytest.raises(sdk.StepError, match="check the endpoint of the record"):
                connected.logs("a", {})
        finally:
            server.shutdown()
            thread.join()


def test_a_job_that_the_tool_cannot_run_is_refused_before_it_starts(tool: Tool, workload: workloads.Workload) -> None:
    fields: dict[str, object] = {"name": "a-1", "command": "true", "image": tool.image}
    match tool.resource:
        case "ray-jobs":
            fields["nodes"] = 2
        case "determined-experiments":
            fields["resources"] = Resources(memory="1Gi")
        case "kubernetes-job":
            fields["image"] = ""
        case "kubeflow-trainjob":
            fields["variables"] = {f"A{number}": "1" for number in range(130)}
    with pytest.raises(sdk.StepError):
        workload.check(Job(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resource", "gpu"), [("ray-jobs", "many"), ("determined-experiments", "many"), ("determined-experiments", "500m")]
)
def test_an_amount_that_the_tool_cannot_give_is_refused_before_the_job_starts(resource: str, gpu: str) -> None:
    connected = workloads.connect(resource, "http://127.0.0.1:1", {"DET_USER_TOKEN": "t"})
    with pytest.raises(sdk.StepError, match="the input 'gpu'"):
        connected.check(Job("a-1", "true", resources=Resources(gpu=gpu)))


def test_the_account_for_trainings_has_exactly_the_rights_that_are_used(tmp_path: Path) -> None:
    used = set[tuple[str, str]]()
    for name in ("kubernetes-job", "trainjob"):
        (tmp_path / name).mkdir()
        with workload_tools.SERVERS[name](tmp_path / name) as tool:
            workload = tool.connect()
            asked = job(tool, "echo begins; sleep 100", secrets={"KEY": SECRET})
            workload.submit(asked)
            wait_until(lambda: "begins" in workload_tools.whole_log(workload, asked.name), "the job")  # noqa: B023 (called at once)
            workload.cancel(asked.name)
            used |= tool.server.used
    assert used == kubernetes_training.granted()


def test_ray_reports_a_job_that_it_cannot_set_up(tmp_path: Path) -> None:
    with workload_tools.ray_jobs(tmp_path) as tool:
        asked = job(tool, "true", options={"working_dir": "gcs://missing.zip"})
        tool.connect().submit(asked)
        status = tool.connect().observe(asked.name)
        assert status == Status("failed", "runtime_env setup failed: Failed to set up runtime environment.: OSError: no such package")
        assert tool.connect().logs(asked.name, {}) == ("", {"characters": 0})


def test_determined_keeps_a_checkpoint_and_the_metric_of_the_search(tmp_path: Path) -> None:
    with workload_tools.determined(tmp_path) as tool:
        asked = job(tool, "true", name="checkpoint")
        workload = tool.connect()
        workload.submit(asked)
        assert end(workload, asked.name).state == "succeeded"
        assert workload.outputs(asked.name) == {"checkpoint": "uuid-1", "metrics": '{"searcher_metric": 0.25}'}
