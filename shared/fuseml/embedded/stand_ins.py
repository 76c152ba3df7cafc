"""The stand-ins of the embedded server: git host, broker, engine, contents, model servers and MLflow, over one `State`."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.contents import filesystem
from fuseml.domain import plans
from fuseml.embedded import access, broker, chaos, model_servers, redelivery, tracking, tracking_proxy, triggers
from fuseml.embedded.state import State
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime.telemetry import logs

_IDLE_SECONDS = 900.0
# The variables of the server's own environment that steps and model servers may see.
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """One of each; none is started."""

    git: EmbeddedGitHost
    broker: broker.Broker
    engine: local.LocalEngine
    contents: filesystem.FileContents
    model_servers: model_servers.ModelServers
    tracking: tracking.TrackingServer
    processes: access.ProcessTokens


def make(
    state: State,
    url: str,
    subscribers: Mapping[str, broker.Subscriber],
    *,
    mlflow: str,
    environment: Mapping[str, str],
    trouble: chaos.Chaos,
    rotation: logs.Rotation,
) -> StandIns:
    """The stand-ins of a server at `url`, whose broker delivers to `subscribers`. Raises PermanentError."""
    home, processes = state.home, access.ProcessTokens()
    inherited = {name: value for name, value in environment.items() if name in _INHERITED}
    git = _git_host(home / "git", f"{url}/git")
    contract = triggers.contract_folder()
    delivered = triggers.load(contract / "triggers", redelivery.of_broker(contract / "broker.yaml"))
    queue = broker.Broker(state.store, delivered, subscribers, chaos=trouble)
    return StandIns(
        git=git,
        broker=queue,
        engine=local.LocalEngine(
            root=home / "runs",
            emit=trouble.source(queue.publish),
            checkout=functools.partial(_checkout, git),
            seal=lambda secret: state.keyring.seal(secret.decode()).encode(),
            unseal=lambda sealed: state.keyring.unseal(sealed.decode()).encode(),
            environments=home / "environments",
            environment=inherited,
        ),
        contents=filesystem.FileContents(home / "contents"),
        model_servers=model_servers.ModelServers(
            state.store,
            home / "apps",
            runtimes=home / "environments",
            environment={**inherited, "MLFLOW_DISABLE_TELEMETRY": "true"},
            unseal=state.keyring.unseal,
            idle=_IDLE_SECONDS,
            tracking_url=f"{url}{tracking_proxy.PREFIX}",
            processes=processes,
            rotation=rotation,
        ),
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
        processes=processes,
    )


def _git_host(root: pathlib.Path, url: str) -> EmbeddedGitHost:
    root.mkdir(exist_ok=True)
    git = EmbeddedGitHost(root, url)
    git.remove_stale_locks()
    return git


def _checkout(git: EmbeddedGitHost, checkout: plans.Checkout, directory: pathlib.Path) -> None:
    git.export(checkout.project, checkout.codeset, checkout.commit, directory)
