"""Conformance of running agents: each check calls the agent as FuseML does, and states the rule that it holds to.

A check of a store leaves nothing where the agent can delete; a check of a workload leaves ended jobs. Checks do not depend on one another.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.agents import workload
from fuseml.artifactstores import wire
from fuseml.domain import errors
from fuseml.runtime import agent_calls

Result = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule of a protocol, and whether the agent keeps it. `detail` is the fault of a failed one, or the reason to skip."""

    rule: str
    result: Result
    detail: str = ""


class BrokenRuleError(Exception):
    """The agent breaks the rule of a check; the message states the observation."""


class SkippedError(Exception):
    """A check does not concern this agent, for the reason in the message."""


def kind_of(url: str) -> Literal["store", "workload"]:
    """The kind of the agent at a URL, by its declaration. Raises InvalidError for a server that is none, TemporaryError for a silent one."""
    found: list[Literal["store", "workload"]] = []
    for kind, root, protocol in (("store", wire.ROOT, wire.PROTOCOL), ("workload", workload.ROOT, workload.PROTOCOL)):
        try:
            declared = agent_calls.Agent(url, "", kind).call("GET", root)
        except errors.PermanentError:
            continue
        if declared.get("protocol") == protocol:
            found.append("store" if kind == "store" else "workload")
    if not found:
        raise errors.InvalidError(
            f"the server at this URL is no agent: neither {wire.ROOT} nor {workload.ROOT} declares a protocol of FuseML"
        )
    return found[0]


def checked(checks: Mapping[str, Callable[[], None]]) -> list[Check]:
    """The results of checks, in their order. An agent that does not answer fails a check; it ends none of the others."""
    results: list[Check] = []
    for rule, check in checks.items():
        try:
            check()
        except SkippedError as reason:
            results.append(Check(rule, "skipped", str(reason)))
        except (BrokenRuleError, errors.FusemlError) as fault:
            results.append(Check(rule, "failed", " ".join(str(fault).split())))
        else:
            results.append(Check(rule, "passed"))
    return results


def expect(holds: object, observation: str) -> None:
    """Raises BrokenRuleError unless the rule holds."""
    if not holds:
        raise BrokenRuleError(observation)


def refused(call: Callable[[], object], kind: type[errors.FusemlError], subject: str) -> None:
    """Raises BrokenRuleError unless the agent refuses the call with this kind of error."""
    try:
        call()
    except kind as error:
        # A missing version or job has an error of its own.
        expect(kind is not errors.PermanentError or not isinstance(error, errors.NotFoundError), f"{subject} is answered with not_found")
        return
    except errors.FusemlError as error:
        raise BrokenRuleError(f"{subject} is answered with {error.name!r} instead of {kind.name!r}") from None
    raise BrokenRuleError(f"{subject} is accepted instead of refused with {kind.name!r}")


def fresh(prefix: str) -> str:
    """A name that nothing else has."""
    return f"{prefix}-{secrets.token_hex(6)}"
