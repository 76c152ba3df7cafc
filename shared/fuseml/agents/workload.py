"""The HTTP service of a workload agent: serves a `Workload` by the protocol that the step `workload` speaks (docs/agents.md)."""

from __future__ import annotations

from typing import Annotated

import flask
import pydantic

from fuseml.agents import jobs, service
from fuseml.runtime import operations

PROTOCOL = "fuseml.workload/1"
ROOT = "/workload/v1"

_JOB = f"{ROOT}/jobs/<id>"


class Declaration(pydantic.BaseModel):
    """The protocol of the agent."""

    protocol: str


class JobBody(pydantic.BaseModel):
    """A job: its parameters, and the project and run that it is of."""

    parameters: dict[str, str] = {}
    project: Annotated[str, pydantic.Field(max_length=200)] = ""
    run: Annotated[str, pydantic.Field(max_length=200)] = ""


class StatusBody(pydantic.BaseModel):
    """The state of a job, an end being final. `cause` is about a failed one; times are Unix milliseconds, 0 before them."""

    id: str
    state: jobs.State
    cause: str
    started: int
    finished: int


class Outputs(pydantic.BaseModel):
    """The outputs of a succeeded job."""

    outputs: dict[str, str]


class LogQuery(operations.Query):
    offset: int = pydantic.Field(0, ge=0, le=operations.MAX_OFFSET, description="bytes that were read before")


def create_app(workload: jobs.Workload, token: str) -> flask.Flask:
    """The application. Callers prove themselves by the bearer token. Raises InvalidError for a token that is too short to be a secret."""
    api = service.api("workload", "Workload agent: jobs that a tool runs.", token)

    def status(id: str) -> StatusBody:
        found = workload.status(jobs.check_id(id))
        cause = " ".join(found.cause.split())[:1000]
        return StatusBody(id=id, state=found.state, cause=cause, started=found.started, finished=found.finished)

    @api.route("GET", ROOT, returns=Declaration, public=True)
    def get_workload_declaration() -> Declaration:
        """Show the protocol. Needs no token."""
        return Declaration(protocol=PROTOCOL)

    @api.route("PUT", _JOB, body=JobBody, returns=StatusBody, refusals=(409,))
    def start(id: str, body: JobBody) -> StatusBody:
        """Start a job under an id of the caller. The same id and job again change nothing and answer the present state."""
        workload.start(jobs.check_id(id), jobs.check(jobs.Job(body.parameters, body.project, body.run)))
        return status(id)

    @api.route("GET", _JOB, returns=StatusBody)
    def get_status(id: str) -> StatusBody:
        """Show the state of a job."""
        return status(id)

    @api.route("GET", f"{_JOB}/logs", query=LogQuery, text="application/octet-stream")
    def get_logs(id: str, query: LogQuery) -> flask.Response:
        """Read the log from an offset on, at most 1 MiB; an empty answer is the present end of it."""
        return service.streamed(iter([workload.logs(jobs.check_id(id), query.offset)[: jobs.LOG]]), None)

    @api.route("POST", f"{_JOB}/cancel", returns=StatusBody)
    def cancel(id: str) -> StatusBody:
        """Ask a job to end. Changes nothing for one that has ended."""
        workload.cancel(jobs.check_id(id))
        return status(id)

    @api.route("GET", f"{_JOB}/outputs", returns=Outputs, refusals=(409,))
    def get_outputs(id: str) -> Outputs:
        """Show the outputs of a succeeded job."""
        return Outputs(outputs=dict(workload.outputs(jobs.check_id(id))))

    return api.app
