"""The keys of events in tests: `SIGNER` stands for FuseML, `FORGER` has keys of its own."""

from __future__ import annotations

from fuseml.domain import events
from fuseml.runtime import cloudevents, secrets, signing

KEYS = secrets.Keyring([secrets.new_key()]).event_keys()
SIGNER = signing.Signer(lambda: KEYS)
_OTHERS = secrets.Keyring([secrets.new_key()]).event_keys()
FORGER = signing.Signer(lambda: _OTHERS)

FORGED = {
    "ce-specversion": "1.0",
    "ce-type": "org.fuseml.run.step_finished.v1",
    "ce-source": "/x",
    "ce-id": "forged",
    "Content-Type": "application/json",
}
"""Headers of an event without a signature."""


def encode(event: events.Event, signer: signing.Signer = SIGNER) -> tuple[dict[str, str], bytes]:
    """Headers and body of the event with a signature."""
    return cloudevents.encode(signer.sign(event))
