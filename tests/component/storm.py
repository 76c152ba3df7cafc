"""Two processes of every function, as on Knative, on one PostgreSQL: many pushes, lost webhooks, and killed processes.

    python -m tests.component.storm [--pushes 40] [--kills 8] [--seed N]

The broker is the embedded one, with a queue of its own and the production triggers; it delivers over HTTP to either process of a function,
repeats and reorders. Webhooks come one to three times, shuffled, and some never; Tekton's events likewise (`tekton.Controller`). Processes are
killed and started again at random, and the database goes down once. Git host and cluster are the small ones of the other tests, over HTTP.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import pathlib
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlmodel
import urllib3

from fuseml.domain import events
from fuseml.domain.labels import RUN_LABEL
from fuseml.embedded import chaos
from fuseml.runtime import catalog, clock, secrets, signing
from fuseml.store import database, deliveries
from fuseml.store.tables import ledger_rows, outbox_rows, run_rows
from tests import postgresql
from tests.unit import kubernetes_api

from . import brokers, gitea, githost, pods, tekton

FUNCTIONS = ("codesets", "workflows", "runs", "artifacts", "events", "gitea_ingress", "dispatcher", "run_tracker", "housekeeper", "sources")
CODESETS = [f"code{number}" for number in range(3)]
WORKFLOWS = [f"nothing{number}" for number in range(2)]
TOKEN = "storm-token"
_TICK_SECONDS = 2.0

WORKFLOW = """
name: {name}
inputs:
  - name: code
    type: codeset
steps:
  - name: work
    image: registry.example.com/work:1
    inputs:
      - name: commit
        value: "{{{{ inputs.code.version }}}}"
      - name: code
        codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}
"""


@dataclass
class Storm:
    """One storm. `pushes` commits are spread over the codesets, two on each branch; processes die `kills` times."""

    folder: pathlib.Path
    server: postgresql.Server
    seed: int
    pushes: int
    kills: int
    limit: float
    commits: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        self.chance = random.Random(self.seed)
        self.store = database.Database(self.server.fresh())
        self.store.migrate()
        self.webhooks = gitea.Receiver()
        self.delivered, self.lost, self.killed = 0, 0, 0
        self.failures: list[Exception] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", flush=True)

    def prove(self) -> None:
        """Raises AssertionError with the violation."""
        self.say(
            f"seed {self.seed}: {self.pushes} pushes to {len(CODESETS)} codesets with {len(WORKFLOWS)} assignments, {self.kills} kills"
        )
        with self.cluster() as (cluster, queue, running):
            self.say(f"{len(running.all)} processes answer")
            remotes = self.prepare(running)
            jobs = [
                *(lambda codeset=codeset: self.push(codeset, remotes[codeset]) for codeset in CODESETS),
                lambda: self.send_webhook(running),
                lambda: self.break_things(running),
            ]
            stopping = threading.Event()
            ticker = threading.Thread(target=self.tick, args=(queue, stopping))
            workers = [threading.Thread(target=self.attempt, args=(job,)) for job in jobs]
            for worker in (ticker, *workers):
                worker.start()
            try:
                for worker in workers:
                    worker.join()
                assert not self.failures, self.failures
                self.say(
                    f"{self.delivered} webhooks delivered, {self.lost} pushes without one, {self.killed} processes killed; {self.facts(queue)}"
                )
                while not self.at_rest(queue):
                    self.in_time(f"everything to come to its end: {self.facts(queue)}")
                    time.sleep(0.2)
            finally:
                stopping.set()
                ticker.join()
            asked = Counter(f"{method} {path.split('/')[-1 if method == 'POST' else -2]}" for method, path, _ in cluster.requests)
            self.say(f"at rest; the cluster was asked {dict(asked)}")
            self.check(cluster, queue, running)
        self.store.close()
        self.say(
            "exactly one run for each commit and assignment, one PipelineRun for each run, all finished, ledger complete, no dead letter"
        )

    def attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self.failures.append(error)

    @contextlib.contextmanager
    def cluster(self) -> Iterator[tuple[kubernetes_api.Api, brokers.Queue, pods.Pods]]:
        """Git host, Kubernetes, broker, Tekton, and the functions."""
        api = kubernetes_api.Api()
        with contextlib.ExitStack() as stack:
            host = stack.enter_context(gitea.fake_gitea(self.folder / "gitea"))
            webhooks = stack.enter_context(gitea.listening(self.webhooks))
            kubernetes = stack.enter_context(kubernetes_api.serving(api))
            queue = brokers.Queue(self.folder, chaos.Chaos(seed=self.seed, duplicate=0.4, reorder=0.5, delay=0.1))
            sink = stack.enter_context(gitea.listening(queue.take))
            key = secrets.new_key()
            self.signer = signing.Signer(secrets.Keyring([key]).event_keys)
            environment = {
                "FUSEML_DATABASE_URL": self.store.url,
                "FUSEML_SECRET_KEYS": key,
                "FUSEML_EVENT_KEYS": ",".join(secrets.Keyring([key]).event_keys()),
                "FUSEML_TOKEN_HASHES": f"admin:{hashlib.sha256(TOKEN.encode()).hexdigest()}",
                "FUSEML_PUBLIC_URL": f"http://127.0.0.1:{webhooks.port}",
                "FUSEML_GIT_URL": host.url,
                "FUSEML_GIT_TOKEN": gitea.TOKEN,
                "K_SINK": f"http://127.0.0.1:{sink.port}/",
                "KUBECONFIG": str(tekton.kubeconfig(self.folder, kubernetes)),
            }
            queue.pods = stack.enter_context(pods.running(FUNCTIONS, 2, environment, self.folder / "logs"))
            stack.enter_context(queue.running())
            chance = random.Random(self.seed)
            stack.enter_context(tekton.Controller(api, queue.broker.publish, chance=chance, lost=0.1, repeated=0.3))
            yield api, queue, queue.pods

    def prepare(self, running: pods.Pods) -> dict[str, str]:
        """Register codesets and workflows through the API, and make the commits. Returns the remote of each codeset."""
        remotes = {}
        for workflow in WORKFLOWS:
            request(running, "workflows", "POST", "/workflows", WORKFLOW.format(name=workflow).encode())
        for number, codeset in enumerate(CODESETS):
            registered = request(running, "codesets", "POST", f"/codesets?project=p&name={codeset}")
            for workflow in WORKFLOWS:
                request(running, "workflows", "POST", f"/workflows/assignments?name={workflow}&codesetProject=p&codesetName={codeset}")
            scheme, rest = registered["codeset"]["url"].split("://")
            remotes[codeset] = f"{scheme}://{registered['username']}:{registered['password']}@{rest}"
            self.commits[codeset] = githost.history(self.folder / codeset, len(range(number, self.pushes, len(CODESETS))), self.seed)
        return remotes

    def push(self, codeset: str, remote: str) -> None:
        for number, commit in enumerate(self.commits[codeset]):
            githost.git("push", "--quiet", remote, f"{commit}:refs/heads/work-{number // 2}", cwd=self.folder / codeset)

    def send_webhook(self, running: pods.Pods) -> None:
        """Send the webhooks in random order. Some webhooks of newest commits get lost: the git host still has those commits.

        Gitea keeps no record of an overtaken commit, so its webhook is sent until it is accepted.
        """
        newest = {
            commits[number]
            for commits in self.commits.values()
            for number in range(len(commits))
            if number % 2 or number + 1 == len(commits)
        }
        seen, waiting, dropped = 0, list[tuple[Mapping[str, str], bytes]](), set[str]()
        while seen < self.pushes or waiting:
            self.in_time("the webhooks to be taken")
            arrived, self.webhooks.deliveries[:] = list(self.webhooks.deliveries), []
            for headers, body in arrived:
                if headers["X-Gitea-Event"] != "push":
                    continue
                seen += 1
                commit = json.loads(body)["after"]
                if commit in newest and (not dropped or self.chance.random() < 0.25):
                    dropped.add(commit)
                else:
                    waiting += [(headers, body)] * self.chance.randint(1, 3)
            if not waiting:
                time.sleep(0.02)
                continue
            headers, body = waiting.pop(self.chance.randrange(len(waiting)))
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if running.send("gitea_ingress", "POST", "/webhooks/gitea?key=1", body, headers).status == 202:
                    self.delivered += 1
                    continue
            waiting.append((headers, body))
            time.sleep(0.05)
        self.lost = len(dropped)

    def break_things(self, running: pods.Pods) -> None:
        """Kill processes at random, start them again, and stop the database once."""
        for number in range(self.kills):
            time.sleep(self.chance.uniform(0.2, 1.0))
            if number == self.kills // 2:
                self.server.stop()
                time.sleep(self.chance.uniform(0.2, 1.0))
                self.server.start()
                self.say("the database was restarted")
            pod = self.chance.choice(running.all)
            pod.kill()
            self.killed += 1
            time.sleep(self.chance.uniform(0, 0.5))
            pod.start()

    def tick(self, queue: brokers.Queue, stopping: threading.Event) -> None:
        """The work of the PingSource."""
        while not stopping.wait(_TICK_SECONDS):
            tick = events.Event(events.TICK, "/apis/v1/namespaces/fuseml/pingsources/housekeeper", str(uuid.uuid4()), None, clock.now(), {})
            # An unsigned one is ignored soon after a sweep.
            queue.broker.publish(self.signer.sign(tick))

    def in_time(self, goal: str) -> None:
        assert not self.failures, self.failures
        assert time.monotonic() - self.begun < self.limit, f"waited {self.limit} s for {goal}"

    def facts(self, queue: brokers.Queue) -> dict[str, Any]:
        """The progress, for messages."""
        with self.store.read() as session:
            states = session.exec(sqlmodel.select(run_rows.Run.state, sqlmodel.func.count()).group_by(run_rows.Run.state)).all()
            outbox = session.exec(sqlmodel.select(sqlmodel.func.count()).select_from(outbox_rows.Outbox)).one()
        return {"runs": dict(states), "outbox": outbox, **queue.facts()}

    def at_rest(self, queue: brokers.Queue) -> bool:
        facts = self.facts(queue)
        finished = facts["runs"].get("succeeded", 0)
        ended = finished >= self.pushes * len(WORKFLOWS) and finished == sum(facts["runs"].values())
        return ended and not facts["pending"] and not facts["outbox"]

    def check(self, cluster: kubernetes_api.Api, queue: brokers.Queue, running: pods.Pods) -> None:
        """Each effect happened once, and the ledger has every event."""
        commits = {(codeset, commit) for codeset, made in self.commits.items() for commit in made}
        with self.store.read() as session:
            runs = session.exec(sqlmodel.select(run_rows.Run)).all()
            ledger = session.exec(sqlmodel.select(ledger_rows.LedgerEvent)).all()
            dead = deliveries.count(session, "dead")
        wanted = {(codeset, commit, workflow) for codeset, commit in commits for workflow in WORKFLOWS}
        made = Counter((row.codeset, row.commit, row.workflow) for row in runs)
        assert set(made) == wanted, f"{len(wanted - set(made))} runs are missing, {len(set(made) - wanted)} have no cause"
        assert set(made.values()) == {1}, f"{sum(count > 1 for count in made.values())} were run more than once"
        assert len({row.trigger["assignment"] for row in runs}) == len(CODESETS) * len(WORKFLOWS)
        assert {row.state for row in runs} == {"succeeded"}
        executed = Counter(found["metadata"]["labels"][RUN_LABEL] for found in cluster.all("pipelineruns"))
        assert executed == Counter(row.id for row in runs), "there is not one PipelineRun for each run"
        counts = Counter(row.type for row in ledger)
        assert counts[events.CodesetPushed.TYPE] == len(commits)
        for type in (events.RunCreated.TYPE, events.RunFinished.TYPE):
            subjects = Counter(row.subject for row in ledger if row.type == type)
            assert subjects == Counter(row.name for row in runs), f"{type} is not in the ledger once for each run"
        assert counts[events.ArtifactRecorded.TYPE] == len(commits)
        assert queue.facts()["dead"] == dead == 0
        for pod in running.of["runs"]:
            pod.wait()
            answer = pod.send("GET", "/runs?limit=500", headers=AUTHORIZED)
            assert {(shown["name"], shown["state"]) for shown in json.loads(answer.body)} == {(row.name, "succeeded") for row in runs}


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}", catalog.CLIENT: "tests"}


def request(running: pods.Pods, function: str, method: str, path: str, body: bytes = b"") -> Any:
    answer = running.send(function, method, path, body, {**AUTHORIZED, "Content-Type": "application/x-yaml"} if body else AUTHORIZED)
    assert answer.status in (200, 201), answer
    return json.loads(answer.body) if answer.body else None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pushes", type=int, default=40)
    options.add_argument("--kills", type=int, default=8)
    options.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options.add_argument("--limit", type=float, default=900, help="seconds after which it has failed")
    given = options.parse_args()
    bin = postgresql.programs()
    if bin is None:
        raise SystemExit("needs PostgreSQL's server programs, such as Debian's package postgresql")
    server = postgresql.Server(bin)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            Storm(pathlib.Path(folder), server, given.seed, given.pushes, given.kills, given.limit).prove()
    finally:
        server.close()


if __name__ == "__main__":
    main()
