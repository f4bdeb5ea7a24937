"""What an answer says of a batch: a status and some bytes in, one of five outcomes out. Pure, and trusts nothing.

`accepted`: a receipt for this batch, or from an address that never gave receipts a status up to 206. `refused`: these
bytes will never be accepted. `reused`: another batch has this id. `unsigned`: it needs another signature. `unknown`:
everything else, and the batch is kept. Of a receipt only the fields in RECEIPT_FIELDS are kept, shortened.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

SUCCESS = range(200, 207)
"""Penpot's own notion: 206 or below."""

RETRIED = frozenset({429, 502, 503, 504})

UNKNOWN_SENDER = frozenset({401, 407})

NOT_FOR_GOOD = frozenset({408, 425, 429}) | UNKNOWN_SENDER
"""The 4xx that are about the moment or the credentials, not about the batch: the batch is kept."""

OF_THE_SENDER: Mapping[str, str] = {
    "bad-signature": "the receiver expects another signature: check PENPOT_TELEMETRY_SIGNING_KEY_FILE, or ask its "
    "operator to unpin the key",
    "wrong-digest": "the batch was damaged between here and the receiver",
}
"""Reasons of a receiver that are not about the rows, and what to do."""

RECEIPT_FIELDS = ("status", "batch-id", "events", "dead-letters", "digest", "duplicate-of", "reason")

FIELD_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch. `receipt` is what to keep; `reason` is for a person and safe to show."""

    outcome: Literal["accepted", "refused", "reused", "unsigned", "unknown"]
    reason: str
    receipt: Mapping[str, object]

    @property
    def is_receipt(self) -> bool:
        """Whether the answer names the batch: then it comes from a receiver that keeps a ledger."""
        return "batch-id" in self.receipt

    @property
    def duplicate_of(self) -> UUID | None:
        """The refused batch that this one is a part of, when it arrived after all."""
        return read_duplicate_of(self.receipt)


def read_duplicate_of(receipt: Mapping[str, object]) -> UUID | None:
    """The refused batch that arrived after all and holds these events already, by a receipt; None without one."""
    named = receipt.get("duplicate-of")
    with suppress(ValueError):
        return UUID(named) if isinstance(named, str) else None
    return None


@dataclass(frozen=True, slots=True)
class OutgoingBody:
    """A body to be sent: what the receipt of a batch must name, and whether only a receipt counts."""

    body: bytes
    batch_id: UUID | None = None
    digest: str | None = None
    needs_receipt: bool = False


def judge(status: int, content: bytes, url: str, sent: OutgoingBody) -> Answer:
    """What a status and the bytes that came with it say about a batch."""
    receipt = _read_receipt(content)
    kept = {**receipt, "http-status": status} if receipt else {"status": status}
    detail = f": {receipt['reason']}" if "reason" in receipt else ""
    reason = f"{url} answered {status}{detail}"
    if status in SUCCESS:
        return _judge_receipt(receipt, Answer("accepted", reason, kept), url, sent)
    if 300 <= status < 400:  # noqa: PLR2004
        return unknown(
            f"{url} answered {status}, a redirect, and batches are not sent elsewhere: set the final address"
        )
    if 400 <= status < 500 and status not in NOT_FOR_GOOD:  # noqa: PLR2004
        return Answer("refused", reason, kept)
    return unknown(f"{reason}{explain_status(status)}")


def _judge_receipt(receipt: Mapping[str, object], accepted: Answer, url: str, sent: OutgoingBody) -> Answer:
    """A success, checked: a receipt must name this batch, and say that it is loaded."""
    names_batch = sent.batch_id is not None and ("batch-id" in receipt or "digest" in receipt)
    named = (receipt.get("batch-id", str(sent.batch_id)), receipt.get("digest", sent.digest))
    if names_batch and named != (str(sent.batch_id), sent.digest):
        return unknown(f"{url} gave a receipt for another batch: look for a cache between here and the receiver")
    if receipt.get("status") == "quarantined" and ("batch-id" in receipt or not sent.needs_receipt):
        reason = str(receipt.get("reason", "no reason given"))
        if reason in OF_THE_SENDER:
            said = f"{url} put the batch into quarantine ({reason}): {OF_THE_SENDER[reason]}"
            return Answer("unsigned", said, accepted.receipt) if reason == "bad-signature" else unknown(said)
        outcome: Literal["reused", "refused"] = "reused" if reason == "id-reused" else "refused"
        return replace(accepted, outcome=outcome, reason=f"{url} put the batch into quarantine: {reason}")
    if names_batch and receipt.get("status") not in {"accepted", "duplicate"}:
        return unknown(f"{url} gave a receipt that does not say that the batch is loaded")
    if sent.needs_receipt and not {"batch-id", "digest", "status"} <= receipt.keys():
        return unknown(
            f"{accepted.reason} and gave no receipt, which is needed: check that the address is still the receiver "
            "(if it was replaced by one that gives no receipts, set PENPOT_TELEMETRY_RECEIPTS=optional)"
        )
    return accepted


def explain_status(status: int) -> str:
    return (
        ": the receiver needs a token, or another one: see PENPOT_TELEMETRY_TOKEN" if status in UNKNOWN_SENDER else ""
    )


def unknown(reason: str) -> Answer:
    return Answer("unknown", reason, {})


def _read_receipt(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: make_plain(document[name]) for name in RECEIPT_FIELDS if isinstance(document.get(name), str | int)}


def make_plain(value: str | int) -> str | int:
    """A value that a ledger can hold and a terminal can show: no control characters, no lone surrogates, no length."""
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:FIELD_LENGTH] if abs(value) < 2**200 else "?"
    return "".join(c for c in value[:FIELD_LENGTH] if c.isprintable())
