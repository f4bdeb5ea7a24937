"""Who vouches for a batch: an Ed25519 signature over a plain text that says all a batch means.

The statement begins with a line that no other protocol signs, and has one line for each field, so that two batches
which mean different things never share one. The events enter it by their digest: a signature is checked before a byte
of them is decoded. `cryptography` is imported when it is first needed: who does not sign does not need it.
"""

from dataclasses import replace

from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire.payload import EventsBatch, Signature, Totals, digest_events

CONTEXT = "penpot-telemetry batch v1"


def state_batch(batch: EventsBatch, digest: str) -> bytes:
    """What is signed; `digest` is of the events as they are, not as the batch says. An absent field is an empty one.

    `supersedes` has a line only where it names a batch. The version comes last, because it alone may hold anything.

    >>> from uuid import UUID
    >>> batch = EventsBatch("2.18.0", UUID(int=1), "AA", UUID(int=2), 3, 4, totals=Totals(9, 5, 0, 0, 4))
    >>> print(state_batch(batch, digest_events("AA")).decode(), end="")
    penpot-telemetry batch v1
    instance-id 00000000-0000-0000-0000-000000000001
    batch-id 00000000-0000-0000-0000-000000000002
    batch-seq 3
    event-count 4
    digest sha256:58bb119c35513a451d24dc20ef0e9031ec85b35bfc919d263e7e5d9868909cb5
    totals 9 5 0 0 4
    version 2.18.0
    """
    lines = (
        CONTEXT,
        f"instance-id {batch.instance_id}",
        f"batch-id {_text(batch.batch_id)}",
        f"batch-seq {_text(batch.batch_seq)}",
        f"event-count {_text(batch.event_count)}",
        f"digest {digest}",
        f"totals {_account(batch.totals)}",
        *([f"supersedes {' '.join(map(str, batch.supersedes))}"] if batch.supersedes else ()),
        f"version {batch.version}",
    )
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _account(totals: Totals | None) -> str:
    if totals is None:
        return ""
    return f"{totals.recorded} {totals.shipped} {totals.dropped} {totals.quarantined} {totals.pending}"


def sign_batch(batch: EventsBatch, key: bytes) -> EventsBatch:
    """The batch with the signature of a private key of 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  see above

    private = Ed25519PrivateKey.from_private_bytes(key)
    value = private.sign(state_batch(batch, digest_events(batch.events)))
    return replace(batch, signature=Signature(private.public_key().public_bytes_raw(), value))


def vouches(signature: Signature, batch: EventsBatch, digest: str) -> bool:
    """Whether a signature is one of its key for this batch, whose events have this digest."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  see above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(signature.key).verify(signature.value, state_batch(batch, digest))
    except InvalidSignature:
        return False
    return True


# -- keys ------------------------------------------------------------------------------------------------------------


def make_key() -> bytes:
    """A new private key, as the text of its file: PEM, PKCS8, not encrypted. Raises ConfigError without the library."""
    _require_library()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  see above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(text: bytes) -> bytes:
    """The private key of 32 bytes in the text of its file.

    Raises ConfigError without the library, and ValueError, which says what is there instead.
    """
    _require_library()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  see above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        found = load_pem_private_key(text, password=None)
    except TypeError:
        raise ValueError("a key with a passphrase, which nobody is there to type") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise ValueError("a key of another kind than Ed25519")
    return found.private_bytes_raw()


def public_half(key: bytes) -> bytes:
    """The public key of 32 bytes that belongs to a private one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  see above

    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415  see above
    except ImportError:
        raise ConfigError("signing needs the library cryptography: pip install 'penpot-telemetry[signing]'") from None
