"""A POST body in; out comes a batch that may be loaded, a scrubbed report, or a rejection with a typed reason.

Pure: no I/O, no clock, and no exception for a body that is bad. What leaves here holds nothing that the anonymiser
would have removed; only a rejection still has the raw body beside it.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import msgspec

from penpot_telemetry.errors import DecodeError, Reason
from penpot_telemetry.wire import payload, signature
from penpot_telemetry.wire.limits import RECEIPT, Limits
from receiver.frames import Page, decode_page

BIGINT = 2**63 - 1
VERSION = re.compile(r"[\w.+-]{1,128}", re.ASCII)

FIGURE = re.compile(r"(total|avg|max|min|num|jvm)-[a-z0-9-]{1,64}")
"""The stats of a legacy report that are kept when they are numbers: sizes of the instance and of its JVM."""

TEXT = re.compile(r"[\w .+-]{1,64}", re.ASCII)
TEXT_STATS = frozenset({"os-name", "os-arch", "os-version"})


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that can be loaded: what it said of itself, and its events. If it is signed, then rightly."""

    sent: payload.EventsBatch
    digest: str
    page: Page

    @property
    def signed_by(self) -> str | None:
        """The public key whose signature came with it, in base64."""
        return None if self.sent.signature is None else b64encode(self.sent.signature.key).decode()


@dataclass(frozen=True, slots=True)
class Report:
    """A legacy report, scrubbed. `dropped_stats` counts the stats that were not kept."""

    instance_id: UUID
    version: str
    stats: Mapping[str, int | float | str]
    dropped_stats: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a body can never be loaded. `message` says where and what, and carries no value from the body.

    `sent` and `digest` (of its events text) are there when the body could be read that far. Not kept is a body that
    was understood and holds what is never kept.
    """

    reason: Reason
    message: str
    sent: payload.EventsBatch | None = None
    digest: str | None = None
    is_kept: bool = True


UNSIGNED_REPORT = Rejection("bad-signature", "a legacy report, which is never signed", is_kept=False)


class _Sender(msgspec.Struct, rename="kebab"):
    instance_id: UUID


def read_instance(body: bytes) -> UUID | None:
    """Who a body says it is from, for a glance before the work: a tenth of a millisecond. None when it does not say."""
    try:
        return _sender.decode(body).instance_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_body(body: bytes, limits: Limits = RECEIPT, *, require_signature: bool = False) -> Batch | Report | Rejection:
    """A body as what it is; whatever the bytes are, there is an answer."""
    try:
        parsed = payload.parse(body, limits)
    except DecodeError as error:
        return Rejection(error.reason, str(error))
    if isinstance(parsed, payload.LegacyReport):
        return UNSIGNED_REPORT if require_signature else read_report(parsed)
    return read_batch(parsed, limits, require_signature=require_signature)


def read_batch(sent: payload.EventsBatch, limits: Limits, *, require_signature: bool = False) -> Batch | Rejection:
    """The envelope against its content: the digest and the signature before a byte is decoded, the count after."""
    digest = payload.digest_events(sent.events)
    fault = envelope_fault(sent)
    if fault is not None:
        return Rejection("wrong-shape", fault)
    if sent.digest is not None and sent.digest != digest:
        return Rejection("wrong-digest", "the digest given is not the one of the events text", sent, digest)
    fault = signature_fault(sent, digest, require_signature=require_signature)
    if fault is not None:
        return Rejection("bad-signature", fault, sent, digest)
    try:
        page = decode_page(sent.events, limits)
    except DecodeError as error:
        return Rejection(error.reason, str(error), sent, digest)
    count = page.frame.height
    if sent.event_count is not None and sent.event_count != count:
        return Rejection("wrong-shape", f"event-count is not the number of events found, {count}", sent, digest)
    return Batch(sent, digest, page)


def envelope_fault(sent: payload.EventsBatch) -> str | None:
    """What is wrong with the fields around the events, or None."""
    if VERSION.fullmatch(sent.version) is None:
        return "version is not a version: 1 to 128 letters, digits and . _ + -"
    numbers = {"batch-seq": sent.batch_seq, "event-count": sent.event_count}
    if sent.totals is not None:
        numbers |= {
            "totals.recorded": sent.totals.recorded,
            "totals.shipped": sent.totals.shipped,
            "totals.dropped": sent.totals.dropped,
            "totals.quarantined": sent.totals.quarantined,
            "totals.pending": sent.totals.pending,
        }
    for field, number in numbers.items():
        if number is not None and not 0 <= number <= BIGINT:
            return f"{field} is not between 0 and 2^63 - 1"
    return None


def signature_fault(sent: payload.EventsBatch, digest: str, *, require_signature: bool) -> str | None:
    """What is wrong with the signature of a batch whose events have this digest, or None."""
    if sent.signature is None:
        return "not signed, and this receiver requires it" if require_signature else None
    if not signature.vouches(sent.signature, sent, digest):
        return "the signature is not one of its key for this batch"
    return None


def read_report(report: payload.LegacyReport) -> Report | Rejection:
    """A legacy report without e-mails, subscriptions, addresses and e-mail domains: an allow-list, as for contexts."""
    if VERSION.fullmatch(report.version) is None:
        return Rejection("wrong-shape", "version is not a version: 1 to 128 letters, digits and . _ + -")
    stats = {key: kept for key, value in report.stats.items() if (kept := safe_stat(key, value)) is not None}
    return Report(report.instance_id, report.version, stats, len(report.stats) - len(stats))


def safe_stat(key: str, value: object) -> int | float | str | None:
    """The value of one stat when it may be kept: a figure under a figure's name, a plain word under three others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) and FIGURE.fullmatch(key) and abs(value) <= BIGINT:
        return value
    if isinstance(value, str) and key in TEXT_STATS and TEXT.fullmatch(value):
        return value
    return None


def canonical_stats(report: Report) -> bytes:
    """The stats as JSON text with sorted keys: the same stats, the same bytes."""
    return msgspec.json.encode(dict(report.stats), order="sorted")


_sender = msgspec.json.Decoder(_Sender)
