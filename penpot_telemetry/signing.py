"""The signature of a batch: added when it is made, and replaced when another key was set since."""

from dataclasses import replace

from penpot_telemetry import outbox
from penpot_telemetry.config import Settings
from penpot_telemetry.lease import Lease
from penpot_telemetry.outbox import OutboxBatch
from penpot_telemetry.wire import payload, signature


def sign(envelope: payload.EventsBatch, settings: Settings) -> payload.EventsBatch:
    """The batch with the signature of this sender's key, if it has one."""
    return envelope if settings.signing_key is None else signature.sign_batch(envelope, settings.signing_key)


def sign_again(held: Lease, batch: OutboxBatch, settings: Settings) -> bool:
    """Signs the outbox batch with the key that is set now, if it was signed with another one or with none.

    It stays the same batch, with its id. False where nothing changes.
    """
    sent = payload.parse(batch.body)
    assert isinstance(sent, payload.EventsBatch)  # noqa: S101  made by us
    key = None if settings.signing_key is None else signature.public_half(settings.signing_key)
    if key == (sent.signature.key if sent.signature else None):
        return False
    body = payload.build_events(sign(replace(sent, signature=None), settings))
    held.step(lambda: outbox.replace_body(held.conn, batch.batch_id, body))
    return True
