"""The stand-ins of the embedded server: git host, broker, engine, contents, model servers and MLflow, over one `State`."""

from __future__ import annotations

import functools
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuseml.contents import filesystem
from fuseml.domain import plans
from fuseml.embedded import (
    access,
    broker,
    bytecode,
    chaos,
    environment_cache,
    inheritance,
    model_process,
    model_servers,
    redelivery,
    step_options,
    tracking,
    tracking_proxy,
    triggers,
)
from fuseml.embedded.state import State
from fuseml.engines import local
from fuseml.engines.local import confinement, device_search, devices
from fuseml.githosts import limits
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.processes import landlock
from fuseml.runtime.settings import Settings
from fuseml.runtime.telemetry import logs

_IDLE_SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """One of each; none is started."""

    git: EmbeddedGitHost
    broker: broker.Broker
    engine: local.LocalEngine
    contents: filesystem.FileContents
    model_servers: model_servers.ModelServers
    environments: environment_cache.EnvironmentCache
    tracking: tracking.TrackingServer
    bytecode: bytecode.OwnBytecode
    processes: access.ProcessTokens
    devices: local.Devices


def make(
    state: State,
    url: str,
    subscribers: Mapping[str, broker.Subscriber],
    *,
    mlflow: str,
    environment: Mapping[str, str],
    steps: step_options.StepOptions,
    trouble: chaos.Chaos,
    rotation: logs.Rotation,
) -> StandIns:
    """The stand-ins of a server at `url`, whose broker delivers to `subscribers`. Raises PermanentError."""
    home, processes = state.home, access.ProcessTokens()
    inherited = inheritance.variables(environment, steps.passed, urllib.parse.urlsplit(url).hostname or "")
    handed_out = devices.select(device_search.find(inherited) if steps.devices is not None else {}, steps.devices)
    git = _git_host(home / "git", f"{url}/git", environment)
    contract = triggers.contract_folder()
    delivered = triggers.load(contract / "triggers", redelivery.of_broker(contract / "broker.yaml"))
    queue = broker.Broker(state.store, delivered, subscribers, signer=state.signer, chaos=trouble)
    return StandIns(
        git=git,
        broker=queue,
        engine=local.LocalEngine(
            root=home / "runs",
            # The engine is a part of this process, so its events are facts.
            emit=trouble.source(lambda event: queue.publish(state.signer.sign(event))),
            checkout=functools.partial(_checkout, git),
            seal=lambda secret: state.keyring.seal(secret.decode()).encode(),
            unseal=lambda sealed: state.keyring.unseal(sealed.decode()).encode(),
            environments=home / "environments",
            environment=inherited,
            container_variables=inheritance.of_containers(inherited),
            masked=inheritance.secrets(inherited),
            confinement=_confinement(home, inherited, steps, handed_out),
            limits=steps.limits,
            devices=handed_out,
        ),
        contents=filesystem.FileContents(home / "contents"),
        model_servers=model_servers.ModelServers(
            state.store,
            model_process.Starter(
                home / "apps",
                runtimes=home / "environments",
                environment={**inherited, "MLFLOW_DISABLE_TELEMETRY": "true"},
                unseal=state.keyring.unseal,
                tracking_url=f"{url}{tracking_proxy.PREFIX}",
                processes=processes,
            ),
            idle=_IDLE_SECONDS,
            rotation=rotation,
        ),
        environments=environment_cache.EnvironmentCache(home / "environments", state.store, environment_cache.limit(environment)),
        tracking=tracking.TrackingServer(
            home,
            url=f"{url}{tracking_proxy.PREFIX}",
            webhook_url=f"{url}/webhooks/mlflow/{tracking.EXTENSION}",
            webhook_secret=state.tracker_secret,
            processes=processes,
            environment=inherited,
            mode=mlflow,
            rotation=rotation,
        ),
        bytecode=bytecode.OwnBytecode(home / "logs" / "bytecode.log", inherited),
        processes=processes,
        devices=handed_out,
    )


def _confinement(
    home: pathlib.Path, inherited: Mapping[str, str], steps: step_options.StepOptions, handed_out: local.Devices
) -> local.Confinement:
    named = [local.AllowedPath(path) for path in inheritance.files(inherited)]
    abi = landlock.abi() if steps.confined else 0
    return confinement.make(
        abi, environment=inherited, protected=[home], allowed=[*named, *steps.allowed], devices=handed_out.managed_files
    )


def _git_host(root: pathlib.Path, url: str, environment: Mapping[str, str]) -> EmbeddedGitHost:
    root.mkdir(exist_ok=True)
    git = EmbeddedGitHost(root, url, _limits(environment))
    git.recover()
    return git


def _limits(environment: Mapping[str, str]) -> limits.Limits:
    given = Settings.known(environment)
    return limits.Limits(
        object=given.bound("git_object_mib", "MiB") * limits.MIB,
        pack=given.bound("git_pack_mib", "MiB") * limits.MIB,
        # A delta needs its base and its result, and dulwich a copy.
        memory=max(limits.DEFAULT.memory, 4 * given.bound("git_object_mib", "MiB") * limits.MIB),
        files=given.bound("checkout_files", "files"),
        checkout=given.bound("checkout_mib", "MiB") * limits.MIB,
    )


def _checkout(git: EmbeddedGitHost, checkout: plans.Checkout, directory: pathlib.Path) -> Sequence[plans.Submodule]:
    foreign = git.export(checkout.project, checkout.codeset, checkout.commit, directory)
    if checkout.git:
        git.add_repository(checkout.project, checkout.codeset, checkout.commit, directory)
    return foreign
