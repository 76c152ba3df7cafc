"""Fault injection: Knative, Tekton and the senders of webhooks may lose, repeat, delay and reorder events; here they do, at given rates.

It serves tests, and people who want to see that no event gets lost and none has two effects. Events that the broker accepted are still
delivered at least once: `drop` takes webhooks and the engine's events before that. Each decision follows from the seed and the event,
not from the order of threads; the same seed does the same to the same events.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug import wrappers

from fuseml.domain import errors, events

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("fuseml.chaos")

_DEFAULTS = {"duplicate": 0.5, "reorder": 0.5, "drop": 0.1, "delay": 0.1}
_MOST_COPIES = 3
_REORDER_SECONDS, _DELAY_SECONDS = 0.3, 3.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Chaos:
    """The share of events, from 0 to 1, that each kind of fault affects."""

    seed: int = 0
    duplicate: float = 0.0
    reorder: float = 0.0
    drop: float = 0.0
    delay: float = 0.0

    def delay_of(self, *about: str) -> float:
        """Seconds by which the event is delayed, so that others overtake it."""
        seconds = 0.0
        if self._affects("reorder", *about):
            seconds += _REORDER_SECONDS * self._chance("by", *about)
        if self._affects("delay", *about):
            seconds += _DELAY_SECONDS * self._chance("for", *about)
        return seconds

    def copies(self, *about: str) -> int:
        """The number of additional deliveries of the event."""
        return 1 + int(_MOST_COPIES * self._chance("copies", *about)) if self._affects("duplicate", *about) else 0

    def lost(self, *about: str) -> bool:
        """Whether the event is lost."""
        return self._affects("drop", *about)

    def source(self, publish: Callable[[events.Event], None]) -> Callable[[events.Event], None]:
        """A source that loses and repeats events; a repeated one has an id of its own, as Tekton's have."""

        def faulty(event: events.Event) -> None:
            if self.lost(event.source, event.id):
                _log.warning("event %s of type %s was lost on purpose", event.id, event.type)
                return
            publish(event)
            for copy in range(self.copies(event.source, event.id)):
                publish(dataclasses.replace(event, id=f"{event.id}/copy-{copy + 1}"))

        return faulty if self.drop or self.duplicate else publish

    def webhooks(self, application: WSGIApplication) -> WSGIApplication:
        """An ingress whose senders lose, repeat and shuffle webhooks."""
        return application if self == dataclasses.replace(NONE, seed=self.seed) else _Webhooks(self, application)

    def _affects(self, fault: str, *about: str) -> bool:
        rate: float = getattr(self, fault)
        return rate > 0 and self._chance(fault, *about) < rate

    def _chance(self, *about: str) -> float:
        digest = hashlib.blake2b(json.dumps([self.seed, *about]).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def __str__(self) -> str:
        rates = [f"{name}={getattr(self, name):g}" for name in _DEFAULTS if getattr(self, name)]
        return ",".join([*rates, f"seed={self.seed}"])


NONE = Chaos()
"""No faults."""


class _Webhooks:
    """Lost and late posts are answered as accepted: the sender has a queue of its own and does not send them again.

    Late posts are in memory only, so a crash loses them, as it does in the queue of a git host.
    """

    def __init__(self, chaos: Chaos, application: WSGIApplication) -> None:
        self._chaos, self._application = chaos, application
        self._seen: collections.Counter[str] = collections.Counter()
        self._counting = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = wrappers.Request(environ, populate_request=False)
        if request.method != "POST":
            return self._application(environ, start_response)
        body = request.get_data()
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        with self._counting:
            if len(self._seen) > _REMEMBERED:
                self._seen.clear()
            self._seen[digest] += 1
            about = (request.path, digest, str(self._seen[digest]))
        if self._chaos.lost(*about):
            _log.warning("a webhook to %s was lost on purpose", request.path)
            return self._accepted("lost")(environ, start_response)

        def deliver() -> wrappers.Response:
            repeated = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            return wrappers.Response.from_app(self._application, repeated, buffered=True)

        response = self._accepted("late")
        for copy in range(1 + self._chaos.copies(*about)):
            seconds = self._chaos.delay_of(*about, str(copy))
            if seconds:
                timer = threading.Timer(seconds, deliver)
                timer.daemon = True
                timer.start()
            else:
                response = deliver()
        return response(environ, start_response)

    def _accepted(self, fault: str) -> wrappers.Response:
        body = {"ignored": f"{fault} on purpose: this server runs with --chaos {self._chaos}"}
        return wrappers.Response(json.dumps(body), 202, content_type="application/json")


def parse(text: str) -> Chaos:
    """Chaos from `duplicate,reorder,drop=0.2,delay,seed=N`: each kind with its share, or the default one. Raises InvalidError."""
    values: dict[str, float | int] = {"seed": secrets.randbelow(1_000_000)}
    for item in text.split(","):
        name, separator, value = item.strip().partition("=")
        if name not in (*_DEFAULTS, "seed"):
            raise errors.InvalidError(
                f"--chaos has no kind {name!r}; use {', '.join(_DEFAULTS)}, each with a share such as drop=0.1, and seed=N"
            )
        try:
            values[name] = int(value) if name == "seed" else float(value) if separator else _DEFAULTS[name]
        except ValueError as error:
            raise errors.InvalidError(
                f"--chaos {name}={value}: {'a whole number' if name == 'seed' else 'a share from 0 to 1'} is needed"
            ) from error
        if name != "seed" and not 0 <= values[name] <= 1:
            raise errors.InvalidError(f"--chaos {name}={value}: a share is from 0 to 1, for example {name}={_DEFAULTS[name]}")
    return Chaos(**values)  # type: ignore[arg-type]
