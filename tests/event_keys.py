"""The keys of events in tests: `SIGNER` stands for FuseML, `FORGER` has keys of its own."""

from __future__ import annotations

from fuseml.domain import events
from fuseml.runtime import cloudevents, secrets, signing

KEYS = secrets.Keyring([secrets.new_key()]).event_keys()
SIGNER = signing.Signer(lambda: KEYS)
_OTHERS = secrets.Keyring([secrets.new_key()]).event_keys()
FORGER = signing.Signer(lambda: _OTHERS)


def encode(event: events.Event, signer: signing.Signer = SIGNER) -> tuple[dict[str, str], bytes]:
    """Headers and body of the event with a signature."""
    return cloudevents.encode(signer.sign(event))
